r"""Moment-matching posterior sampling: the posterior mean with the prior's own covariance at every noise level.

    E[x | x_t, y] = m + V H^T (R + H V H^T)^-1 (y - H m),    m = E[x | x_t],    V = Cov[x | x_t]

with H linearised at m. Tweedie's second formula gives the covariance from the denoiser: with one noise level per
frame, S^2 = diag(s_k^2) in u-coordinates and J = dm / du,

    V = J S^2 = S^2 J^T

so V H^T d is one vector-Jacobian product, and also (without backpropagation) one difference quotient of the
denoiser. For Gaussian data and a linear H both formulas are exact at every level.

The system is solved in the scaled form (I + R^-1/2 H V H^T R^-1/2) w = R^-1/2 (y - H m) with a few iterations of CG
or GMRES per sample; the increment V H^T R^-1/2 w is summed up from the products already made. Unlike its exact
counterpart the Jacobian of a trained network is not symmetric. GMRES does not mind; CG, right for exact denoisers,
can be thrown far off (with a learned turbulence prior its filter diverged within two frames where GMRES did not).

At high noise levels the output of a trained network hardly moves with its input, and its Jacobian says little: in
turbulence six iterations of GMRES leave three quarters of the innovation unexplained there. Where the prior knows a
Gaussian process (`Denoiser.gaussian_spread`), V is that of the process; its products need no network, so the system is
solved well, by CG.

Source: Rozet et al. 2024 (arXiv 2405.13712), Eq. 17-20.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from priors.diffusion.denoiser import Denoiser
from priors.diffusion.guidance.likelihood import Guidance, Likelihood, covariance_scale
from priors.gaussian.modes import Covariance
from priors.linalg import cg_each, gmres_each

States = Float[Tensor, "b ..."]

# Size of a difference quotient's step, in standard deviations of the noise: within what the network knows, and
# large enough that bfloat16 does not drown it.
PROBE = 0.3
# Of the system with the covariance of a Gaussian process: most iterations, and the residual that ends them. They cost
# no network, so the residual is to end them. Two thousand observations of a smooth field in a window of 24 frames take
# 104; after 60 the mean given pure noise (0.51 K) has a fifth more error than the exact one (0.43 K).
GAUSSIAN_ITERATIONS, GAUSSIAN_RESIDUAL = 400, 3e-3


class Mmps(Guidance):
    """Moment matching.

    Attributes:
        iterations: of the linear solver; each costs one product with the Jacobian.
        solver: of the linear system.
        backprop: products by backpropagation through the denoiser; otherwise by difference quotients, which need
            one more evaluation each but no memory of activations.
        gaussian: use the covariance of the prior's Gaussian process at the noise levels it names.
    """

    name: Literal["mmps"] = "mmps"
    iterations: int = Field(3, ge=1)
    solver: Literal["cg", "gmres"] = "gmres"
    backprop: bool = True
    gaussian: bool = True

    def posterior(self, prior: Denoiser, likelihood: Likelihood) -> Denoiser:
        """See `Guidance`."""
        return MmpsDenoiser(prior, likelihood, settings=self)


class MmpsDenoiser(Denoiser):
    """E[x | x_t, y] by moment matching; a gradient sees E[x | x_t] and takes the increment as constant."""

    def __init__(self, prior: Denoiser, likelihood: Likelihood, *, settings: Mmps) -> None:
        super().__init__()
        self.prior, self.likelihood, self.settings = prior, likelihood, settings
        self.schedule = prior.schedule

    def forward(self, x_t: States, t: Float[Tensor, "b ..."]) -> States:
        """See `Denoiser`."""
        known = self.prior.gaussian_covariance(t[0]) if self.settings.gaussian and _same_levels(t) else None
        if known is not None:
            return self._by_process(x_t, t, known)
        own = self._by_backprop if self.settings.backprop else self._by_differences
        estimate, spread = own(x_t, t)
        # The solver's increment is a constant of any outer gradient: second derivatives of the network are not needed.
        clean = estimate.detach()
        likelihood, weights = self.likelihood, self.likelihood.variance.rsqrt()
        tangent, _ = likelihood.linearised(clean)

        def apply(direction: Tensor) -> tuple[Tensor, Tensor]:
            # The change of the state comes with the product: the solver sums it up, which saves one more product.
            change = spread(weights * direction)
            return weights * tangent(change), change

        solve = cg_each if self.settings.solver == "cg" else gmres_each
        innovation = likelihood.innovation(likelihood.operator(clean))
        with torch.no_grad():
            increment = solve(apply, innovation, iterations=self.settings.iterations)
        return (estimate if x_t.requires_grad else clean) + increment

    def _by_process(self, x_t: States, t: Tensor, spread: Covariance) -> States:
        """Return E[x | x_t, y] with the covariance of a Gaussian process."""
        estimate: Tensor = self.prior(x_t, t)
        clean = estimate.detach()
        likelihood, weights = self.likelihood, self.likelihood.variance.rsqrt()
        tangent, adjoint = likelihood.linearised(clean)

        def apply(direction: Tensor) -> tuple[Tensor, Tensor]:
            change = spread(adjoint(weights * direction))
            return weights * tangent(change), change

        innovation = likelihood.innovation(likelihood.operator(clean))
        with torch.no_grad():
            increment = cg_each(
                apply, innovation, iterations=GAUSSIAN_ITERATIONS, tolerance=GAUSSIAN_RESIDUAL
            )
        return estimate + increment

    def _by_backprop(self, x_t: States, t: Tensor) -> tuple[States, Callable[[Tensor], States]]:
        """Return E[x | x_t] and d -> V H^T d."""
        scale, _ = covariance_scale(self.prior, x_t, t)
        with torch.enable_grad():
            leaf = x_t if x_t.requires_grad else x_t.detach().requires_grad_()
            estimate = self.prior(leaf, t)
            predicted = self.likelihood.operator(estimate)

        def spread(direction: Tensor) -> States:
            (gradient,) = torch.autograd.grad(predicted, leaf, direction, retain_graph=True)
            return scale * gradient

        return estimate, spread

    def _by_differences(self, x_t: States, t: Tensor) -> tuple[States, Callable[[Tensor], States]]:
        """Return E[x | x_t] and d -> V H^T d, here J S^2 H^T d."""
        _, variance = covariance_scale(self.prior, x_t, t)
        alpha = self.prior.schedule(t)[0].reshape(variance.shape).to(x_t)
        estimate = self.prior(x_t, t)
        with torch.enable_grad():
            leaf = estimate.detach().requires_grad_()
            predicted = self.likelihood.operator(leaf)

        def spread(direction: Tensor) -> States:
            (pulled,) = torch.autograd.grad(predicted, leaf, direction, retain_graph=True)
            # The probe has the same length in every sample, in deviations of its own noise, whatever the pull.
            size = (variance * pulled**2).flatten(1).mean(1).sqrt().reshape(-1, *(1,) * (x_t.ndim - 1))
            # Rounding: a sample without any pull gets an unchanged state and a quotient of zero.
            step = PROBE / size.clamp(min=torch.finfo(size.dtype).tiny ** 0.5)
            with torch.no_grad():
                moved: Tensor = self.prior(x_t + alpha * step * variance * pulled, t)
                quotient: Tensor = (moved - estimate) / step
            return quotient

        return estimate, spread


def _same_levels(t: Tensor) -> bool:
    """Tell whether all samples are trajectories with one set of levels."""
    return t.ndim == 2 and bool((t == t[:1]).all())
