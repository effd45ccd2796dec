r"""NERD: network-regularized diffusion sampling for 3-D CT (arXiv 2511.14680), with a pretrained 2-D prior.

At each noise level s of a decreasing sequence the state u = X + s z is turned into a volume that agrees with the
measurement, with the network and between slices:

    min over V    1/2 ||W^(1/2) (A f_s(V) - y)||^2 + lambda/2 ||V - u||^2 + tau ||D f_s(V)||_1

(`refine` says how), is moved on in the direction it came (X_ is the volume of the level before), and is given
fresh noise of the next level r:

    u <- X + m (X - X_) + r (sqrt(1 - zeta) e + sqrt(zeta) z),      e = (V - f_s(V)) / s

With m = 0 the volume is still on its way to the fixed point of a level when that level ends; the momentum m (Nesterov's
extrapolation) lets half as many levels do. Every other level looks at the mirror image of every slice, which training
saw equally often (as the prior's card says): what the network does to one side only averages out, at no cost.

Recipes of one loop. ``nerd-fast`` and ``nerd-thorough`` need no Jacobian (CG). ``nerd-admm`` and ``nerd-pdhg`` run such
levels first and then refine through the network (vjp) from that result, with ADMM or PDHG for the coupling. All
start from a total-variation or filtered-backprojection volume at a moderate noise level instead of pure noise.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat
from torch import Tensor

from priors.card import card_of_prior
from recon.operators.base import LinearOperator
from recon.reconstructors.base import Measurement, Rehearsal, RunContext
from recon.reconstructors.diffusion.base import Advance, DiffusionReconstructor, NoiseLevel, Volumes
from recon.reconstructors.diffusion.coupling import PdhgCoupling, in_units
from recon.reconstructors.diffusion.nerd.automatic import Auto, Levels, choose, errors_of, settled
from recon.reconstructors.diffusion.nerd.evidence import expected_error_hu
from recon.reconstructors.diffusion.nerd.refine import CgRefinement, Refined, VjpRefinement
from recon.reconstructors.diffusion.noise import noise_like
from recon.reconstructors.diffusion.problem import NerdProblem
from recon.reconstructors.diffusion.state import DiffusionState

# One lap of a rehearsal is at the mercy of whatever else the machine does in that second; the mean of three is not.
REHEARSED_LEVELS = 4


class Stage(BaseModel, ABC):
    """A decreasing sequence of noise levels with one way to refine them.

    Attributes:
        levels: how many.
        zeta: share of fresh noise in the next state; 1 forgets the direction of the last one.
        momentum: m, how far the state is moved on along the last change of the volume.
        mirror: look at mirror images every other level.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    levels: int = Field(ge=1)
    zeta: float = Field(0.3, ge=0, le=1)
    momentum: float = Field(0.75, ge=0, lt=1)
    mirror: bool = True

    @abstractmethod
    def ends(self) -> tuple[float, float]:
        """Return the first and the last level in HU."""

    def sequence(self, hu: float) -> list[float]:
        """Return the noise levels in network units of so many HU, geometric, largest first."""
        start, stop = (end / hu for end in self.ends())
        if self.levels == 1:
            return [start]
        ratio = (stop / start) ** (1 / (self.levels - 1))
        return [start * ratio**k for k in range(self.levels)]


class CgStage(Stage):
    """Levels refined without the network's Jacobian.

    Attributes:
        start_hu: first noise level; ``auto`` takes it from the scan, see `automatic`.
        stop_hu: last one, likewise.
    """

    start_hu: PositiveFloat | Auto = "auto"
    stop_hu: PositiveFloat | Auto = "auto"
    refine: CgRefinement = CgRefinement()

    def ends(self) -> tuple[float, float]:
        """See `Stage`."""
        return settled(self.start_hu), settled(self.stop_hu)

    @property
    def automatic(self) -> bool:
        """Whether a level waits for the scan."""
        return "auto" in (self.start_hu, self.stop_hu)

    def resolved(self, levels: Levels) -> "CgStage":
        """Return the stage with numbers in place of every ``auto``; a number that was given stays as it is."""
        start = levels.start_hu if self.start_hu == "auto" else self.start_hu
        stop = levels.stop_hu if self.stop_hu == "auto" else self.stop_hu
        # Levels fall: a given end moves the one that follows the scan.
        if self.stop_hu == "auto":
            stop = min(stop, start)
        if self.start_hu == "auto":
            start = max(stop, start)
        return self.model_copy(update={"start_hu": start, "stop_hu": stop})


class VjpStage(Stage):
    """Levels refined through the network.

    Attributes:
        start_hu: first noise level.
        stop_hu: last one.
    """

    start_hu: float = Field(gt=0)
    stop_hu: float = Field(gt=0)
    refine: VjpRefinement = VjpRefinement()

    def ends(self) -> tuple[float, float]:
        """See `Stage`."""
        return self.start_hu, self.stop_hu


QUICK = CgStage(levels=20)
THOROUGH = CgStage(levels=30)
THROUGH_NETWORK = VjpStage(levels=3, start_hu=24.0, stop_hu=16.0, zeta=1.0, momentum=0.0)


@dataclass(frozen=True)
class NerdLevel(NoiseLevel):
    """A noise level with its stage and whether the network is shown mirror images."""

    stage: CgStage | VjpStage
    mirrored: bool


