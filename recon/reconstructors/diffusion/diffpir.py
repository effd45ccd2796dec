r"""DiffPIR: denoising diffusion models for plug-and-play image restoration (Zhu et al., CVPRW 2023, arXiv 2305.08995).

At every level s the data term is met exactly around the network's estimate D, and the noise is read off afterwards:

    X = argmin 1/2 ||W^(1/2) (A X - y)||^2 + rho_s / 2 ||X - D||^2,     rho_s = lambda / s^2
    e = (u - X) / s
    u <- X + r (sqrt(1 - zeta) e + sqrt(zeta) z)

With W the inverse variances, the paper's lambda sigma_n^2 / s^2 is lambda / s^2.
"""

from typing import Literal

import torch
from pydantic import Field

from recon.reconstructors.diffusion.base import Advance, DiffusionReconstructor, NoiseLevel
from recon.reconstructors.diffusion.coupling import AdmmCoupling
from recon.reconstructors.diffusion.ladder import Ladder, LinearBetas
from recon.reconstructors.diffusion.noise import noise_like
from recon.reconstructors.diffusion.problem import NerdProblem
from recon.reconstructors.diffusion.state import DiffusionState


class DiffPIR(DiffusionReconstructor):
    """Plug-and-play restoration along a diffusion.

    Attributes:
        ladder: the noise levels.
        weight: lambda, the weight of the network's estimate.
        zeta: share of fresh noise.
        iterations: conjugate-gradient steps per level.
    """

    name: Literal["diffpir"] = "diffpir"
    warm_start: Literal["tv", "fbp", "noise"] = "noise"
    ladder: Ladder = LinearBetas(levels=100)
    coupling: AdmmCoupling = AdmmCoupling(rho=0)
    weight: float = Field(7.0, gt=0)
    zeta: float = Field(0.3, ge=0, le=1)
    iterations: int = Field(10, ge=1)

    @property
    def through_network(self) -> bool:
        """See `DiffusionReconstructor`."""
        return False

    def sequence(self, largest: float, hu: float) -> list[float]:
        """See `DiffusionReconstructor`."""
        return self.ladder.sequence(largest, hu)

    def advance(
        self, problem: NerdProblem, state: DiffusionState, now: NoiseLevel, generator: torch.Generator
    ) -> Advance:
        """See `DiffusionReconstructor`."""
        estimate = problem.denoise(state.u, now.level)
        weight = self.weight / now.level**2
        x = problem.data_solve(
            estimate, state.duals, start=estimate, weight=weight, iterations=self.iterations
        )
        duals = problem.update_duals(state.duals, x, convexity=weight)
        noise = (1 - self.zeta) ** 0.5 * (state.u - x) / now.level
        noise = noise + self.zeta**0.5 * noise_like(x, generator)
        return Advance(x + now.after * noise, x, duals, {})
