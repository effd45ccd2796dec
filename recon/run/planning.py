"""What a reconstruction will need, printed before it is run."""

import sys
from pathlib import Path

from priors.runtime.memory import available_bytes, human
from priors.runtime.progress import clock
from priors.runtime.record import to_json
from recon.run.estimate import estimate
from recon.run.problem import read_problem
from recon.run.settings import ReconstructSettings


def print_plan(scan: Path, settings: ReconstructSettings, *, as_json: bool) -> None:
    """Print the memory a reconstruction needs, and the time where the memory suffices.

    Raises:
        InputError: the scan or the settings cannot be used.
    """
    problem = read_problem(scan, settings)
    plan, free = problem.plan(), available_bytes()
    fits = plan.total <= free
    expected = estimate(problem) if fits else None
    if as_json:
        seconds = None if expected is None else expected.seconds
        memory = {"bytes": dict(plan.items), "total_bytes": plan.total, "free_bytes": free, "fits": fits}
        sys.stdout.write(to_json({**memory, "seconds": seconds}) + "\n")
        return
    print(plan.table())
    print(f"free now: {human(free)}; this job {'fits' if fits else 'does not fit'}")
    if expected is not None:
        basis = f"{expected.steps} steps, at the pace of a few on {expected.slices} slices"
        print(f"time: about {clock(expected.seconds)} ({basis})")
