r"""NERD: network-regularized diffusion sampling for 3-D CT (arXiv 2511.14680), with a pretrained 2-D prior.

At each noise level s of a decreasing sequence the state u = X + s z is turned into a volume that agrees with the
measurement, with the network and between slices:

    min over V    1/2 ||W^(1/2) (A f_s(V) - y)||^2 + lambda/2 ||V - u||^2 + tau ||D f_s(V)||_1

(`nerd_refine` says how), is moved on in the direction it came (X_ is the volume of the level before), and is given
fresh noise of the next level r:

    u <- X + m (X - X_) + r (sqrt(1 - zeta) e + sqrt(zeta) z),      e = (V - f_s(V)) / s

With m = 0 the volume is still on its way to the fixed point of a level when that level ends; the momentum m (Nesterov's
extrapolation) lets half as many levels do. Every other level looks at the mirror image of every slice, which training
saw equally often: what the network does to one side only averages out, at no cost.

Three recipes of one loop. ``nerd-fast`` replaces the Jacobian by the identity (CG). ``nerd-admm`` and ``nerd-pdhg`` run
the same levels and then refine through the network (vjp) from that result, with ADMM or PDHG for the coupling. All
start from a total-variation or filtered-backprojection volume at a moderate noise level instead of pure noise.
"""

import math
from abc import ABC
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from priors.card import Prior, find_prior, load_prior, read_card
from priors.diffusion.denoiser import DeviceName, resolved_device
from priors.runtime.errors import InputError
from priors.runtime.memory import MemoryPlan, available_bytes
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry
from recon.operators.differences import Differences
from recon.operators.projector import Projector
from recon.reconstructors.base import Measurement, Reconstructor, Rehearsal, RunContext, StepRecord
from recon.reconstructors.diffusion.coupling import AdmmCoupling, PdhgCoupling
from recon.reconstructors.diffusion.data_term import DataTerm, NetworkUnits
from recon.reconstructors.diffusion.problem import NerdProblem, slice_last
from recon.reconstructors.diffusion.refine import CgRefinement, Refined, VjpRefinement
from recon.reconstructors.diffusion.state import NerdState, fingerprint, load_state, save_state
from recon.reconstructors.fbp.fbp import FBP
from recon.reconstructors.tv import TV

Volumes = Float[Tensor, "z y x"]

# Bytes of activations per pixel of one slice in flight: the embedded U-Net's peak grows by 92 MiB per 256 x 256 slice.
GRAPH_BYTES_PER_PIXEL = 1500
BUFFERS = 9
# More slices at once gain nothing on a CPU, where their activations leave the last-level cache.
LARGEST_CHUNK = {"cpu": 4, "cuda": 16}


class Stage(BaseModel):
    """A decreasing sequence of noise levels with one way to refine them.

    Attributes:
        levels: how many.
        start: first noise level, network units.
        stop: last one.
        zeta: share of fresh noise in the next state; 1 forgets the direction of the last one.
        momentum: m, how far the state is moved on along the last change of the volume.
        mirror: look at mirror images every other level.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    levels: int = Field(ge=1)
    start: float = Field(gt=0)
    stop: float = Field(gt=0)
    zeta: float = Field(0.3, ge=0, le=1)
    momentum: float = Field(0.5, ge=0, lt=1)
    mirror: bool = True

    def sequence(self) -> list[float]:
        """Return the noise levels, geometric, largest first."""
        if self.levels == 1:
            return [self.start]
        ratio = (self.stop / self.start) ** (1 / (self.levels - 1))
        return [self.start * ratio**k for k in range(self.levels)]


class CgStage(Stage):
    """Levels refined without the network's Jacobian."""

    refine: CgRefinement = CgRefinement()


class VjpStage(Stage):
    """Levels refined through the network."""

    refine: VjpRefinement = VjpRefinement()


QUICK = CgStage(levels=20, start=0.5, stop=0.02, momentum=0.6)
THOROUGH = CgStage(levels=30, start=0.5, stop=0.02)
THROUGH_NETWORK = VjpStage(levels=3, start=0.024, stop=0.016, zeta=1.0, momentum=0.0)


