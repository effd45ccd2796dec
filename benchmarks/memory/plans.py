"""What `--plan` states against what the job then takes, in time and memory, each in a process of its own.

    python benchmarks/memory/plans.py                            # every method and job; about half an hour on one core
    python benchmarks/memory/plans.py --only fbp tv nerd-fast    # some of them
    python benchmarks/memory/plans.py --json plans.json          # the rows besides

Both are read from the command line's own JSON: ``seconds`` and ``total_bytes`` of ``--plan``, ``seconds`` and
``peak_memory_bytes`` of the run's metrics. A plan is good where its time is within 30 % on a machine at rest, and its
memory at least 85 % of the peak, which includes interpreter and libraries. One row is one ``Case`` of ``CASES``:
how to make its input, and its command without ``--plan`` or ``--out``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

TOMOCAST = [sys.executable, "-m", "tomocast"]
# One thread: a job that shares the cores with another takes longer than it alone would.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
CLASSIC = ("fbp", "cgls", "sirt", "tv")
NERD = ("nerd-fast", "nerd-thorough", "nerd-admm", "nerd-pdhg")
PEERS = ("dds", "dds-3d", "diffpir", "pnp-hqs", "pnp-admm", "red-diff", "dps", "sitcom", "diffusion-mbir")
# Methods of many calls or gradients through the network: few levels of them show the pace and the peak. What they end
# with is far from the data, and would be refused.
SHORTER = {
    "red-diff": ["method.ladder.levels=40"],
    "dps": ["method.ladder.levels=40"],
    "sitcom": ["method.ladder.levels=4"],
    "diffusion-mbir": ["method.ladder.levels=60"],
}


@dataclass(frozen=True)
class Case:
    """One job to plan and to run.

    Attributes:
        name: of the row.
        prepare: makes the input in a folder, once for all cases that share it, and returns its path.
        command: the verb and its options, to be followed by the input.
        settings: KEY=VALUE words, to follow the input.
    """

    name: str
    prepare: Callable[[Path], Path]
    command: Sequence[str]
    settings: Sequence[str] = ()


@dataclass(frozen=True)
class Row:
    """Stated and taken."""

    name: str
    planned_s: float | None
    taken_s: float
    planned_bytes: int
    taken_bytes: int

    def text(self) -> str:
        """Return the line of the table."""
        time = "n/a" if self.planned_s is None else f"{self.planned_s:.1f}"
        ratio = "n/a" if self.planned_s is None else f"{self.planned_s / self.taken_s:.2f}"
        planned, taken = self.planned_bytes / 2**20, self.taken_bytes / 2**20
        memory = f"{planned:.0f} | {taken:.0f} | {planned / taken:.2f}"
        return f"| {self.name} | {time} | {self.taken_s:.1f} | {ratio} | {memory} |"


def _thorax(folder: Path, *, slices: int, size: int) -> Path:
    """Make a procedural thorax of 384 mm."""
    volume = folder / f"thorax-{slices}-{size}.nii.gz"
    if not volume.exists():
        _run("phantom", "--slices", slices, "--grid", size, f"pixel_mm={384 / size}", "--out", volume)
    return volume


def scan_of(beam: str, *, slices: int, size: int = 256) -> Callable[[Path], Path]:
    """Return what makes a scan of 60 views of a procedural thorax."""

    def prepare(folder: Path) -> Path:
        volume, scan = _thorax(folder, slices=slices, size=size), folder / f"{beam}-{slices}-{size}.h5"
        if not scan.exists():
            orbit = (
                [] if beam == "parallel" else [f"orbit.name={beam}", "orbit.sod_mm=600", "orbit.sdd_mm=1000"]
            )
            _run("simulate", "scan", volume, "--views", 60, "--grid", size, *orbit, "--out", scan)
        return scan

    return prepare


def observed(*, frames: int) -> Callable[[Path], Path]:
    """Return what makes observations of a tenth of the points of simulated turbulence."""

    def prepare(folder: Path) -> Path:
        truth, out = folder / f"truth-{frames}.nc", folder / f"observed-{frames}.nc"
        if not out.exists():
            _run("simulate", "system", "navier-stokes", "--out", truth, "--steps", frames, "--seed", 3)
            _run("observe", truth, "--operator", "points", "--fraction", 0.1, "--sigma", 0.1, "--out", out)
        return out

    return prepare


def truth(*, frames: int) -> Callable[[Path], Path]:
    """Return what makes frames of turbulence to forecast from."""

    def prepare(folder: Path) -> Path:
        observed(frames=frames)(folder)
        return folder / f"truth-{frames}.nc"

    return prepare


def slices_to_train(folder: Path) -> Path:
    """Make the configuration of a training run of slices, from two procedural patients."""
    source, prepared = folder / "patients", folder / "prepared-slices"
    if not prepared.exists():
        source.mkdir()
        for patient in (1, 2):
            volume = source / f"patient-{patient}.nii.gz"
            _run("phantom", "--slices", 24, "--grid", 128, "pixel_mm=3.0", "--seed", patient, "--out", volume)
        words = ("--patients", "files", "--validation", 0.5, "--seed", 1, "--licence", "procedural")
        _run("prepare", "slices", source, *words, "--out", prepared)
    return _template(folder, "slices", prepared)


def trajectories_to_train(folder: Path) -> Path:
    """Make the configuration of a training run of trajectories, from two runs of simulated turbulence."""
    prepared, events = folder / "prepared-trajectories", []
    if not prepared.exists():
        for split, seed in (("train", 1), ("validation", 2)):
            path = folder / f"{split}.nc"
            _run("simulate", "system", "navier-stokes", "--steps", 24, "--seed", seed, "--out", path)
            events.append({"path": str(path), "split": split, "licence": "own"})
        config = folder / "prepare.json"
        # JSON is YAML too.
        config.write_text(json.dumps({"events": events}))
        _run("prepare", "trajectories", config, "--out", prepared)
    return _template(folder, "trajectories", prepared)


def _template(folder: Path, kind: str, prepared: Path) -> Path:
    """Write the template's configuration for prepared data."""
    config = folder / f"train-{kind}.yaml"
    config.write_text(_run("train", "--template", kind, "--data", prepared))
    return config


