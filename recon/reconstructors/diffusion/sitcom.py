r"""SITCOM: step-wise triple-consistent sampling (Alkhouri et al., ICML 2025), which NERD extends by slices.

At every level the *input* V of the network is moved by K Adam steps on

    ||W^(1/2) (A f(V) - y)||^2 + lambda ||V - u||^2,      V = u at first,

and all of the noise is fresh: u <- f(V) + r z. It is the refinement through the network of ``nerd-admm`` without
coupling, polish and overestimate.
"""

from typing import Literal

import torch

from recon.reconstructors.diffusion.base import Advance, DiffusionReconstructor, NoiseLevel
from recon.reconstructors.diffusion.coupling import AdmmCoupling
from recon.reconstructors.diffusion.ladder import Geometric, Ladder
from recon.reconstructors.diffusion.nerd.refine import VjpRefinement
from recon.reconstructors.diffusion.noise import noise_like
from recon.reconstructors.diffusion.problem import NerdProblem
from recon.reconstructors.diffusion.state import DiffusionState


class SITCOM(DiffusionReconstructor):
    """Step-wise triple-consistent sampling, slice by slice.

    Attributes:
        ladder: the noise levels.
        refine: the steps through the network at each.
    """

    name: Literal["sitcom"] = "sitcom"
    warm_start: Literal["tv", "fbp", "noise"] = "noise"
    ladder: Ladder = Geometric(levels=20, start_hu=20e3, stop_hu=20.0)
    coupling: AdmmCoupling = AdmmCoupling(rho=0)
    refine: VjpRefinement = VjpRefinement(
        iterations=20, learning_rate_hu=20.0, overestimate=1.0, polish=None, kappa=1.02
    )

    def sequence(self, largest: float, hu: float) -> list[float]:
        """See `DiffusionReconstructor`."""
        return self.ladder.sequence(largest, hu)

    def advance(
        self, problem: NerdProblem, state: DiffusionState, now: NoiseLevel, generator: torch.Generator
    ) -> Advance:
        """See `DiffusionReconstructor`."""
        refined = self.refine(problem, state.u, state.duals, now.level)
        u = refined.x + now.after * noise_like(refined.x, generator)
        figures = {"inner_steps": refined.figures["inner_steps"]}
        return Advance(u, refined.x, refined.duals, figures)
