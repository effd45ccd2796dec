r"""DiffusionMBIR (Chung et al., CVPR 2023, arXiv 2211.10655): a 2-D prior within slices, total variation between them.

A variance-exploding predictor-corrector walks down many levels; after each of its two network calls one ADMM step on

    1/2 ||W^(1/2) (A X - y)||^2 + tau ||D_z X||_1

starts from the sample itself (a few conjugate-gradient steps, no pull toward the network's estimate), and its duals are
kept from level to level. With score = (D - u) / s^2:

    predictor   u <- u + (s^2 - r^2) score + sqrt(r^2 (s^2 - r^2) / s^2) z                    ancestral
    corrector   u <- u + h score + sqrt(2 h) z,   h = 2 (snr ||z|| / ||score||)^2             Langevin
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
from recon.reconstructors.diffusion.ladder import Geometric, Ladder
from recon.reconstructors.diffusion.noise import noise_like
from recon.reconstructors.diffusion.problem import NerdProblem
from recon.reconstructors.diffusion.state import DiffusionState


class DiffusionMBIR(DiffusionReconstructor):
    """Model-based iterative reconstruction along a variance-exploding diffusion.

    Attributes:
        ladder: the noise levels.
        snr: length of the corrector's step.
        iterations: conjugate-gradient steps after every network call.
    """

    name: Literal["diffusion-mbir"] = "diffusion-mbir"
    warm_start: Literal["tv", "fbp", "noise"] = "noise"
    ladder: Ladder = Geometric(levels=2000, start_hu=378e3, stop_hu=10.0)
    coupling: AdmmCoupling = AdmmCoupling()
    snr: float = Field(0.16, ge=0)
    iterations: int = Field(1, ge=1)

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
        s, r = now.level, now.after
        estimate = problem.denoise(state.u, s)
        spread = (r**2 * max(0.0, s**2 - r**2)) ** 0.5 / s
        u = state.u + (1 - (r / s) ** 2) * (estimate - state.u) + spread * noise_like(state.u, generator)
        u, duals = self._meet_data(problem, u, state.duals)
        if r > 0 and self.snr > 0:
            score = (problem.denoise(u, r) - u) / r**2
            noise = noise_like(u, generator)
            length = 2 * (self.snr * noise.norm() / score.norm().clamp(min=1e-12)) ** 2
            u, duals = self._meet_data(problem, u + length * score + (2 * length).sqrt() * noise, duals)
        # The sample itself is the estimate, as published: its last level is below the noise of an image.
        return Advance(u, u, duals, {})

    def _meet_data(
        self, problem: NerdProblem, u: Volumes, duals: dict[str, torch.Tensor]
    ) -> tuple[Volumes, dict[str, torch.Tensor]]:
        x = problem.data_solve(u, duals, start=u, weight=0.0, iterations=self.iterations)
        return x, problem.update_duals(duals, x, convexity=problem.coupling.rho)
