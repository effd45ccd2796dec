"""What ``--plan`` tells against what the job then takes, in time and memory, each in a process of its own.

    python benchmarks/memory/plans.py                            # every method and job; about ten minutes on one core
    python benchmarks/memory/plans.py --only fbp tv nerd-fast    # some of them
    python benchmarks/memory/plans.py --slices 48                # of the recon rows

Both are read from the command line's own JSON: ``seconds`` and ``total_bytes`` of ``--plan``, ``seconds`` and
``peak_memory_bytes`` of the run's metrics. A plan is good where its time is within 30 % on a machine at rest, and its
memory at least 85 % of the peak, which includes interpreter and libraries. One row is one ``Case`` of ``CASES``;
another job adds its own: how to make its input, and its command without ``--plan`` or ``--out``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

TOMOCAST = [sys.executable, "-m", "tomocast"]
# One thread: a job that shares the cores with another takes longer than it alone would.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
METHODS = (
    "fbp",
    "cgls",
    "sirt",
    "tv",
    "nerd-fast",
    "nerd-admm",
    "nerd-pdhg",
)


@dataclass(frozen=True)
class Case:
    """One job to plan and to run.

    Attributes:
        name: of the row.
        prepare: makes the input in a folder, once for all cases that share it, and returns its path.
        command: the verb and its options, to be followed by the input.
    """

    name: str
    prepare: Callable[[Path, int], Path]
    command: Sequence[str]


@dataclass(frozen=True)
class Row:
    """Told and taken."""

    name: str
    told_s: float | None
    taken_s: float
    told_bytes: int
    taken_bytes: int

    def text(self) -> str:
        """Return the line of the table."""
        time = "n/a" if self.told_s is None else f"{self.told_s:.1f}"
        share = "n/a" if self.told_s is None else f"{self.told_s / self.taken_s:.2f}"
        told, taken = self.told_bytes / 2**20, self.taken_bytes / 2**20
        memory = f"{told:.0f} | {taken:.0f} | {told / taken:.2f}"
        return f"| {self.name} | {time} | {self.taken_s:.1f} | {share} | {memory} |"


def scan_of(beam: str) -> Callable[[Path, int], Path]:
    """Return what makes a scan of a procedural thorax."""

    def prepare(folder: Path, slices: int) -> Path:
        volume, scan = folder / f"thorax-{slices}.nii.gz", folder / f"{beam}-{slices}.h5"
        if not volume.exists():
            _run("phantom", "--slices", slices, "--grid", 256, "pixel_mm=1.5", "--out", volume)
        if not scan.exists():
            orbit = (
                [] if beam == "parallel" else [f"orbit.name={beam}", "orbit.sod_mm=600", "orbit.sdd_mm=1000"]
            )
            _run("simulate", "scan", volume, "--views", 60, "--grid", 256, *orbit, "--out", scan)
        return scan

    return prepare


CASES = [
    *(Case(f"{name}, parallel", scan_of("parallel"), ("reconstruct", "--method", name)) for name in METHODS),
    *(Case(f"{name}, cone", scan_of("cone"), ("reconstruct", "--method", name)) for name in METHODS[:4]),
]


def measure(case: Case, folder: Path, slices: int) -> Row:
    """Plan a job, run it, and return both."""
    source = case.prepare(folder, slices)
    told = json.loads(_run(*case.command, source, "--plan", "--json"))
    out = folder / case.name.replace(", ", "-")
    taken = json.loads(_run(*case.command, source, "--out", out, "--json"))
    return Row(case.name, told["seconds"], taken["seconds"], told["total_bytes"], taken["peak_memory_bytes"])


def _run(*words: object) -> str:
    done = subprocess.run(
        [*TOMOCAST, *map(str, words)], env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], help="cases whose name begins with one of these")
    parser.add_argument("--slices", type=int, default=24)
    chosen = parser.parse_args()
    print("| job | told s | taken s | ratio | told MiB | taken MiB | ratio |\n|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for case in CASES:
            if not chosen.only or case.name.startswith(tuple(chosen.only)):
                print(measure(case, Path(name), chosen.slices).text(), flush=True)


if __name__ == "__main__":
    main()
