"""Damaged files for every reader: no traceback, no hang over 10 s, no memory over 2 GB.

    python -m benchmarks.fuzz.fuzz --reader all --count 2000 --seed 0

Each case is a valid small file with one to three kinds of damage (flipped bits, truncation, edited bytes, bytes put
in or taken out, numbers in text made absurd, words replaced, lines lost or doubled or left without their value).
Workers are processes of their own: what one does not survive is counted, named by its case and the work goes on. Case i
of seed s is always the same file. Seconds are processor time and memory is resident, those of child processes
included.
"""

import argparse
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

import numpy as np

from benchmarks.fuzz.ct_samples import SAMPLES as CT
from benchmarks.fuzz.ct_samples import Sample
from benchmarks.fuzz.field_samples import SAMPLES as FIELDS
from priors.runtime.errors import InputError

SAMPLES = {**CT, **FIELDS}
SECONDS = 10
BYTES = 2 * 2**30
_ABSURD = (b"-1", b"0", b"99999999999", b"nan", b"1e308", b"", b"x")
_NO_WORD = (b"", b" ", b"0", b"\xff\xfe", b"x" * 300, b"../x", b"None")


class Hang(BaseException):  # not an Exception: a reader that catches everything must not catch it
    """A case took longer than it may."""


@dataclass
class Report:
    """What came of the cases of one reader."""

    reader: str
    cases: int = 0
    outcomes: Counter = field(default_factory=Counter)
    defects: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    peak_bytes: int = 0
    seconds: float = 0.0


def damage(content: bytes, generator: np.random.Generator) -> bytes:
    """Return ``content`` with some damage."""
    for _ in range(generator.integers(1, 4)):
        content = _KINDS[generator.integers(len(_KINDS))](content, generator)
    return content


def _flip(content: bytes, generator: np.random.Generator) -> bytes:
    changed = bytearray(content)
    for at in generator.integers(0, max(len(changed), 1), generator.integers(1, 20)):
        if at < len(changed):
            changed[at] ^= 1 << int(generator.integers(8))
    return bytes(changed)


def _truncate(content: bytes, generator: np.random.Generator) -> bytes:
    return content[: int(generator.integers(0, len(content) + 1))]


def _edit_header(content: bytes, generator: np.random.Generator) -> bytes:
    changed, reach = bytearray(content), len(content) if generator.integers(2) else min(len(content), 1024)
    for _ in range(generator.integers(1, 5)):
        size = int(generator.integers(1, 9))
        at = int(generator.integers(0, max(reach - size, 1)))
        fills = (bytes(size), b"\xff" * size, generator.bytes(size), b"\x7f" + b"\xff" * (size - 1))
        changed[at : at + size] = fills[generator.integers(len(fills))]
    return bytes(changed)


def _shift(content: bytes, generator: np.random.Generator) -> bytes:
    at, size = int(generator.integers(0, len(content) + 1)), int(generator.integers(1, 64))
    if generator.integers(2):
        return content[:at] + content[at + size :]
    return content[:at] + generator.bytes(size) + content[at:]


def _absurd_number(content: bytes, generator: np.random.Generator) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content[:4096]))
    if not found:
        return _flip(content, generator)
    return _replace(content, found[generator.integers(len(found))], _ABSURD, generator)


def _replace_word(content: bytes, generator: np.random.Generator) -> bytes:
    found = list(re.finditer(rb"[A-Za-z][\w.:/-]{2,}", content[:16384]))
    if not found:
        return _flip(content, generator)
    other = found[generator.integers(len(found))].group()
    return _replace(content, found[generator.integers(len(found))], (*_NO_WORD, other), generator)


def _replace(
    content: bytes, place: re.Match[bytes], words: tuple[bytes, ...], generator: np.random.Generator
) -> bytes:
    word, size = words[generator.integers(len(words))], len(place.group())
    # Where lengths are stored beside the text, only a word of the same length is read as one.
    if generator.integers(2):
        word = word[:size].ljust(size)
    return content[: place.start()] + word + content[place.end() :]


def _edit_line(content: bytes, generator: np.random.Generator) -> bytes:
    lines = content.split(b"\n", 200)
    if len(lines) < 3:
        return _replace_word(content, generator)
    at = int(generator.integers(len(lines) - 1))
    name = re.match(rb"[^=:,]*[=:,]?", lines[at])
    assert name is not None
    lines[at : at + 1] = ([], [lines[at]] * 2, [name.group()], [b""])[generator.integers(4)]
    return b"\n".join(lines)


_KINDS = (_flip, _truncate, _edit_header, _edit_header, _shift, _absurd_number, _replace_word, _edit_line)


def run(reader: str, count: int, seed: int) -> Report:
    """Return what became of ``count`` damaged files of a reader."""
    report, start, first = Report(reader), time.perf_counter(), 0
    while first < count:
        first = _worker(report, first, count, seed)
    report.seconds = time.perf_counter() - start
    return report


