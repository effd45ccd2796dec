r"""DDS and DDS 3-D: decomposed diffusion sampling (Chung et al., ICLR 2024, arXiv 2303.05754).

At every level s: one look of the network, a few conjugate-gradient steps from its estimate D on

    (A.T W A + g I) X = A.T W y + g D          DDS;  g = 0 leaves the regularisation to the short Krylov space

and a DDIM step with the network's own noise estimate e = (u - D) / s:

    u <- X + sqrt(r^2 - k^2) e + k z,   k = eta r sqrt(1 - r^2 / s^2)

DDS 3-D puts the same solve inside one ADMM step per level with tau ||D_z X||_1, whose duals are kept between levels.
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


class DDS(DiffusionReconstructor):
    """Decomposed diffusion sampling, slice by slice.

    Attributes:
        ladder: the noise levels.
        iterations: conjugate-gradient steps per level.
        pull: g, the weight of the network's estimate as an inverse variance per (1000 HU)^2; 0 as published.
        eta: share of fresh noise in DDIM; 1 is ancestral sampling.
    """

    name: Literal["dds"] = "dds"
    warm_start: Literal["tv", "fbp", "noise"] = "noise"
    ladder: Ladder = LinearBetas(levels=50)
    coupling: AdmmCoupling = AdmmCoupling(rho=0)
    iterations: int = Field(5, ge=1)
    pull: float = Field(0.0, ge=0)
    eta: float = Field(0.85, ge=0, le=1)

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
        weight = self.pull * (problem.hu / 1000) ** 2
        x = problem.data_solve(
            estimate, state.duals, start=estimate, weight=weight, iterations=self.iterations
        )
        figures = {"dual_residual": problem.dual_residual(state.duals, x)} if problem.coupled else {}
        duals = problem.update_duals(state.duals, x, convexity=max(weight, problem.coupling.rho))
        fresh = self.eta * now.after * max(0.0, 1 - (now.after / now.level) ** 2) ** 0.5
        kept = max(0.0, now.after**2 - fresh**2) ** 0.5
        u = x + kept / now.level * (state.u - estimate) + fresh * noise_like(x, generator)
        return Advance(u, x, duals, figures)


class DDS3D(DDS):
    """DDS with total variation between slices, as published; the dual of ADMM lives through all levels."""

    name: Literal["dds-3d"] = "dds-3d"  # type: ignore[assignment]
    coupling: AdmmCoupling = AdmmCoupling()
