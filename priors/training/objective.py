r"""The training objective: mean squared error on what the network's output means, at random noise levels.

    s ~ mixture of log-normal and log-uniform,  t = schedule^-1(s),  x_t = alpha x + sigma z
    loss = mean || network(input(x_t), log s) - target(x, z, alpha, sigma) ||^2

With EDM preconditioning this is the weighted loss of Karras et al. 2022 (arXiv 2206.00364, Eq. 8), weight
1/c_out^2. Noise levels are stratified over the batch: one draw from each of b equal quantiles, which lowers
the variance.
"""

import math

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from priors.diffusion.denoiser import NetworkDenoiser, broadcast_scales
from priors.training.task import Batch


class LevelSampler(BaseModel):
    """Random noise levels s = sigma / alpha.

    Attributes:
        centre: median of the log-normal part.
        width: deviation of log s in the log-normal part.
        uniform_share: share of draws that are log-uniform instead, for coverage of the far ends.
        low: smallest level of the log-uniform part.
        high: largest level of the log-uniform part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    centre: float = Field(0.2, gt=0)
    width: float = Field(1.3, gt=0)
    uniform_share: float = Field(0.15, ge=0, le=1)
    low: float = Field(0.005, gt=0)
    high: float = Field(20.0, gt=0)

    @model_validator(mode="after")
    def _ends_are_ordered(self) -> "LevelSampler":
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        return self

    def __call__(self, count: int, generator: torch.Generator) -> Float[Tensor, "b"]:
        """Return ``count`` levels, stratified, float64."""
        quantile = (torch.randperm(count, generator=generator) + _uniform(count, generator)) / count
        normal = math.log(self.centre) + self.width * torch.special.ndtri(quantile.clamp(1e-6, 1 - 1e-6))
        uniform = math.log(self.low) + (math.log(self.high) - math.log(self.low)) * quantile
        pick = _uniform(count, generator) < self.uniform_share
        return torch.where(pick, uniform, normal).exp().clamp(self.low, self.high)


def _uniform(count: int, generator: torch.Generator) -> Float[Tensor, "b"]:
    return torch.rand(count, generator=generator, dtype=torch.float64)


def squared_errors(denoiser: NetworkDenoiser, batch: Batch) -> Float[Tensor, ""]:
    """Return the sum of squared errors of the network's output over all values of ``batch``."""
    alpha, sigma = broadcast_scales(denoiser.schedule, batch.x, batch.t)
    denoiser = denoiser.of_classes(batch.labels)
    output = denoiser.raw(alpha * batch.x + sigma * batch.noise, batch.t)
    target = denoiser.parametrisation.target(batch.x, batch.noise, alpha, sigma)
    return torch.sum((output.to(target.dtype) - answered(target, output)) ** 2)


def answered(fields: Float[Tensor, "b k ..."], output: Float[Tensor, "b e ..."]) -> Float[Tensor, "b e ..."]:
    """Return the slices that a network answers: all, or the middle one of neighbours."""
    first = (fields.shape[1] - output.shape[1]) // 2
    return fields[:, first : first + output.shape[1]]
