"""How long a reconstruction will take: the method itself, tried on a few slices for a few steps.

    seconds = (start-up + steps * pace) of the trial * slices / slices tried

The pace of a slice depends little on their number from 8 on (the projector works on slices side by side).
Steps that come later and cost more than the first ones are not seen: the estimate says what it extrapolates.
"""

import time
from contextlib import suppress
from dataclasses import dataclass, replace

from recon.pipeline import Problem, rows
from recon.reconstructors.base import Job, StepRecord

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
    slices = problem.volume.shape[0]
    middle, tried = slices // 2, min(TRIAL_SLICES, slices)
    start = min(max(0, middle - tried // 2), slices - tried)
    volume = problem.volume.slices(start, start + tried)
    trial = replace(problem, data=rows(problem.data, start, start + tried), volume=volume, held_out=None)
    times, total = [time.perf_counter()], [1]

    def on_step(record: StepRecord) -> None:
        times.append(time.perf_counter())
        total[0] = record.total
        if len(times) > TRIAL_STEPS:
            raise _Enough

    job = Job(problem.settings.seed, on_step=on_step)
    with suppress(_Enough):
        problem.settings.method(trial.measurement(), trial.projector(), job)
    pace = (times[-1] - times[1]) / (len(times) - 2) if len(times) > 2 else 0.0
    seconds = (times[1] - times[0] + pace * (total[0] - 1)) * slices / tried
    return Estimate(seconds, total[0], tried)
