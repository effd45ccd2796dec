"""The memory an assimilation plans and takes, in processes of their own.

    python benchmarks/memory/assimilation.py [--members 8 64] [--frames 3] [--prior ns-vorticity-64]

Planned: what ``--plan`` prints, interpreter and libraries included. Taken: the peak in the run's metrics.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

TOMOCAST = [sys.executable, "-m", "tomocast"]


def tomocast(*arguments: object) -> None:
    subprocess.run([*TOMOCAST, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--members", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--prior", default="ns-vorticity-64")
    chosen = parser.parse_args()
    print("| members | planned MiB | taken MiB | planned / taken |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        truth, observed = Path(folder) / "truth.nc", Path(folder) / "observed.nc"
        tomocast("simulate", "system", "navier-stokes", "--out", truth, "--steps", chosen.frames, "--seed", 3)
        tomocast(
            "observe", truth, "--operator", "points", "--fraction", 0.1, "--sigma", 0.1, "--out", observed
        )
        for members in chosen.members:
            run, plan = Path(folder) / f"run-{members}", Path(folder) / f"plan-{members}.json"
            job = (
                "assimilate",
                observed,
                "--prior",
                chosen.prior,
                "--members",
                members,
                "--steps",
                chosen.steps,
            )
            tomocast(*job, "--plan", "--json", plan)
            tomocast(*job, "--out", run)
            planned = json.loads(plan.read_text())["total_bytes"] / 2**20
            taken = json.loads((run / "metrics.json").read_text())["peak_memory_bytes"] / 2**20
            print(f"| {members} | {planned:.0f} | {taken:.0f} | {planned / taken:.2f} |", flush=True)


if __name__ == "__main__":
    main()