@dataclass(frozen=True)
class NoiseLevel:
    """One noise level of a run: its size, the next one's (0 after the last), its stage, whether it is mirrored."""

    level: float
    after: float
    stage: CgStage | VjpStage
    mirrored: bool


class Nerd(Reconstructor, ABC):
    """What the three recipes share.

    Attributes:
        prior: name of an embedded prior, or a folder with a card.
        warm_start: reconstruction that the first state is made of.
        fast: the Jacobian-free levels.
        coupling: agreement of neighbouring slices.
        model_error: deviation of what the projector cannot represent, in line integral.
        chunk: slices per network call; None chooses from the free memory.
        device: where the network runs; auto takes a GPU if there is one. Everything else stays on the CPU.
    """

    prior: str = "ct-chest-256"
    warm_start: Literal["tv", "fbp"] = "tv"
    fast: CgStage = QUICK
    coupling: AdmmCoupling = AdmmCoupling()
    model_error: float = Field(0.004, ge=0)
    chunk: int | None = Field(None, ge=1)
    device: DeviceName = "auto"

    def levels(self) -> list[NoiseLevel]:
        """Return every noise level of the run, in order."""
        found = [(level, stage) for stage in self._stage_list() for level in stage.sequence()]
        following = [level for level, _ in found[1:]] + [0.0]
        return [
            NoiseLevel(level, after, stage, mirrored=stage.mirror and number % 2 == 1)
            for number, ((level, stage), after) in enumerate(zip(found, following, strict=True))
        ]

    def _stage_list(self) -> list[CgStage | VjpStage]:
        return [self.fast]

    def rehearsal(self) -> Rehearsal:
        """See `Reconstructor`: two levels of every stage; the first carries the start-up and stands for itself."""
        stages = {"fast": self.fast, "refine": getattr(self, "refine", None)}
        short, stands_for = {}, []
        for name, stage in stages.items():
            if stage is None:
                continue
            tried = min(2, stage.levels)
            short[name] = stage.model_copy(update={"levels": tried})
            stands_for += [1.0, float(stage.levels - 1)][:tried]
        return Rehearsal(self.model_copy(update=short), tuple(stands_for))

    def __call__(self, measurement: Measurement, projector: Projector, job: RunContext) -> Volumes:
        """See `Reconstructor`.

        Raises:
            InputError: unknown prior, a prior that is not in HU, or a checkpoint of another run.
        """
        prior = load_prior(self.prior, device=resolved_device(self.device).type)
        if prior.card.unit != "HU":
            raise InputError(f"prior {self.prior!r}: its unit is {prior.card.unit!r}, CT needs one in HU")
        units = NetworkUnits.of(prior.slices, mu_water=measurement.mu_water)
        problem = self._problem(measurement, projector, prior, units)
        mark = fingerprint(
            f"{self!r} {prior.card.sha256} {job.seed} {projector.geometry!r}",
            measurement.sinogram,
            measurement.weights,
        )
        state = self._first_state(measurement, projector, job, units=units, problem=problem, mark=mark)
        plan = self.levels()
        while state.done < len(plan):
            state = self._advance(problem, state, plan[state.done])
            if job.checkpoint is not None:
                save_state(state, job.checkpoint, mark=mark)
            job.on_step(StepRecord(state.done, len(plan), state.history[-1]))
        return units.attenuation(state.x)

    def plan(self, grid: Grid, geometry: ScanGeometry) -> MemoryPlan:
        """See `Reconstructor`: volume buffers, sinograms and the graph of one chunk."""
        voxels, rays = math.prod(grid.shape), geometry.views * math.prod(geometry.shape)
        card_bytes = (find_prior(self.prior) / read_card(find_prior(self.prior)).weights).stat().st_size
        return MemoryPlan(
            {
                "volume buffers": BUFFERS * 4 * voxels,
                "sinograms": 5 * 4 * rays,
                "network graph of one chunk": self._chunk_for(grid) * self._graph_bytes(grid),
                "prior weights": 2 * card_bytes,
            }
        )

    def _through_network(
        self, problem: NerdProblem, state: NerdState
    ) -> tuple[NerdProblem, dict[str, Tensor]]:
        """Return problem and duals of a level that is refined through the network."""
        return problem, state.duals

    @staticmethod
    def _graph_bytes(grid: Grid) -> int:
        return GRAPH_BYTES_PER_PIXEL * grid.shape[1] * grid.shape[2]

    def _chunk_for(self, grid: Grid) -> int:
        """Return the slices per network call: as asked, else at most a quarter of the free memory."""
        if self.chunk is not None:
            return min(self.chunk, grid.shape[0])
        device = resolved_device(self.device).type
        free = available_bytes() if device == "cpu" else torch.cuda.mem_get_info()[0]
        fitting = int(0.25 * free // self._graph_bytes(grid))
        return max(1, min(LARGEST_CHUNK[device], grid.shape[0], fitting))

    def _problem(
        self, measurement: Measurement, projector: Projector, prior: Prior, units: NetworkUnits
    ) -> NerdProblem:
        volume = projector.grid
        spacing_ratio = volume.voxel_mm[1] / volume.voxel_mm[0]
        return NerdProblem(
            data=DataTerm(projector, measurement, units=units, model_error=self.model_error),
            denoiser=prior.denoiser,
            coupling=self.coupling,
            differences=Differences(volume.shape, axes=(0,)),
            threshold=self.coupling.z_threshold_hu / prior.slices.scale * min(1.0, spacing_ratio),
            chunk=self._chunk_for(volume),
        )

    def _first_state(
        self,
        measurement: Measurement,
        projector: Projector,
        job: RunContext,
        *,
        units: NetworkUnits,
        problem: NerdProblem,
        mark: str,
    ) -> NerdState:
        if job.resume and job.checkpoint is not None and job.checkpoint.is_file():
            return load_state(job.checkpoint, mark=mark)
        warm = (TV() if self.warm_start == "tv" else FBP())(measurement, projector, RunContext(seed=job.seed))
        x = slice_last(units.network(warm))
        generator = job.generator()
        u = x + self.fast.start * noise_like(x, generator)
        state = NerdState(0, u, x, problem.start_duals(x), generator.get_state())
        if job.checkpoint is not None:
            save_state(state, job.checkpoint, mark=mark)
        return state

    def _advance(self, problem: NerdProblem, state: NerdState, now: NoiseLevel) -> NerdState:
        """Do one noise level: refine, then add the noise of the next one."""
        generator = torch.Generator()
        generator.set_state(state.generator)
        duals = state.duals
        if problem.coupled and isinstance(now.stage, VjpStage):
            problem, duals = self._through_network(problem, state)
        problem = replace(problem, mirrored=now.mirrored)
        refined: Refined = now.stage.refine(problem, state.u, duals, now.level)
        if not torch.isfinite(refined.x).all():
            raise InputError(
                f"NERD diverged at noise level {now.level:.3g} (chi2 {refined.figures['chi2']:.3g}); expected finite "
                "values: check the scan's weights, or raise fast.refine.pull"
            )
        fresh = noise_like(refined.x, generator)
        zeta = now.stage.zeta
        kept = math.sqrt(1 - zeta) * refined.noise + math.sqrt(zeta) * fresh
        # The warm start is not a level: its change to the first volume is no direction to go on in.
        momentum = now.stage.momentum if state.done else 0.0
        return NerdState(
            state.done + 1,
            refined.x + momentum * (refined.x - state.x) + now.after * kept,
            refined.x,
            refined.duals,
            generator.get_state(),
            [*state.history, {"level": now.level, **refined.figures}],
        )


def noise_like(x: Volumes, generator: torch.Generator) -> Volumes:
    """Return unit Gaussian noise of the shape of ``x``, slice-last."""
    return slice_last(torch.randn(x.shape, generator=generator))


class NerdFast(Nerd):
    """Jacobian-free levels only."""

    name: Literal["nerd-fast"] = "nerd-fast"


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
        self, problem: NerdProblem, state: NerdState
    ) -> tuple[NerdProblem, dict[str, Tensor]]:
        duals = state.duals
        if "p" not in duals:
            duals = self.refine_coupling.adopt(duals, state.x, problem.differences, rho=self.coupling.rho)
        return replace(problem, coupling=self.refine_coupling), duals
