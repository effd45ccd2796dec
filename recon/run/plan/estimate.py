"""How long a reconstruction will take: the method itself, tried on some slices for a few seconds.

    seconds = loading + (start + pace * steps * draws) * slices / slices tried

The start is what happens before the first step (the step lengths of TV, a warm start), the pace that of the steps after
it. The number of steps is what the method itself forecasts from its figures by then (``StepRecord.total``): most stop
early. A method of one step is tried on two numbers of slices, which tells its start (ray tables, filters) from its
work. Where rays cross slices all of them are tried. A method whose steps do not all cost the same says in its rehearsal
which short run tells them apart.
"""

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise

from recon.reconstructors.base import Rehearsal, RunContext, StepRecord
from recon.run.problem.pose import Problem

# The projector works on slices side by side: from here on the pace of one depends little on their number.
TRIAL_SLICES = 32
REHEARSED_SLICES = 8
TRIAL_SECONDS = 12.0
LEAST_STEPS = 3


class _Enough(Exception):  # noqa: N818 (the trial's way out, not an error)
    """The trial has seen enough."""


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


@dataclass(frozen=True)
class _Trial:
    """A beginning: when it began, when each record came, and the records."""

    begin: float
    times: list[float]
    records: list[StepRecord]
    end: float


def estimate(problem: Problem) -> Estimate:
    """Try the method and extrapolate."""
    slices = problem.slices
    rehearsal = problem.settings.method.rehearsal()
    small = trial_of(problem)
    tried = small.grid.shape[0]
    if rehearsal is not None:
        return _rehearsed(small, rehearsal, slices / tried)
    # Compiled code is loaded on first use: that happens once, and does not grow with the slices.
    once = _try(_some_slices(problem, 1), least=1, seconds=0.0)
    trial = _try(small, least=LEAST_STEPS, seconds=TRIAL_SECONDS)
    loading = max(0.0, (once.times[0] - once.begin) - (trial.times[0] - trial.begin))
    first, last = trial.records[0], trial.records[-1]
    if len(trial.records) == 1:
        return _of_one_step(problem, trial, loading=loading)
    pace = (trial.times[-1] - trial.times[0]) / (last.iteration - first.iteration)
    steps = (last.total or last.iteration) * problem.settings.runs
    start = max(0.0, trial.times[0] - trial.begin - pace * first.iteration)
    return Estimate(loading + (start + pace * steps) * slices / tried, steps, tried)


def trial_of(problem: Problem) -> Problem:
    """Return the part of a problem that is tried."""
    several = TRIAL_SLICES if problem.settings.method.rehearsal() is None else REHEARSED_SLICES
    return _some_slices(problem, several)


def _of_one_step(problem: Problem, trial: _Trial, *, loading: float) -> Estimate:
    """Return the duration of a method of one step, from two numbers of slices."""
    slices, many = problem.slices, min(TRIAL_SLICES, problem.grid.shape[0])
    few = max(1, many // 2)
    long = trial.end - trial.begin
    if few == many or not problem.scan.geometry.sliced:
        return Estimate(loading + long, 1, many)
    shorter = _try(_some_slices(problem, few), least=1, seconds=TRIAL_SECONDS)
    per_slice = max(0.0, (long - (shorter.end - shorter.begin)) / (many - few))
    return Estimate(loading + long + per_slice * (slices - many), 1, many)


def _rehearsed(problem: Problem, rehearsal: Rehearsal, ratio: float) -> Estimate:
    """Return the duration of the run that a rehearsal stands for, on ``ratio`` times as many slices."""
    whole = replace(problem, settings=problem.settings.model_copy(update={"method": rehearsal.method}))
    trial = _try(whole, least=len(rehearsal.stands_for), seconds=float("inf"))
    laps = [after - before for before, after in pairwise([trial.begin, *trial.times])]
    seconds = sum(lap * steps for lap, steps in zip(laps, rehearsal.stands_for, strict=True))
    draws = problem.settings.runs
    # The first step carries the start-up, which further draws share.
    once = max(0.0, laps[0] - laps[1]) if len(laps) > 1 else 0.0
    seconds = draws * seconds - (draws - 1) * once
    return Estimate(seconds * ratio, draws * round(sum(rehearsal.stands_for)), problem.grid.shape[0])


def _try(problem: Problem, *, least: int, seconds: float) -> _Trial:
    """Run the method until ``least`` records have come and the time is over, or it ends."""
    times: list[float] = []
    records: list[StepRecord] = []
    begin = time.perf_counter()

    def on_step(record: StepRecord) -> None:
        times.append(time.perf_counter())
        records.append(record)
        if len(records) > least and times[-1] - begin > seconds:
            raise _Enough

    with suppress(_Enough):
        problem.settings.method(
            problem.measurement(), problem.projector(), RunContext(problem.settings.seed, on_step=on_step)
        )
    return _Trial(begin, times, records, time.perf_counter())


def _some_slices(problem: Problem, count: int) -> Problem:
    """Return the reconstruction of at most ``count`` slices in the middle; of all where rays cross slices."""
    read = problem.grid.shape[0]
    scan = replace(problem.scan, whole=None)
    if not scan.geometry.sliced or read <= count:
        return replace(problem, scan=scan, held_out=None)
    start = (read - count) // 2
    stop = start + count
    return replace(problem, scan=scan.rows(start, stop), grid=problem.grid.slices(start, stop), held_out=None)
