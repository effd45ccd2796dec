r"""Score-based data assimilation: the posterior mean with a diagonal guess of the prior's covariance.

    E[x | x_t, y] = m + V H^T D^-1 (y - H m),    D = R + gamma H s^2 H^T  (diagonal),    m = E[x | x_t]

``gamma`` stands for Cov[x | x_t] / s^2 in the denominator. In front V is either S^2 J^T, one vector-Jacobian
product through the denoiser, or gamma S^2 without backpropagation. s is the noise level of the observed frame: the
tangent of H on the field of all s, as if errors at neighbouring points were equal, carries it into observation
units.

A fixed gamma is right at one noise level at most: posteriors come out biased, and too narrow or too wide. Nor is
the step bounded by itself. D neglects correlations between observations: n of them at one point move it n times too
far, and where Cov[x | x_t] is larger than gamma s^2 an exact observation overshoots by Cov / (gamma s^2), up to
tenfold at the default. An overshoot in every step grows without bound. The increment d is therefore cut to the
length that serves the observations best, per sample,

    d <- c d,   c = min(1, <r, H d>_R / <H d, H d>_R),   r = y - H m,   <a, b>_R = a^T R^-1 b

(c at least 0), after which the linearised misfit |r - c H d|_R is never larger than before. The cut leaves steps
that do not overshoot as they are.

Source: Rozet and Louppe 2023 (arXiv 2306.10574), Eq. 13-16; the cut is ours.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from priors.diffusion.denoiser import Denoiser
from priors.diffusion.guidance.likelihood import Guidance, Likelihood, covariance_scale

States = Float[Tensor, "b ..."]


class Sda(Guidance):
    """A diagonal covariance.

    Attributes:
        gamma: Cov[x | x_t] as a share of s^2.
        backprop: through the denoiser.
    """

    name: Literal["sda"] = "sda"
    gamma: float = Field(0.1, gt=0)
    backprop: bool = True

    def posterior(self, prior: Denoiser, likelihood: Likelihood) -> Denoiser:
        """See `Guidance`."""
        return SdaDenoiser(prior, likelihood, settings=self)


class SdaDenoiser(Denoiser):
    """E[x | x_t, y] with a diagonal covariance; a gradient sees E[x | x_t] and takes the increment as constant."""

    def __init__(self, prior: Denoiser, likelihood: Likelihood, *, settings: Sda) -> None:
        super().__init__()
        self.prior, self.likelihood, self.settings = prior, likelihood, settings
        self.schedule = prior.schedule

    def forward(self, x_t: States, t: Float[Tensor, "b ..."]) -> States:
        """See `Denoiser`."""
        gamma, backprop = self.settings.gamma, self.settings.backprop
        scale, variance = covariance_scale(self.prior, x_t, t)
        with torch.set_grad_enabled(backprop or x_t.requires_grad):
            leaf = x_t if x_t.requires_grad else x_t.detach().requires_grad_(backprop)
            estimate = self.prior(leaf, t)
        with torch.enable_grad():
            seen = estimate if backprop else estimate.detach().requires_grad_()
            predicted = self.likelihood.operator(seen)
            clean = estimate.detach()
            total = total_variance(self.likelihood, clean, variance, gamma=gamma)
            pull = (self.likelihood.values - predicted.detach()) / total
            at = leaf if backprop else seen
            (gradient,) = torch.autograd.grad(predicted, at, pull, retain_graph=x_t.requires_grad)
        increment = (scale if backprop else gamma * variance) * gradient
        # Without the cut an overshoot at one level is the start of the next, and grows (see the module).
        increment = cut_to_observations(self.likelihood, clean, increment, predicted.detach())
        answer: Tensor = (estimate if x_t.requires_grad else clean) + increment
        return answer


def total_variance(
    likelihood: Likelihood, clean: States, variance: States, *, gamma: float
) -> Float[Tensor, "b n"]:
    """Return R + gamma (H' s)^2 for noise variances s^2 that broadcast to the state."""
    with torch.no_grad():
        seen = likelihood.linearised(clean)[0](variance.sqrt().expand_as(clean))
        return likelihood.variance + gamma * seen**2


def cut_to_observations(
    likelihood: Likelihood, clean: States, increment: States, predicted: Float[Tensor, "b n"]
) -> States:
    """Return the increment, shortened where it overshoots what was observed; H is linearised at ``clean``."""
    with torch.no_grad():
        seen = likelihood.linearised(clean)[0](increment) * likelihood.variance.rsqrt()
        along = (likelihood.innovation(predicted) * seen).sum(1)
        square = seen.square().sum(1)
        # An increment that changes nothing observed has nothing to overshoot.
        cut = torch.where(square > 0, along / square, 1.0).clamp(0, 1)
    return cut.reshape(-1, *(1,) * (increment.ndim - 1)) * increment
