"""What the key-value cache of finished frames saves: one filter run with it, and one that computes them again.

    python benchmarks/filter_cache.py --frames 30 --json runs/cache-bench/cache.json

Same prior, observations (10 % random points), seed and member; every frame is drawn once. Reported: the largest
difference of the two analyses in units of the field's deviation, and CPU seconds of the process.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from assimilated import tomocast

from assimilation.io.archive import read_ensemble
from assimilation.io.observations import write_observations
from assimilation.observation.instruments import Points
from assimilation.observation.observing import observe
from assimilation.systems.base import simulate
from assimilation.systems.navier_stokes import NavierStokes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--prior", default="ns-vorticity-64")
    parser.add_argument("--settings", nargs="*", default=[], help="key=value for tomocast assimilate")
    parser.add_argument("--runs", type=Path, default=Path("runs/cache-bench"))
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    chosen.runs.mkdir(parents=True, exist_ok=True)
    truth = simulate(NavierStokes(), trajectories=1, frames=chosen.frames, seed=3)
    observations = chosen.runs / "observations.nc"
    write_observations(observe(truth, Points(fraction=0.1), sigma="0.1", seed=4), observations)
    options = ["--prior", chosen.prior, "--lag", 0, "--overlap", "none", "--members", chosen.members]
    options += ["--steps", chosen.steps, "--seed", 0]
    found = {}
    for name, setting in {"cached": "cache=true", "recomputed": "cache=false"}.items():
        run = chosen.runs / name
        tomocast("assimilate", observations, *options, "--out", run, "--overwrite", setting, *chosen.settings)
        figures = json.loads((run / "metrics.json").read_text())
        found[name] = (read_ensemble(run).members, figures["cpu_seconds"])
    (cached, fast), (again, slow) = found["cached"], found["recomputed"]
    result = {
        "frames": chosen.frames,
        "members": chosen.members,
        "largest_difference": float(np.abs(cached - again).max() / truth.values.std()),
        "cpu_s_cached": fast,
        "cpu_s_recomputed": slow,
        "ratio": slow / fast,
    }
    if chosen.json is not None:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(result, indent=1))
    print("\n".join(f"{name:<20} {value:.4g}" for name, value in result.items()))


if __name__ == "__main__":
    main()
