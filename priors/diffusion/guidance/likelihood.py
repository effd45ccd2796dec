r"""Likelihoods and guidance: from E[x | x_t] to E[x | x_t, y].

    y = H(x) + e,    e ~ N(0, R),    R = diag(variance)

Every sample has its own likelihood: nothing is averaged over the batch, so the number of samples that share
one never changes any of them. H is any differentiable callable on states in network units.

A method is either a posterior mean (`Guidance.posterior` wraps the prior's denoiser into one that every sampler
takes) or a correction of the state after a step (`Guidance.correct`).
"""

from abc import ABC
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from priors.diffusion.denoiser import Denoiser
from priors.diffusion.samplers.sampler import SamplerState

States = Float[Tensor, "b ..."]
Tangent = Callable[[Tensor], Tensor]
Adjoint = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Observations of every sample of a batch.

    Attributes:
        values: y; a single row serves every sample.
        variance: the diagonal of R.
        operator: H on states in network units, one row per sample; samples do not interact in it.
    """

    values: Float[Tensor, "#b n"]
    variance: Float[Tensor, "#b n"]
    operator: Callable[[States], Float[Tensor, "b n"]]

    def innovation(self, predicted: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        """Return (y - H(x)) / sqrt(R) for H(x) = ``predicted``."""
        return (self.values - predicted) * self.variance.rsqrt()

    def linearised(self, x: States) -> tuple[Tangent, Adjoint]:
        """Return H'(x), a map from changes of the state to changes of what is seen, and its adjoint.

        Reverse mode twice: v -> H'(x)^T v is linear in v, and its own adjoint is H'(x). Forward mode would do, but
        loading it costs seconds.
        """
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            predicted = self.operator(leaf)
            # Zeros serve: H'(x)^T v is linear in v, so its derivative is the same everywhere.
            weights = torch.zeros_like(predicted, requires_grad=True)
            (pulled,) = torch.autograd.grad(predicted, leaf, weights, create_graph=True)

        def forward(change: States) -> Float[Tensor, "b n"]:
            (image,) = torch.autograd.grad(pulled, weights, change, retain_graph=True)
            return image

        def adjoint(seen: Float[Tensor, "b n"]) -> States:
            (pulled_back,) = torch.autograd.grad(predicted, leaf, seen, retain_graph=True)
            return pulled_back

        return forward, adjoint


class Guidance(BaseModel, ABC):
    """Interface; without observations a method leaves prior and state as they are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def posterior(self, prior: Denoiser, likelihood: Likelihood) -> Denoiser:
        """Return the denoiser of E[x | x_t, y]; the prior's own where the method corrects states instead."""
        return prior

    def correct(
        self, before: SamplerState, after: SamplerState, *, prior: Denoiser, likelihood: Likelihood
    ) -> SamplerState:
        """Return the state after a step from ``before`` to ``after``, corrected by the observations."""
        return after


def covariance_scale(denoiser: Denoiser, x_t: States, t: Tensor) -> tuple[States, States]:
    """Return sigma^2 / alpha and s^2 = (sigma / alpha)^2, with singleton axes up to the rank of ``x_t``."""
    alpha, sigma = denoiser.schedule(t)
    shape = (*t.shape, *(1,) * (x_t.ndim - t.ndim))
    return (sigma**2 / alpha).reshape(shape).to(x_t), ((sigma / alpha) ** 2).reshape(shape).to(x_t)
