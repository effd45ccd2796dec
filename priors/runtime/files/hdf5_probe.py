"""Whether an HDF5 file can be opened without harm, and whether it stays within itself.

The HDF5 library loops for ever or ends the process on some damaged files, which no handler of errors can stop. So
another process goes first (`hdf5_visit`): it visits every object, reads every attribute and the data sets (after the
first 64 MB only their ends), and has to come back within a processor time that grows with the file: waiting for a disk
is no sign of damage. It is started once and forks for every file, which costs milliseconds.

An HDF5 file may say that its data lie in other files: external links, raw storage, virtual data sets. Such a name can
lead to any file of the machine, so it is followed only where the user allows it (`priors.runtime.files.permissions`).
"""

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from priors.runtime.errors import InputError
from priors.runtime.files.permissions import allow_links
from priors.runtime.files.reads import note_read

SECONDS = 2.0
BYTES_PER_SECOND = 1e7
WHOLE = 2**26
"""Bytes up to which data sets are read whole."""
ROOM = 2**30
"""Bytes the child may allocate: a damaged size must not take the machine's memory."""

_process: subprocess.Popen[str] | None = None


def check_hdf5(path: Path) -> None:
    """Check a file before the library opens it in this process.

    Raises:
        InputError: the library does not survive reading it, or it refers to other files without permission.
    """
    state = path.stat()
    sound, outside = _verdict(str(path.resolve()), state.st_size, state.st_mtime_ns)
    if not sound:
        raise InputError(f"{path}: is a damaged HDF5 file, which the HDF5 library does not survive reading")
    if outside:
        shown = ", ".join(outside[:3]) + (f" and {len(outside) - 3} more" if len(outside) > 3 else "")
        allow_links(f"{path}: refers to data in other files ({shown})")
        for name in outside:
            other = path.parent / name
            if other.is_file():
                note_read(other)


def is_sound(path: Path) -> bool:
    """Tell whether the HDF5 library survives reading ``path``."""
    state = path.stat()
    return _verdict(str(path.resolve()), state.st_size, state.st_mtime_ns)[0]


@lru_cache(maxsize=256)
def _verdict(path: str, size: int, changed: int) -> tuple[bool, tuple[str, ...]]:
    """Return whether a file can be read, and the files it refers to."""
    request = {"path": path, "seconds": SECONDS + size / BYTES_PER_SECOND, "room": ROOM, "whole": WHOLE}
    answer = _ask(json.dumps(request))
    return answer["status"] == 0, tuple(answer["outside"])


def _ask(request: str) -> dict[str, Any]:
    for _ in range(2):
        helper = _helper()
        assert helper.stdin is not None
        assert helper.stdout is not None
        try:
            helper.stdin.write(request + "\n")
            helper.stdin.flush()
            line = helper.stdout.readline()
        except OSError:
            line = ""
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        helper.kill()
        helper.wait()
    raise InputError("HDF5: the process that checks files cannot be started; is there enough memory?")


def _helper() -> subprocess.Popen[str]:
    global _process
    if _process is None or _process.poll() is not None:
        # -P: nothing is imported from the folder of the script or the current one.
        script = str(Path(__file__).with_name("hdf5_visit.py"))
        _process = subprocess.Popen(
            [sys.executable, "-P", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
    return _process