def _reconstruct(method: str, beam: str, *, slices: int, size: int = 256) -> Case:
    settings = SHORTER.get(method, [])
    command = ("reconstruct", "--method", method, *(("--force",) if settings else ()))
    return Case(f"{method}, {beam}", scan_of(beam, slices=slices, size=size), command, settings)


def _assimilate(members: int, *, lag: str, steps: int) -> Case:
    job = ("assimilate", "--prior", "ns-vorticity-64", "--members", str(members), "--lag", lag)
    return Case(
        f"assimilate, {members} members, lag {lag}", observed(frames=4), (*job, "--steps", str(steps))
    )


TRAIN = ("optimisation.steps=40", "optimisation.warmup=10", "validate_every=20", "save_every=20")
CASES = [
    *(_reconstruct(name, "parallel", slices=24) for name in (*CLASSIC, *NERD)),
    *(_reconstruct(name, "parallel", slices=8) for name in PEERS),
    _reconstruct("exact", "parallel", slices=1, size=32),
    *(_reconstruct(name, "cone", slices=24) for name in (*CLASSIC, "nerd-fast")),
    _assimilate(8, lag="0", steps=6),
    _assimilate(64, lag="0", steps=3),
    _assimilate(8, lag="inf", steps=6),
    Case(
        "forecast, 8 members",
        truth(frames=4),
        ("forecast", "--prior", "ns-vorticity-64", "--frames", "4", "--members", "8", "--steps", "6"),
    ),
    Case("train slices", slices_to_train, ("train",), TRAIN),
    Case("train trajectories", trajectories_to_train, ("train",), TRAIN),
]


def measure(case: Case, folder: Path) -> Row:
    """Plan a job, run it, and return both."""
    job = (*case.command, case.prepare(folder), *case.settings)
    planned = json.loads(_run(*job, "--plan", "--json", "-"))
    out = folder / case.name.replace(", ", "-").replace(" ", "-")
    taken = json.loads(_run(*job, "--out", out, "--json", "-"))
    memory = planned["total_bytes"], taken["peak_memory_bytes"]
    return Row(case.name, planned["seconds"], taken["seconds"], *memory)


def _run(*words: object) -> str:
    done = subprocess.run(
        [*TOMOCAST, *map(str, words)], env=ENVIRONMENT, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, words))}\n{done.stderr[-2000:]}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], help="cases whose name begins with one of these")
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    options = parser.parse_args()
    rows = []
    print(
        "| job | planned s | taken s | ratio | planned MiB | taken MiB | ratio |\n|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as name:
        for case in CASES:
            if not options.only or case.name.startswith(tuple(options.only)):
                rows.append(measure(case, Path(name)))
                print(rows[-1].text(), flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
