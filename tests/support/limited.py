"""Runs the command line in one fresh process under limits, command after command.

    python -m tests.support.limited ROOM SECONDS < commands.json

ROOM: bytes that may be allocated beyond what the libraries hold once they are imported, 0 for no limit. SECONDS: of
processor time for all commands. Every command is answered by a line of JSON: its status, what went to standard
error, and the processor seconds. A crash of a library ends the process, and thereby the test.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Command:
    """Words after ``tomocast``; the folder to be in; the largest file in bytes that may be written; bytes that may be
    allocated beyond what is held before the command, None for what all commands may.

    A command that warms up is run before the limits are set and not answered: libraries that it loads count for nobody.
    """

    words: list[str]
    cwd: str = "."
    largest: int | None = None
    room: int | None = None
    warms_up: bool = False


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    status: object
    err: str
    seconds: float


def run_limited(commands: Sequence[Command], *, cwd: Path, room: int = 0, seconds: int = 120) -> list[Answer]:
    """Run commands in a process of their own; see the module."""
    # One arena: others take address space, not memory. Where memory is limited, a fixed threshold: arrays freed
    # leave the process at once, instead of staying in a heap whose holes depend on what ran before.
    threads = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    if room:
        threads["MALLOC_MMAP_THRESHOLD_"] = str(2**17)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **threads}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.limited", str(room), str(seconds)],
        input=json.dumps([asdict(command) for command in commands]),
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
    )
    assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-2000:])
    return [Answer(**json.loads(line)) for line in done.stdout.splitlines()]


def main() -> None:
    """Answer the commands on standard input."""
    import recon.run.jobs  # noqa: F401 (the libraries count for themselves)
    from assimilation.run import jobs  # noqa: F401
    from tests.support.command_line import inside

    room, seconds = int(sys.argv[1]), int(sys.argv[2])
    commands = [Command(**each) for each in json.load(sys.stdin)]
    for command in commands:
        if command.warms_up:
            inside(*command.words)
    if room:
        resource.setrlimit(resource.RLIMIT_AS, (held() + room,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + seconds,) * 2)
    unlimited, everything = resource.getrlimit(resource.RLIMIT_FSIZE), resource.getrlimit(resource.RLIMIT_AS)
    for command in commands:
        if command.warms_up:
            continue
        begin = time.process_time()
        os.chdir(command.cwd)
        # Python ignores SIGXFSZ: a write beyond the limit fails with EFBIG as one on a full disk does with ENOSPC.
        resource.setrlimit(resource.RLIMIT_FSIZE, (command.largest or unlimited[0], unlimited[1]))
        if command.room is not None:
            resource.setrlimit(resource.RLIMIT_AS, (held() + command.room, everything[1]))
        try:
            done = inside(*command.words, status=None)
            status, err = done.status, done.stderr
        except Exception as error:
            # What a user would have seen as a traceback.
            status, err = f"{type(error).__name__}", str(error)
        resource.setrlimit(resource.RLIMIT_AS, everything)
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
        answer = {"status": status, "err": err, "seconds": time.process_time() - begin}
        print(json.dumps(answer), flush=True)


def held() -> int:
    """Return the bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main()
