r"""The guidance of ForcingDAS: after every step, a pull along the gradient of the misfit's norm.

    x_t <- x_t - zeta grad || (y - H(m)) / sqrt(R + gamma s^2) ||_2,    m = E[x | x_t] before the step

The gradient is of a norm, not of its square: its length does not shrink as the misfit does, and it knows nothing of
the prior's covariance. It is here for comparison: on linear-Gaussian systems its mean is biased and its spread
too small, whatever zeta. Without backpropagation the gradient is taken at m.

Source: ForcingDAS (arXiv 2605.14285) and its released code.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from priors.diffusion.denoiser import Denoiser
from priors.diffusion.guidance.likelihood import Guidance, Likelihood, covariance_scale
from priors.diffusion.guidance.sda import total_variance
from priors.diffusion.samplers.sampler import SamplerState, spread_level

States = Float[Tensor, "b ..."]


class Forcing(Guidance):
    """A step correction.

    Attributes:
        zeta: length of the pull.
        gamma: Cov[x | x_t] as a share of s^2 in the weights.
        backprop: through the denoiser.
    """

    name: Literal["forcing"] = "forcing"
    zeta: float = Field(2.0, gt=0)
    gamma: float = Field(0.01, ge=0)
    backprop: bool = True

    def correct(
        self, before: SamplerState, after: SamplerState, *, prior: Denoiser, likelihood: Likelihood
    ) -> SamplerState:
        """See `Guidance`; frames whose level did not change stay as they are."""
        u = before.u
        levels = torch.as_tensor(before.level, dtype=torch.float64, device=u.device)
        times = prior.schedule.inverse(levels if levels.ndim else levels.expand(len(u)))
        alpha = prior.schedule(times)[0].reshape(*times.shape, *(1,) * (u.ndim - times.ndim)).to(u)
        gradient = self._gradient(prior, likelihood, alpha * u, times)
        s, r = spread_level(before.level, u), spread_level(after.level, u)
        # The pull acts on x_t at the new level: in u-coordinates it is divided by the alpha there.
        final = prior.schedule.inverse(r.expand(len(u), *r.shape[1:]))
        pull = self.zeta * gradient / prior.schedule(final)[0].to(u)
        moved = after.u - torch.where(s == r, 0.0, 1.0).to(u) * pull
        return SamplerState(moved, after.level, after.previous_clean, after.previous_level)

    def _gradient(self, prior: Denoiser, likelihood: Likelihood, x_t: States, t: Tensor) -> States:
        _, variance = covariance_scale(prior, x_t, t)
        with torch.set_grad_enabled(self.backprop):
            leaf = x_t.detach().requires_grad_(self.backprop)
            estimate = prior(leaf, t)
        with torch.enable_grad():
            at = leaf if self.backprop else estimate.detach().requires_grad_()
            seen = estimate if self.backprop else at
            # The weights are constants of the gradient, as in the published method.
            total = total_variance(likelihood, seen.detach(), variance, gamma=self.gamma)
            # Each sample's own norm; the sum over samples only lets one backward pass serve all of them.
            misfit = ((likelihood.values - likelihood.operator(seen)) * total.rsqrt()).norm(dim=1)
            (gradient,) = torch.autograd.grad(misfit.sum(), at)
        return gradient
