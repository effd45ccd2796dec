"""How long a reconstruction will take: the method itself, tried on a few slices for a few steps.

    seconds = sum over the trial's steps (seconds of the step * steps it stands for) * slices / slices tried

The pace of a slice depends little on their number from 8 on (the projector works on slices side by side). Where rays
cross slices all of them are tried. A method whose steps do not all cost the same says in its rehearsal which short run
tells them apart.
"""

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise

from recon.reconstructors.base import RunContext, StepRecord
from recon.run.problem import Problem

TRIAL_SLICES = 8
TRIAL_STEPS = 3


class _Enough(Exception):  # noqa: N818 (the trial's way out, not an error)
    """Enough steps have been timed."""


@dataclass(frozen=True)
class Estimate:
    """Expected duration.

    Attributes:
        seconds: for the whole job.
        steps: iterations or noise levels of the whole job.
        slices: slices that were tried.
    """

    seconds: float
    steps: int
    slices: int


def estimate(problem: Problem) -> Estimate:
    """Try the method and extrapolate."""
    slices = problem.grid.shape[0] if problem.scan.whole is None else problem.scan.whole[1].shape[0]
    trial = _some_slices(problem) if problem.scan.geometry.sliced else replace(problem, held_out=None)
    tried = trial.grid.shape[0]
    rehearsal = problem.settings.method.rehearsal()
    method = problem.settings.method if rehearsal is None else rehearsal.method
    times, total = [time.perf_counter()], [1]

    def on_step(record: StepRecord) -> None:
        times.append(time.perf_counter())
        total[0] = record.total or 1
        if rehearsal is None and len(times) > TRIAL_STEPS:
            raise _Enough

    with suppress(_Enough):
        method(trial.measurement(), trial.projector(), RunContext(problem.settings.seed, on_step=on_step))
    laps = [after - before for before, after in pairwise(times)]
    stands_for = _shares(len(laps), total[0]) if rehearsal is None else rehearsal.stands_for
    seconds = sum(lap * steps for lap, steps in zip(laps, stands_for, strict=True))
    return Estimate(seconds * slices / tried, round(sum(stands_for)), tried)


def _some_slices(problem: Problem) -> Problem:
    """Return the reconstruction of a few slices in the middle."""
    slices = problem.grid.shape[0]
    middle, tried = slices // 2, min(TRIAL_SLICES, slices)
    start = min(max(0, middle - tried // 2), slices - tried)
    grid = problem.grid.slices(start, start + tried)
    return replace(problem, scan=problem.scan.rows(start, start + tried), grid=grid, held_out=None)


def _shares(laps: int, total: int) -> tuple[float, ...]:
    """Return what each lap of a run's beginning stands for: the first for itself, the others for the rest."""
    if laps < 2:
        return (1.0,) * laps
    return (1.0, *[(total - 1) / (laps - 1)] * (laps - 1))
