r"""Few-step priors: a network that jumps along the flow from noise to data, trained from flow matching to mean flow.

On the straight line x_t = (1 - t) x + t z, r < t, the network learns the mean velocity between two times,

    u(x_t, r, t) = (x_t - x_r) / (t - r),    x_r on the flow's path through x_t

With v = z - x and D = a (t - r) the target is

    a in (0, 1]    u* = a v + (1 - a) u(x_t - D v, r, t - D)      a = 1 is flow matching for every jump
    a = 0          u* = v - (t - r) (v . d_x u + d_t u)           mean flow, the limit: one forward derivative

``a`` falls from 1 to 0 in the course of a run. A share of the samples does not jump, r = t, and regresses on v:

    u(x_t, t, t) = E[z - x | x_t],     E[x | x_t] = x_t - t u(x_t, t, t)

and the prior is one of flow matching for everybody who asks for a conditional mean. Those samples keep the plain
squared error: a weight that depends on the error would move the mean that everybody relies on. The others are
weighted by 1 / (mean square error of the sample + c), as the sources have it.

Sources: alpha-Flow, Zhang et al. 2025 (arXiv 2510.20771); mean flow, Geng et al. 2025 (arXiv 2505.13447).
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from priors.diffusion.denoiser import NetworkDenoiser, broadcast_scales
from priors.training.task import Batch

STEEPNESS = 12.0
"""Of the sigmoid between the two shares of the run: at them ``a`` is within 0.3 % of its ends."""


class Denoising(BaseModel):
    """The conditional mean at one noise level: denoising, flow matching or an interpolant by schedule and output."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["denoising"] = "denoising"


class FewStep(BaseModel):
    """Mean velocities of a flow, for samples in a few calls.

    Attributes:
        still: share of samples that do not jump: what E[x | x_t] is learned from.
        begin: share of the run after which ``a`` begins to fall from 1.
        end: share of the run at which it is 0.
        floor: values of ``a`` nearer to 0 or 1 than this are 0 or 1.
        robust: c in the weight of samples that jump.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["few-step"] = "few-step"
    still: float = Field(0.5, gt=0, lt=1)
    begin: float = Field(0.3, ge=0, le=1)
    end: float = Field(0.8, ge=0, le=1)
    floor: float = Field(0.005, ge=0, lt=0.5)
    robust: float = Field(1e-3, gt=0)

    @model_validator(mode="after")
    def _shares_are_ordered(self) -> "FewStep":
        if not self.begin < self.end:
            raise ValueError(f"begin ({self.begin:g}) must be below end ({self.end:g})")
        return self

    def mixing(self, share: float) -> float:
        """Return ``a`` after a share of the run."""
        progress = (share - self.begin) / (self.end - self.begin)
        a = 1 / (1 + math.exp(min(700.0, STEEPNESS * (progress - 0.5))))
        return 0.0 if a < self.floor else 1.0 if a > 1 - self.floor else a

    def jumps(self, sigma: Float[Tensor, "b"], generator: torch.Generator) -> Float[Tensor, "b"]:
        """Return how far every sample jumps from its time ``sigma``: not at all, or to a uniform earlier time."""
        moving = torch.rand(len(sigma), generator=generator, dtype=torch.float64) >= self.still
        return moving * sigma * torch.rand(len(sigma), generator=generator, dtype=torch.float64)


def few_step_errors(denoiser: NetworkDenoiser, batch: Batch, *, objective: FewStep) -> Float[Tensor, ""]:
    """Return the sum of weighted squared errors of the mean velocity.

    Args:
        denoiser: a flow network that is told its jump, under the rectified schedule.
        batch: with ``jump`` and ``mixing``.
        objective: what it is.
    """
    assert batch.jump is not None
    denoiser = denoiser.of_classes(batch.labels)
    alpha, sigma = broadcast_scales(denoiser.schedule, batch.x, batch.t)
    state, velocity = alpha * batch.x + sigma * batch.noise, batch.noise - batch.x
    output = denoiser.raw(state, batch.t, jump=batch.jump)
    target = mean_velocity(denoiser, state, velocity, batch=batch)
    errors = (output.to(target.dtype) - target) ** 2
    per_sample = errors.detach().flatten(1).mean(1)
    # At a = 0 the source's weight would be 0 where its errors vanish as a^2: mean flow counts fully.
    weight = (batch.mixing or 1.0) / (per_sample + objective.robust)
    weight = torch.where(batch.jump.to(weight.device) == 0, 1.0, weight)
    return (weight.reshape(-1, *(1,) * (errors.ndim - 1)) * errors).sum()


@torch.no_grad()
def mean_velocity(
    denoiser: NetworkDenoiser,
    state: Float[Tensor, "b ..."],
    velocity: Float[Tensor, "b ..."],
    *,
    batch: Batch,
) -> Float[Tensor, "b ..."]:
    """Return the target of the mean velocity between the times of a batch; see the module's text."""
    jump, a, schedule = batch.jump, batch.mixing, denoiser.schedule
    assert jump is not None
    if a == 1.0:
        return velocity
    # Derivatives are taken in single precision: bfloat16 has three digits.
    exact = denoiser.with_settings(reduced=False)
    shape = (-1, *(1,) * (state.ndim - 1))
    length = jump.to(state).reshape(shape)
    if a == 0.0:
        # One unit of sigma in units of the schedule's time.
        ends = schedule(torch.tensor([0.0, 1.0], dtype=torch.float64))[1]
        rate = torch.full_like(batch.t, 1 / float(ends[1] - ends[0]))

        def answer(x: Tensor, t: Tensor, by: Tensor) -> Tensor:
            return exact.raw(x, t, jump=by)

        tangents = (velocity, rate, torch.ones_like(jump))
        change = torch.func.jvp(answer, (state, batch.t, jump), tangents)[1]
        target = velocity - length * change
    else:
        sigma = schedule(batch.t)[1] - a * jump
        before = schedule.inverse(sigma / (1 - sigma))
        target = a * velocity + (1 - a) * exact.raw(
            state - a * length * velocity, before, jump=(1 - a) * jump
        )
    return torch.where((jump == 0).reshape(shape).to(state.device), velocity, target)
