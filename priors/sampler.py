r"""Samplers: from noise to data, one step at a time. The base owns the loop; a leaf defines one step.

In u-coordinates (``u = x_t / alpha``, ``s = sigma / alpha``) every schedule looks alike, so the steps are
written there.
With ``x = E[x | x_t]`` and ``e = (u - x) / s``, one step goes from level s to a smaller level r:

    DDIM        u_r = x + sqrt(r^2 - k^2) e + k z,   k = eta r sqrt(1 - r^2 / s^2)
    Heun        u_r = u + (r - s) (e + e') / 2, e' from a second evaluation at the Euler point
    Multistep   u_r = (r / s) u + (1 - r / s) ((1 + c) x - c x_before),  c = log(s/r) / (2 log(s_before/s))

Sources: DDIM, Song et al. 2021 (arXiv 2010.02502), eta = 1 is ancestral sampling (DDPM, Ho et al. 2020);
Heun, Karras et al. 2022 (arXiv 2206.00364, Alg. 1); multistep, DPM-Solver++ (2M), Lu et al. 2022 (arXiv
2211.01095).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from priors.denoiser import Denoiser

States = Float[Tensor, "b ..."]


@dataclass(frozen=True)
class SamplerState:
    """A diffusion state in u-coordinates, and the step before it where the method remembers one."""

    u: States
    level: float
    previous_clean: States | None = None
    previous_level: float = math.nan


class Sampler(BaseModel, ABC):
    """Interface; ``steps`` is the number of noise levels between the first and the clean end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(50, ge=1)

    @abstractmethod
    def step(
        self, state: SamplerState, level: float, *, denoiser: Denoiser, generator: torch.Generator
    ) -> SamplerState:
        """Return the state at the smaller noise level ``level``."""

    def sample(
        self,
        denoiser: Denoiser,
        x_1: States,
        *,
        generator: torch.Generator,
        on_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> States:
        """Return E[x | x_t] at the last level of a trajectory that starts from ``x_1`` at time 1.

        Args:
            denoiser: the prior.
            x_1: noise of deviation sigma(1), plus alpha(1) times data if there is any.
            generator: source of every draw.
            on_step: called as ``on_step(done, total)``.
        """
        times = torch.linspace(1, 0, self.steps + 1, dtype=torch.float64)
        levels = denoiser.schedule.ratio(times).tolist()
        alpha = float(denoiser.schedule(times[:1])[0])
        state = SamplerState(x_1 / alpha, levels[0])
        for done, level in enumerate(levels[1:], start=1):
            state = self.step(state, level, denoiser=denoiser, generator=generator)
            on_step(done, self.steps)
        return clean_estimate(denoiser, state.u, state.level)


def clean_estimate(denoiser: Denoiser, u: States, level: float) -> States:
    """Return E[x | u] for a state in u-coordinates at noise level ``level``."""
    t = denoiser.schedule.inverse(torch.full((len(u),), level, dtype=torch.float64))
    alpha = denoiser.schedule(t)[0].to(u).reshape(-1, *(1,) * (u.ndim - 1))
    estimate: Tensor = denoiser(alpha * u, t.to(u.device))
    return estimate


class DDIM(Sampler):
    """First order; ``eta`` is the share of fresh noise, 0 deterministic, 1 ancestral."""

    name: Literal["ddim"] = "ddim"
    eta: float = Field(0.0, ge=0, le=1)

    def step(
        self, state: SamplerState, level: float, *, denoiser: Denoiser, generator: torch.Generator
    ) -> SamplerState:
        """See `Sampler`."""
        x = clean_estimate(denoiser, state.u, state.level)
        fresh = self.eta * level * math.sqrt(max(0.0, 1 - (level / state.level) ** 2))
        kept = math.sqrt(level**2 - fresh**2)
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        return SamplerState(x + (kept / state.level) * (state.u - x) + fresh * z, level)


class Heun(Sampler):
    """Second order by a second evaluation per step."""

    name: Literal["heun"] = "heun"

    def step(
        self, state: SamplerState, level: float, *, denoiser: Denoiser, generator: torch.Generator
    ) -> SamplerState:
        """See `Sampler`."""
        slope = (state.u - clean_estimate(denoiser, state.u, state.level)) / state.level
        guess = state.u + (level - state.level) * slope
        second = (guess - clean_estimate(denoiser, guess, level)) / level
        return SamplerState(state.u + 0.5 * (level - state.level) * (slope + second), level)


class Multistep(Sampler):
    """Second order from the step before, one evaluation per step."""

    name: Literal["multistep"] = "multistep"

    def step(
        self, state: SamplerState, level: float, *, denoiser: Denoiser, generator: torch.Generator
    ) -> SamplerState:
        """See `Sampler`."""
        x = clean_estimate(denoiser, state.u, state.level)
        aim = x
        if state.previous_clean is not None:
            weight = math.log(state.level / level) / (2 * math.log(state.previous_level / state.level))
            aim = (1 + weight) * x - weight * state.previous_clean
        shrink = level / state.level
        return SamplerState(shrink * state.u + (1 - shrink) * aim, level, x, state.level)


AnySampler = Annotated[DDIM | Heun | Multistep, Field(discriminator="name")]
