"""Memory and error of one long forecast and one long assimilation, with the cache of finished frames.

    python benchmarks/memory/long_run.py --frames 1000 --json FILE

``tomocast forecast`` draws one member of the prior era5-uk-t2m from 22 March 2019 on; that is the truth of which a
twentieth of the points is observed, and ``tomocast assimilate`` finds it again. Truth and prior are of one kind, so
an error that grows along the run is the method's. Each runs in a process of its own, whose resident memory is read at
every line of progress. The table has a line for every tenth of the run: error, and memory at its end. The slope of a
straight line through the memory of the last three quarters says what a frame keeps; the archives grow on the disk
alone.
"""

import argparse
import re
import subprocess
from pathlib import Path

import numpy as np
import psutil
import torch

from assimilation.fields.fields import Fields
from assimilation.io.archive import read_ensemble
from assimilation.io.observations.files import write_observations
from assimilation.observation.instruments import Points
from assimilation.observation.observing import observe
from benchmarks.support.assimilation_runs import TOMOCAST, report
from benchmarks.support.real_data import real_data
from priors.runtime.run_folder.record import to_json

PARTS = 10
START_UP = 0.25
"""Share of the run whose memory does not count: caches of libraries and of finished frames fill."""


def watched(words: list[object]) -> np.ndarray:
    """Run the command line; return (share of the run done, MB resident), a row for every line of progress."""
    rows = []
    with subprocess.Popen([*TOMOCAST, *map(str, words)], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        memory = psutil.Process(process.pid).memory_info
        for line in process.stderr:
            print(line, end="", flush=True)
            if match := re.match(r"(?:assimilate|forecast) (\d+)/(\d+)", line):
                rows.append((int(match[1]) / int(match[2]), memory().rss / 1e6))
    if process.returncode:
        raise SystemExit(f"tomocast ended with status {process.returncode}")
    return np.array(rows)


def errors(run: Path, truth: Fields) -> np.ndarray:
    """Return the root-mean-square error of the mean of the members, by frame."""
    mean = read_ensemble(run).members[0].mean(axis=0)
    return np.asarray(np.sqrt(np.square(mean - truth.values[0]).mean(axis=(1, 2, 3))))


def lines(drawn: np.ndarray, found: np.ndarray, error: np.ndarray) -> list[str]:
    """Return the table, and the growth of memory per frame."""
    frames = len(error)
    table = ["| frames | forecast, MB | assimilation, MB | RMSE K |", "|---|---|---|---|"]
    for part in range(PARTS):
        first, last = frames * part // PARTS, frames * (part + 1) // PARTS
        megabytes = [run[run[:, 0] <= last / frames][-1, 1] for run in (drawn, found)]
        table.append(
            f"| {first + 1} to {last} | {megabytes[0]:.0f} | {megabytes[1]:.0f} | {error[first:last].mean():.3f} |"
        )
    return [
        *table,
        "",
        *(
            f"{name}: {growth(run, frames):.2f} kB a frame"
            for name, run in zip(("forecast", "assimilation"), (drawn, found), strict=True)
        ),
    ]


def growth(run: np.ndarray, frames: int) -> float:
    """Return the kB of memory that a frame adds after the first quarter."""
    late = run[run[:, 0] > START_UP]
    return float(1e3 * np.polyfit(late[:, 0] * frames, late[:, 1], 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--prior", default="era5-uk-t2m")
    parser.add_argument("--steps", type=int, default=6, help="noise levels of both")
    parser.add_argument("--settings", nargs="*", default=["overlap=null"], help="of tomocast assimilate")
    parser.add_argument("--runs", type=Path, default=Path("runs/long-run"))
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.runs.mkdir(parents=True, exist_ok=True)
    common = [
        "--prior",
        chosen.prior,
        "--members",
        chosen.members,
        "--overwrite",
        f"sampler.steps={chosen.steps}",
    ]
    free, run, observations = (chosen.runs / name for name in ("truth", "analysis", "observations.zarr"))
    start = real_data("weather/era5_uk_2t_20190301-0322.grib")
    drawn = watched(["forecast", start, "--frames", chosen.frames, "--out", free, *common])
    members = read_ensemble(free)
    truth = Fields(members.members[:, 0], members.times, members.variables, members.grid)
    write_observations(observe(truth, Points(fraction=0.05, fixed=True), sigma="0.5 K", seed=4), observations)
    found = watched(["assimilate", observations, "--lag", 0, "--out", run, *common, *chosen.settings])
    error = errors(run, truth)
    if chosen.json is not None:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        record = {"forecast": drawn.tolist(), "assimilation": found.tolist(), "rmse": error.tolist()}
        chosen.json.write_text(to_json(record, indent=1))
    report("\n".join(lines(drawn, found, error)), None)


if __name__ == "__main__":
    main()
