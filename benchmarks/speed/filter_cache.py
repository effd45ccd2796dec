"""What the key-value cache of finished frames saves: one filter run with it, and one that computes them again.

    python benchmarks/speed/filter_cache.py --frames 30 --json runs/cache-bench/cache.json

Same prior, observations (10 % random points), seed and member; every frame is drawn once, in one precision throughout
(``--dtype float64`` tells rounding from anything else: turbulence amplifies it from frame to frame).
Reported: the largest difference of the two analyses in units of the field's deviation, and CPU seconds of the
assimilation (without loading and writing).
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assimilation.inference.assimilator import EnsemblePlan
from assimilation.io.observations.files import write_observations
from assimilation.observation.instruments import Points
from assimilation.observation.observing import observe
from assimilation.run.problem import read_assimilation
from assimilation.run.settings import AssimilateSettings
from assimilation.systems.base import simulate
from assimilation.systems.navier_stokes import NavierStokes
from priors.card import load_prior
from priors.diffusion.denoiser import NetworkDenoiser


def filtered(observations: Path, given: dict[str, Any], dtype: torch.dtype) -> tuple[np.ndarray, float]:
    """Return the analyses of a filter run, (frame, member, k, y, x), and its CPU seconds."""
    settings = AssimilateSettings(**given)
    prior = load_prior(settings.prior)
    problem = read_assimilation(observations, None, prior, settings)
    machine = settings.assimilator(prior, problem)
    denoiser = prior.denoiser
    assert isinstance(denoiser, NetworkDenoiser)
    denoiser = denoiser.with_settings(reduced=False).to(dtype)
    machine = replace(machine, model=replace(machine.model, denoiser=denoiser))
    plan = EnsemblePlan(settings.members, settings.seed, settings.members)
    before = time.process_time()
    analyses = [analysis.members for analysis in machine.run(problem, plan)]
    return np.stack(analyses), time.process_time() - before


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--members", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32")
    parser.add_argument("--prior", default="ns-vorticity-64")
    parser.add_argument("--runs", type=Path, default=Path("runs/cache-bench"))
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.runs.mkdir(parents=True, exist_ok=True)
    truth = simulate(NavierStokes(), trajectories=1, frames=chosen.frames, seed=3)
    observations = chosen.runs / "observations.nc"
    write_observations(observe(truth, Points(fraction=0.1), sigma="0.1", seed=4), observations)
    given = {"prior": chosen.prior, "members": chosen.members, "lag": 0, "overlap": None, "device": "cpu"}
    given["sampler"] = {"name": "multistep", "steps": chosen.steps}
    found = {
        name: filtered(observations, {**given, "cache": name == "cached"}, getattr(torch, chosen.dtype))
        for name in ("cached", "recomputed")
    }
    (cached, fast), (again, slow) = found["cached"], found["recomputed"]
    result = {
        "frames": chosen.frames,
        "members": chosen.members,
        "dtype": chosen.dtype,
        "largest_difference": float(np.abs(cached - again).max() / truth.values.std()),
        "cpu_s_cached": fast,
        "cpu_s_recomputed": slow,
        "ratio": slow / fast,
    }
    if chosen.json is not None:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(result, indent=1))
    print(
        "\n".join(
            f"{name:<20} {value if isinstance(value, str) else format(value, '.4g')}"
            for name, value in result.items()
        )
    )


if __name__ == "__main__":
    main()
