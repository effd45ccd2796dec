r"""Second order with one call per step, its two slopes balanced by the variance they leave: after EVODiff.

With lambda = -log s, x(lambda) = E[x | u] on the path and h = lambda_r - lambda_s, the path from s to a smaller r is

    u_r = (r / s) u_s + (1 - r / s) (x_s + phi(h) D),      phi(h) = h / (1 - exp(-h)) - 1,    D the slope of x at s

exact where x is linear in lambda. Two slopes are known once the network has been asked at the predicted end of a step,
the one behind and the one ahead:

    D_behind = (x_s - x_before) / (lambda_s - lambda_before),     D_ahead = (x_r - x_s) / h

Any mean of them is second order. The one with the smallest mean square per sample,

    D = (1 - k) D_ahead + k D_behind,    k = <D_ahead, D_ahead - D_behind> / |D_ahead - D_behind|^2 in [0, 1]

moves the state with least variance. It corrects the step that was predicted with D_behind alone, and the network's
answer there serves the next step, so a step costs one call. ``EVODiff`` (Li et al. 2025, arXiv 2509.26096) chooses the
balance of two slopes by their conditional variance; its weights by time and its sigmoid are not taken over.
"""

import itertools
import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from priors.diffusion.denoiser import Denoiser
from priors.diffusion.samplers.sampler import EXTRAPOLATION, Multistep, Source, clean_estimate

States = Float[Tensor, "b ..."]


class VarianceOptimised(Multistep):
    """A predicted step of the multistep rule, corrected by the slope of least variance; for whole samples."""

    name: Literal["variance-optimised"] = "variance-optimised"  # type: ignore[assignment]

    def sample(
        self,
        denoiser: Denoiser,
        x_1: States,
        *,
        generator: Source,
        on_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> States:
        """See `Sampler`."""
        times = torch.linspace(1, 0, self.steps + 1, dtype=torch.float64)
        levels = denoiser.schedule.ratio(times).tolist()
        u = x_1 / float(denoiser.schedule(times[:1])[0])
        clean, behind = clean_estimate(denoiser, u, levels[0]), None
        before = math.inf
        for done, (s, r) in enumerate(itertools.pairwise(levels), start=1):
            h = math.log(s / r)
            weight = h / -math.expm1(-h) - 1
            # Extrapolated, a slope reaches half a step at most; between two answers it needs no bound.
            predicted = _moved(u, clean, behind, by=min(weight, EXTRAPOLATION * before), shrink=r / s)
            after = clean_estimate(denoiser, predicted, r)
            ahead = (after - clean) / h
            slope = ahead if behind is None else balanced(ahead, behind)
            u = _moved(u, clean, slope, by=weight, shrink=r / s)
            clean, behind, before = after, ahead, h
            on_step(done, self.steps)
        return clean


def _moved(u: States, clean: States, slope: States | None, *, by: float, shrink: float) -> States:
    """Return the state at a level ``shrink`` times as large; without a slope it is first order."""
    aim = clean if slope is None else clean + by * slope
    return shrink * u + (1 - shrink) * aim


def balanced(ahead: States, behind: States) -> States:
    """Return the mean of two slopes with the smallest mean square, sample by sample."""
    difference = (ahead - behind).flatten(1)
    size = difference.square().sum(1).clamp(min=torch.finfo(ahead.dtype).tiny)
    share = ((ahead.flatten(1) * difference).sum(1) / size).clamp(0, 1)
    share = share.reshape(-1, *(1,) * (ahead.ndim - 1))
    return (1 - share) * ahead + share * behind
