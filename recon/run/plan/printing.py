"""What a reconstruction will need, printed before it is run."""

from pathlib import Path

from priors.runtime.errors import InputError
from priors.runtime.output import emit_json
from priors.runtime.progress import clock
from priors.runtime.system.memory import available_bytes, human, lack_of_memory
from recon.run.checks.nonsense import check_problem
from recon.run.plan.estimate import TRIAL_SLICES, Estimate, estimate, trial_of
from recon.run.problem.pose import Problem, read_problem, said_of
from recon.run.problem.prior_grid import sentence
from recon.run.settings import ReconstructSettings
from recon.run.slabs.layout import SlabJob, bytes_of, slab_job
from recon.run.slabs.source import needs_slabs, slabs_from_file

LARGEST_TRIAL = 2**29
"""Bytes of a trial above which a job that does not fit into memory is not tried: its plan must."""


def _tried(problem: Problem) -> Estimate | None:
    """Return the expected duration, None where not even the trial fits into memory."""
    if problem.settings.method.automatic:
        return None
    trial = trial_of(problem).plan()
    if not trial.fits(available_bytes()) or (needs_slabs(problem) and trial.own > LARGEST_TRIAL):
        return None
    try:
        return estimate(problem)
    except (MemoryError, RuntimeError, OSError, ImportError) as error:
        if lack_of_memory(error) is None:
            raise
        return None


def _in_slabs(scan: Path, problem: Problem) -> SlabJob | None:
    """Return the slabs in which a job will be done, None where it is done at once or not at all."""
    if not needs_slabs(problem):
        return None
    try:
        if problem.scan.whole is not None:
            return slabs_from_file(scan, problem)
        return slab_job(problem, problem.rows, held=bytes_of(problem))
    except InputError:
        if problem.settings.slab is not None:
            raise
        return None


def print_plan(scan: Path, settings: ReconstructSettings, *, as_json: str | None) -> None:
    """Print the memory a reconstruction needs, and the time where the memory suffices to try it on a few slices.

    Raises:
        InputError: the scan or the settings cannot be used.
    """
    problem = read_problem(scan, settings, sample=TRIAL_SLICES)
    check_problem(problem)
    job = _in_slabs(scan, problem)
    plan, free = (problem if job is None else job).plan(), available_bytes()
    repeated = 1.0 if job is None else job.repeated()
    # A few slices stand for all, unless rays cross slices: then the choice needs the memory of the whole.
    if plan.fits(free) or problem.scan.geometry.sliced:
        problem = problem.resolved()
    expected = _tried(problem)
    seconds = None if expected is None else expected.seconds * repeated
    slabs = {} if job is None else {"slabs": len(job.slabs)}
    if emit_json(
        {**plan.figures(free), "chosen": dict(problem.chosen), "seconds": seconds, **slabs}, as_json
    ):
        return
    if problem.asked is not None:
        print(sentence(problem.grid, problem.asked))
    if job is not None:
        print(f"at once: {human(problem.plan().total)}; so in {job.told()}, each of which needs")
    print(plan.table())
    if problem.chosen:
        print(f"from this scan: {said_of(problem.chosen)}")
    print(f"free now: {human(free)}; this job {'fits' if plan.fits(free) else 'does not fit'}")
    if expected is not None:
        basis = f"{expected.steps} steps, at the pace of a few on {expected.slices} slices"
        print(f"time: about {clock(expected.seconds * repeated)} ({basis})")
