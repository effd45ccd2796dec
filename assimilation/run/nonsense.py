"""What no prior can be asked about: observations and starts far beyond what it was trained on, or none at all.

They are errors before the work unless ``--force``: with them a run ends with numbers, but not with an estimate.

    d = (y - H(c)) / |H(c + s) - H(c)|

with c the middle of the prior's training data and s its deviation (a quarter of the range where the prior knows the
logarithm of a variable): how many of its own deviations the prior would have to move.
"""

import numpy as np
import torch
from torch import Tensor

from assimilation.inference.problem import Problem
from assimilation.observation.quality import CheckedStream
from priors.card import Prior
from priors.codec import FieldCodec
from priors.runtime.files.permissions import allow_nonsense

FAR = 100.0
"""Deviations of the prior by which a single value may lie off ..."""
FAR_RMS = 5.0
"""... and all of them in the root mean square."""
REJECTED = 0.5
"""Share of observations that gross errors may take."""


def check_problem(problem: Problem, prior: Prior) -> None:
    """Refuse observations, a background or a start that a prior cannot know, unless ``--force`` was given.

    Raises:
        InputError: with what was found.
    """
    if problem.context is not None:
        _check_start(problem.context, "start" if problem.stream is None else "background", prior)
    stream = problem.stream
    if stream is None:
        return
    if isinstance(stream, CheckedStream) and stream.rejected > REJECTED * stream.count:
        allow_nonsense(
            f"observations: {stream.rejected} of {stream.count} are gross errors, expected fewer than half: their "
            "unit, their place or the prior is another one"
        )
    middle, deviation = typical_states(prior.fields, problem.shape)
    squares, count, worst = 0.0, 0, 0.0
    for trajectory, index in np.ndindex(stream.trajectories, stream.times.size):
        found = stream.at(trajectory, index)
        if found is None:
            continue
        expected = found.operator(middle)
        spread = (found.operator(middle + deviation) - expected).abs()
        away = (found.values - expected).abs().double()
        # Where the operator does not see the state, only the error speaks.
        alone = away / torch.where(spread > 0, spread, found.variance.sqrt())
        worst = max(worst, float(alone.max()))
        squares += float((away**2 / (spread.double() ** 2 + found.variance.double())).sum())
        count += found.values.numel()
    if count == 0:
        allow_nonsense("observations: found no value at any time, expected some")
        return
    _check_distance(worst, float(np.sqrt(squares / count)), "observations", prior)


def typical_states(codec: FieldCodec, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Return the middle of what a prior was trained on and its deviation, (k, y, x), physical."""
    zero = torch.zeros(shape)
    deviations = [
        one.scale if one.transform == "none" else (one.high - one.low) / 4 for one in codec.variables
    ]
    return codec.decode(zero), zero + torch.tensor(deviations, dtype=zero.dtype)[:, None, None]


def observed_frames(problem: Problem) -> int:
    """Return the number of frames of which something was observed, in any trajectory."""
    stream = problem.stream
    if stream is None:
        return 0
    seen = {
        index
        for trajectory, index in np.ndindex(stream.trajectories, stream.times.size)
        if stream.at(trajectory, index) is not None
    }
    return sum(index in seen for index in problem.stream_index)


def _check_start(context: Tensor, name: str, prior: Prior) -> None:
    size = context.double().abs()
    _check_distance(float(size.max()), float(size.square().mean().sqrt()), name, prior)


def _check_distance(worst: float, mean: float, name: str, prior: Prior) -> None:
    if worst > FAR or mean > FAR_RMS:
        allow_nonsense(
            f"{name}: {mean:.3g} deviations of prior {prior.card.name!r} away from what it was trained on in the mean, "
            f"{worst:.3g} at the worst, expected less than {FAR_RMS:g} and {FAR:g}; check unit and variable"
        )
