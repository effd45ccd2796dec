"""What a reconstruction will need, printed before it is run."""

from pathlib import Path

from priors.runtime.memory import available_bytes, human
from priors.runtime.output import emit_json
from priors.runtime.progress import clock
from recon.run.estimate import TRIAL_SLICES, estimate
from recon.run.problem import read_problem
from recon.run.settings import ReconstructSettings


def print_plan(scan: Path, settings: ReconstructSettings, *, as_json: str | None) -> None:
    """Print the memory a reconstruction needs, and the time where the memory suffices.

    Raises:
        InputError: the scan or the settings cannot be used.
    """
    problem = read_problem(scan, settings, sample=TRIAL_SLICES)
    plan, free = problem.plan(), available_bytes()
    fits = plan.total <= free
    expected = estimate(problem) if fits else None
    figures = {"bytes": dict(plan.items), "total_bytes": plan.total, "free_bytes": free, "fits": fits}
    figures["seconds"] = None if expected is None else expected.seconds
    if emit_json(figures, as_json):
        return
    print(plan.table())
    print(f"free now: {human(free)}; this job {'fits' if fits else 'does not fit'}")
    if expected is not None:
        basis = f"{expected.steps} steps, at the pace of a few on {expected.slices} slices"
        print(f"time: about {clock(expected.seconds)} ({basis})")
