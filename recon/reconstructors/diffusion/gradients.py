r"""Methods that move along a gradient: DPS and RED-diff.

DPS (Chung et al., ICLR 2023, arXiv 2209.14687) follows ancestral sampling and pulls along the gradient of the misfit's
norm *through the network*, which costs a vector-Jacobian product per level:

    u' = D + sqrt(r^2 - k^2) e + k z,  k = r sqrt(1 - r^2 / s^2);      u <- u' - c J(u).T A.T W (A D - y) / L_A

with L_A = ||W^(1/2) A||^2, so that c = 1 is the longest step that is stable for a linear network; the paper divides by
the norm of the misfit instead, which has another unit for every scanner.

RED-diff (Mardani et al., ICLR 2024, arXiv 2305.04391) moves a volume m by Adam along

    A.T W (A m - y) / L_A + lambda s (e - z),      e = (m + s z - D(m + s z)) / s,   no gradient through the network,

with fresh z at every level, from large levels to small ones.
"""

from typing import Literal

import torch
from pydantic import Field

from recon.reconstructors.diffusion.base import (
    Advance,
    DiffusionReconstructor,
    NoiseLevel,
    Volumes,
)
from recon.reconstructors.diffusion.coupling import AdmmCoupling
from recon.reconstructors.diffusion.ladder import Ladder, LinearBetas
from recon.reconstructors.diffusion.noise import noise_like
from recon.reconstructors.diffusion.problem import NerdProblem
from recon.reconstructors.diffusion.state import DiffusionState

MOMENTS = ("first moment", "second moment")


class DPS(DiffusionReconstructor):
    """Diffusion posterior sampling.

    Attributes:
        ladder: the noise levels.
        step: c, relative to the longest stable step.
    """

    name: Literal["dps"] = "dps"
    warm_start: Literal["tv", "fbp", "noise"] = "noise"
    ladder: Ladder = LinearBetas(levels=1000)
    coupling: AdmmCoupling = AdmmCoupling(rho=0)
    step: float = Field(1.0, gt=0)

    def sequence(self, largest: float, hu: float) -> list[float]:
        """See `DiffusionReconstructor`."""
        return self.ladder.sequence(largest, hu)

    def advance(
        self, problem: NerdProblem, state: DiffusionState, now: NoiseLevel, generator: torch.Generator
    ) -> Advance:
        """See `DiffusionReconstructor`."""
        x = problem.denoise(state.u, now.level)
        pull = problem.vjp(state.u, problem.data.gradient(problem.data.residual(x)), now.level)
        fresh = now.after * max(0.0, 1 - (now.after / now.level) ** 2) ** 0.5
        kept = max(0.0, now.after**2 - fresh**2) ** 0.5
        u = x + kept / now.level * (state.u - x) + fresh * noise_like(x, generator)
        u = u - self.step / problem.data.curvature() * pull
        return Advance(u, x, state.duals, {})


class REDDiff(DiffusionReconstructor):
    """Regularisation by denoising along a diffusion: a variational posterior with one mode.

    Attributes:
        ladder: the noise levels.
        learning_rate_hu: Adam's.
        weight: lambda, the weight of the denoiser.
    """

    name: Literal["red-diff"] = "red-diff"
    warm_start: Literal["tv", "fbp"] = "fbp"
    ladder: Ladder = LinearBetas(levels=1000)
    coupling: AdmmCoupling = AdmmCoupling(rho=0)
    learning_rate_hu: float = Field(100.0, gt=0)
    weight: float = Field(0.25, gt=0)

    @property
    def through_network(self) -> bool:
        """See `DiffusionReconstructor`: the network's answer is held fixed."""
        return False

    def sequence(self, largest: float, hu: float) -> list[float]:
        """See `DiffusionReconstructor`."""
        return self.ladder.sequence(largest, hu)

    def advance(
        self, problem: NerdProblem, state: DiffusionState, now: NoiseLevel, generator: torch.Generator
    ) -> Advance:
        """See `DiffusionReconstructor`; the duals hold Adam's moments."""
        noise = noise_like(state.x, generator)
        u = state.x + now.level * noise
        estimate = problem.denoise(u, now.level)
        gradient = problem.data.gradient(problem.data.residual(state.x)) / problem.data.curvature()
        gradient = gradient + self.weight * (u - estimate - now.level * noise)
        move, moments = adam(gradient, state.duals, count=state.done + 1)
        x = state.x - self.learning_rate_hu / problem.hu * move
        return Advance(x, x, {**state.duals, **moments}, {})


def adam(
    gradient: Volumes, moments: dict[str, torch.Tensor], *, count: int
) -> tuple[Volumes, dict[str, torch.Tensor]]:
    """Return Adam's unit step along a gradient and its moments (0.9, 0.999; Kingma and Ba 2015)."""
    first, second = (moments.get(name, torch.zeros_like(gradient)) for name in MOMENTS)
    first, second = first.lerp(gradient, 0.1), second.lerp(gradient**2, 0.001)
    scale = (second / (1 - 0.999**count)).sqrt() + 1e-8
    return first / (1 - 0.9**count) / scale, dict(zip(MOMENTS, (first, second), strict=True))