def _worker(report: Report, first: int, count: int, seed: int) -> int:
    """Run cases in a process until all are done or one ends the process; return the next case."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    arguments = (report.reader, range(first, count), seed, sender)
    process = multiprocessing.get_context("fork").Process(target=_cases, args=arguments)
    process.start()
    sender.close()
    done = first
    for case, outcome, seconds, peak in _messages(receiver):
        done = case + 1
        report.cases += 1
        report.outcomes[outcome.split(":")[0]] += 1
        report.slowest_s, report.peak_bytes = max(report.slowest_s, seconds), max(report.peak_bytes, peak)
        if outcome not in ("read", "refused"):
            report.defects.append(f"case {case}: {outcome}")
    if process.is_alive():
        process.kill()
    process.join()
    # A worker that used too much memory tells its case and leaves by itself.
    if done < count and process.exitcode != 0:
        report.cases += 1
        report.outcomes["died"] += 1
        report.defects.append(f"case {done}: the process ended with {process.exitcode}")
        done += 1
    return done


def _messages(receiver: Connection) -> Iterator[tuple[int, str, float, int]]:
    while receiver.poll(20 * SECONDS):
        try:
            yield receiver.recv()
        except EOFError:
            return


def _cases(reader: str, cases: range, seed: int, sender: Connection) -> None:
    """Send (case, outcome, seconds, peak memory) of every case."""
    warnings.simplefilter("ignore")
    # What compiled decoders print is not ours to judge here.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    # Processor time: on a machine shared with others a second on the wall says little. What waits without working is
    # ended by the parent.
    signal.signal(signal.SIGPROF, _alarm)
    # A reader that asks for more gets MemoryError instead of the machine.
    used = _pages(0)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * BYTES, used + 2 * BYTES))
    with tempfile.TemporaryDirectory() as folder:
        valid = Path(folder) / "valid"
        valid.mkdir()
        # A sample that is refused undamaged would test nothing.
        sound = SAMPLES[reader](valid)
        sound.read(sound.path)
        before = _pages(1)
        for case in cases:
            work = Path(folder) / "work"
            shutil.copytree(valid, work)
            start = _processor_seconds()
            outcome = _outcome(_sample(reader, valid, work), np.random.default_rng([seed, case]))
            seconds = _processor_seconds() - start
            peak = _peak_bytes() - before
            shutil.rmtree(work)
            if seconds > SECONDS:
                outcome = f"hang: {seconds:.1f} s"
            if peak > BYTES:
                outcome = f"memory: {peak / 2**30:.1f} GiB"
            sender.send((case, outcome, seconds, max(peak, 0)))
            if peak > BYTES:
                return
    sender.close()


_KNOWN: dict[str, Sample] = {}


def _sample(reader: str, valid: Path, work: Path) -> Sample:
    """Return the sample of the copy, without writing it again."""
    if reader not in _KNOWN:
        with tempfile.TemporaryDirectory() as folder:
            made = SAMPLES[reader](Path(folder))
            names = [file.relative_to(folder) for file in made.damaged]
            _KNOWN[reader] = Sample(made.read, made.path.relative_to(folder), names)
    known = _KNOWN[reader]
    return Sample(known.read, work / known.path, [work / name for name in known.damaged])


def _outcome(sample: Sample, generator: np.random.Generator) -> str:
    file = sample.damaged[generator.integers(len(sample.damaged))]
    file.write_bytes(damage(file.read_bytes(), generator))
    signal.setitimer(signal.ITIMER_PROF, SECONDS + 1)
    try:
        sample.read(sample.path)
    except InputError:
        return "refused"
    except Hang:
        return f"hang: over {SECONDS} s"
    except BaseException as error:
        return f"traceback: {type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return "read"


def _alarm(number: int, frame: FrameType | None) -> None:
    raise Hang


def _processor_seconds() -> float:
    """Return the processor time of this process and of the children it has waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _peak_bytes() -> int:
    """Return the most resident memory of this process or of a child (which begins with the pages of its parent)."""
    processes = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return 1024 * max(resource.getrusage(process).ru_maxrss for process in processes)


def _pages(column: int) -> int:
    """Return the size (0) or resident memory (1) of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[column]) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reader", default="all", choices=["all", *SAMPLES], nargs="+")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    told = parser.parse_args()
    names = list(SAMPLES) if "all" in told.reader else told.reader
    print(
        f"{'reader':<22}{'cases':>7}{'read':>7}{'refused':>9}{'defects':>9}{'slowest':>9}{'peak':>10}{'seconds':>9}"
    )
    reports = []
    for name in names:
        report = run(name, told.count, told.seed)
        reports.append(report)
        figures = f"{report.cases:>7}{report.outcomes['read']:>7}{report.outcomes['refused']:>9}"
        costs = f"{report.slowest_s:>7.1f} s{report.peak_bytes / 2**20:>6.0f} MiB{report.seconds:>9.0f}"
        print(f"{name:<22}{figures}{len(report.defects):>9}{costs}", flush=True)
        for defect in report.defects[:10]:
            print(f"    {defect}", flush=True)
    if told.json:
        told.json.write_text(json.dumps([vars(report) for report in reports], indent=2))
    sys.exit(1 if any(report.defects for report in reports) else 0)


if __name__ == "__main__":
    main()