class Nerd(DiffusionReconstructor, ABC):
    """What the recipes share.

    Attributes:
        fast: the Jacobian-free levels.
    """

    fast: CgStage = QUICK

    @property
    def automatic(self) -> bool:
        """See `Reconstructor`."""
        return self.fast.automatic

    def resolved(self, measurement: Measurement, projector: LinearOperator) -> "Nerd":
        """See `Reconstructor`: what is ``auto`` becomes what the scan asks for."""
        if not self.automatic:
            return self
        error = expected_error_hu(measurement, projector, model_error=self.model_error)
        levels = choose(error, errors_of(card_of_prior(self.prior)))
        return self.model_copy(update={"fast": self.fast.resolved(levels)})

    def __call__(self, measurement: Measurement, projector: LinearOperator, context: RunContext) -> Volumes:
        """See `Reconstructor`."""
        return super(Nerd, self.resolved(measurement, projector)).__call__(measurement, projector, context)

    def sequence(self, largest: float, hu: float) -> list[float]:
        """See `DiffusionReconstructor`."""
        return [level for stage in self._stage_list() for level in stage.sequence(hu)]

    def levels(self, largest: float = math.inf, hu: float = 1000.0) -> list[NerdLevel]:
        """Return every noise level of the run, in order."""
        stages = [stage for stage in self._stage_list() for _ in stage.sequence(hu)]
        return [
            NerdLevel(now.level, now.after, stage, mirrored=stage.mirror and number % 2 == 1)
            for number, (now, stage) in enumerate(zip(super().levels(largest, hu), stages, strict=True))
        ]

    @property
    def through_network(self) -> bool:
        """See `DiffusionReconstructor`."""
        return any(isinstance(stage, VjpStage) for stage in self._stage_list())

    def told(self, now: NoiseLevel) -> float:
        """See `DiffusionReconstructor`: more than was added, for the estimate's own error."""
        assert isinstance(now, NerdLevel)
        return now.stage.refine.overestimate * now.level

    def _stage_list(self) -> list[CgStage | VjpStage]:
        return [self.fast]

    def rehearsal(self) -> Rehearsal:
        """See `Reconstructor`: some levels of every stage; the first carries the start-up and stands for itself."""
        stages = {"fast": self.fast, "refine": getattr(self, "refine", None)}
        short, stands_for = {}, []
        for name, stage in stages.items():
            if stage is None:
                continue
            tried = min(REHEARSED_LEVELS, stage.levels)
            short[name] = stage.model_copy(update={"levels": tried})
            stands_for += [1.0] + (tried - 1) * [(stage.levels - 1) / max(1, tried - 1)]
        return Rehearsal(self.model_copy(update=short), tuple(stands_for))

    def _through_network(
        self, problem: NerdProblem, state: DiffusionState
    ) -> tuple[NerdProblem, dict[str, Tensor]]:
        """Return problem and duals of a level that is refined through the network."""
        return problem, state.duals

    def advance(
        self, problem: NerdProblem, state: DiffusionState, now: NoiseLevel, generator: torch.Generator
    ) -> Advance:
        """Refine, then move on and add the noise of the next level."""
        assert isinstance(now, NerdLevel)
        stage, duals, whole = now.stage, state.duals, problem
        if problem.coupled and isinstance(stage, VjpStage):
            problem, duals = self._through_network(problem, state)
        problem = replace(problem, mirrored=problem.mirrorable and now.mirrored)
        refined: Refined = stage.refine(problem, state.u, duals, now.level)
        # A chunk that was halved in the copy stays halved.
        whole.chunk = problem.chunk
        fresh = noise_like(refined.x, generator)
        # Square roots of the shares: independent parts of unit variance sum to unit variance.
        kept = math.sqrt(1 - stage.zeta) * refined.noise + math.sqrt(stage.zeta) * fresh
        # The warm start is not a level: its change to the first volume is no direction to go on in.
        momentum = stage.momentum if state.done else 0.0
        u = refined.x + momentum * (refined.x - state.x) + now.after * kept
        return Advance(u, refined.x, refined.duals, refined.figures)


class NerdFast(Nerd):
    """Jacobian-free levels only."""

    name: Literal["nerd-fast"] = "nerd-fast"


class NerdThorough(Nerd):
    """Twice as many Jacobian-free levels."""

    name: Literal["nerd-thorough"] = "nerd-thorough"
    fast: CgStage = QUICK.model_copy(update={"levels": 40})


class NerdAdmm(Nerd):
    """Jacobian-free levels, then levels through the network, ADMM for the coupling."""

    name: Literal["nerd-admm"] = "nerd-admm"
    fast: CgStage = THOROUGH
    refine: VjpStage = THROUGH_NETWORK

    def _stage_list(self) -> list[CgStage | VjpStage]:
        return [self.fast, self.refine]


class NerdPdhg(Nerd):
    """Jacobian-free levels, then levels through the network with PDHG for the coupling.

    PDHG continues the multiplier that ADMM built up in the implicit Jacobian-free levels, where its own explicit dual
    step would have to be very short.
    """

    name: Literal["nerd-pdhg"] = "nerd-pdhg"
    fast: CgStage = THOROUGH
    refine_coupling: PdhgCoupling = PdhgCoupling()
    refine: VjpStage = THROUGH_NETWORK

    def _stage_list(self) -> list[CgStage | VjpStage]:
        return [self.fast, self.refine]

    def _through_network(
        self, problem: NerdProblem, state: DiffusionState
    ) -> tuple[NerdProblem, dict[str, Tensor]]:
        duals = state.duals
        if "p" not in duals:
            duals = self.refine_coupling.adopt(duals, state.x, problem.differences, rho=problem.coupling.rho)
        return replace(problem, coupling=in_units(self.refine_coupling, problem.hu)), duals
