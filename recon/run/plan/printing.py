"""What a reconstruction will need, printed before it is run."""

from pathlib import Path

import torch

from priors.runtime.output import emit_json
from priors.runtime.progress import clock
from priors.runtime.system.memory import available_bytes, human
from recon.run.checks.nonsense import check_problem
from recon.run.plan.estimate import TRIAL_SLICES, Estimate, estimate, trial_of
from recon.run.problem import Problem, read_problem
from recon.run.settings import ReconstructSettings


def _tried(problem: Problem) -> Estimate | None:
    """Return the expected duration, None where not even the trial fits into memory."""
    if not trial_of(problem).plan().fits(available_bytes()):
        return None
    try:
        return estimate(problem)
    except (MemoryError, torch.OutOfMemoryError):
        return None


def print_plan(scan: Path, settings: ReconstructSettings, *, as_json: str | None) -> None:
    """Print the memory a reconstruction needs, and the time where the memory suffices to try it on a few slices.

    Raises:
        InputError: the scan or the settings cannot be used.
    """
    problem = read_problem(scan, settings, sample=TRIAL_SLICES)
    check_problem(problem)
    plan, free = problem.plan(), available_bytes()
    expected = _tried(problem)
    seconds = None if expected is None else expected.seconds
    if emit_json({**plan.figures(free), "seconds": seconds}, as_json):
        return
    print(plan.table())
    print(f"free now: {human(free)}; this job {'fits' if plan.fits(free) else 'does not fit'}")
    if expected is not None:
        basis = f"{expected.steps} steps, at the pace of a few on {expected.slices} slices"
        print(f"time: about {clock(expected.seconds)} ({basis})")
