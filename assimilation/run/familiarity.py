r"""Whether the analyses are of a system the prior knows: their own dynamics, and how the observations were met.

Dynamics: the prior's mean one frame ahead of an analysis, f(x_(<t)), misses the next analysis by about what the card
says it misses held-out data by,

    surprise = rms (x_t - f(x_(<t))) / error on the card            1 where the analyses move as in training

Fit: with d the observations minus the analysis' mean and e their expected squares (see
`assimilation.verification.departures`), mean d^2 / mean e is below 1 where prior and observations agree: the analysis
has seen them. A surprise far below 1 is as strange as one far above: fields that hardly move, or are all noise-free.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from assimilation.fields.streams import FieldStream
from assimilation.inference.domain import reach_of
from assimilation.inference.problem import Problem
from assimilation.verification.departures import departures
from priors.audits.verdict import Check, Verdict
from priors.card import Prior
from priors.diffusion.denoiser import NetworkDenoiser
from priors.training.trajectories.task import forecast_errors

PROBED = 6
MEMBERS = 2
SURPRISE, ABSURD = 2.0, 4.0
"""Factor of the card's forecast error from which on dynamics are unfamiliar, and not to be believed."""
MISFIT, LOST = 2.0, 10.0
"""The same of the observations' squared departures relative to what is expected."""


def familiarity(problem: Problem, prior: Prior, analyses: FieldStream, *, forecast: bool) -> dict[str, Any]:
    """Return verdict, score and reasons; the score is the logarithm of the surprise in units of ln 2 / 3.

    Args:
        problem: what was estimated.
        prior: of trajectories.
        analyses: the finished ones.
        forecast: whether they are the prior's own forecast, whose dynamics say nothing; then the start is judged.
    """
    checks: list[Check] = []
    figures: dict[str, float] = {}
    found = surprise(problem, prior, analyses, forecast=forecast)
    score = None
    if isinstance(found, str):
        checks.append(Check("unknown", found))
    else:
        figures["surprise"] = found
        # A factor of two is a score of 3, a factor of four one of 6: the same thresholds as of slices.
        score = 3 * abs(math.log2(max(found, 1e-6)))
        checks += _of_surprise(found)
    if problem.stream is not None and not forecast:
        whole, _ = departures(problem.stream, analyses)
        if whole.count and math.isfinite(whole.consistency):
            figures["departures"] = whole.consistency
            checks += _of_departures(whole.consistency)
    return {**Verdict.of(checks, score).metrics(), "figures": figures}


def surprise(problem: Problem, prior: Prior, analyses: FieldStream, *, forecast: bool) -> float | str:
    """Return the forecast error between analyses relative to the card's, or the reason why there is none."""
    card = prior.card.trajectory
    expected = {} if card is None else card.forecast
    if not expected.get("prior"):
        return f"the card of prior {prior.card.name!r} does not say how well it forecasts"
    if problem.advection is not None:
        return "fields that are carried along with the motion were not compared with forecasts of the prior"
    if not isinstance(prior.denoiser, NetworkDenoiser):
        return "the prior is not a network of trajectories"
    reach = min(reach_of(prior), prior.denoiser.longest or PROBED, PROBED)
    windows = _context(problem, reach) if forecast else _windows(prior, analyses, reach)
    if windows is None:
        return "there are no two frames one after the other to compare with a forecast of the prior"
    valid = torch.isfinite(windows)
    errors = forecast_errors(prior.denoiser, torch.nan_to_num(windows), valid)
    return errors[0] / expected["prior"]


def _context(problem: Problem, reach: int) -> Float[torch.Tensor, "b f k y x"] | None:
    """Return windows of the clean frames a forecast starts from."""
    context = problem.context
    if context is None or context.shape[2] < 2:
        return None
    return context.flatten(0, 1)[: MEMBERS * PROBED, -min(reach, context.shape[2]) :].float()


def _windows(prior: Prior, analyses: FieldStream, reach: int) -> Float[torch.Tensor, "b f k y x"] | None:
    """Return windows of single members that end at frames spread over the analyses, in network units."""
    frames = analyses.times.size
    length = min(reach, frames)
    if length < 2:
        return None
    ends = sorted({int(k) for k in np.linspace(length - 1, frames - 1, PROBED).round()})
    windows = []
    for end in ends:
        span = [analyses.read(0, time) for time in range(end - length + 1, end + 1)]
        windows += [np.stack([frame[m] for frame in span]) for m in range(min(MEMBERS, analyses.members))]
    return prior.fields.encode(torch.from_numpy(np.stack(windows))).float()


def _of_surprise(found: float) -> list[Check]:
    far = max(found, 1 / max(found, 1e-6))
    if far <= SURPRISE:
        return []
    return [
        Check(
            "do-not-believe" if far > ABSURD else "unfamiliar",
            f"analyses miss the prior's forecast from the frames before them by {found:.2g} times what its card says "
            "of data like those of training",
        )
    ]


def _of_departures(consistency: float) -> list[Check]:
    if consistency <= MISFIT:
        return []
    return [
        Check(
            "do-not-believe" if consistency > LOST else "unfamiliar",
            f"observations differ from the analysis by {consistency:.2g} times the expected squares: prior and "
            "observations contradict each other, or their stated errors are too small",
        )
    ]


def needs_warning(figures: Mapping[str, Any]) -> bool:
    """Tell whether a verdict is one to warn of."""
    return figures["verdict"] in ("unfamiliar", "do-not-believe")
