r"""What every diffusion reconstructor shares: one loop over noise levels, in u-coordinates (u = x_t / alpha = X + s z).

    levels  ->  look (the network's E[x | u])  ->  agree (data and slices)  ->  next state

A method says which levels it visits (``sequence``) and what it does at one (``advance``). Everything else is here:
prior and units, first state, chunks and device, memory plan, checkpoint after every level, resume to the same bits.
Data enter through `NerdProblem`: the measurement in network units with inverse variances as weights, the coupling of
neighbouring slices, the denoiser slice by slice.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from priors.card import Prior, find_prior, load_prior, read_card
from priors.diffusion.denoiser import DeviceName, resolved_device
from priors.runtime.errors import InputError
from priors.runtime.memory import MemoryPlan, available_bytes
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry
from recon.operators.base import LinearOperator, grid_of
from recon.operators.differences import Differences
from recon.reconstructors.base import Measurement, Reconstructor, RunContext, StepRecord
from recon.reconstructors.diffusion.coupling import AdmmCoupling, Duals
from recon.reconstructors.diffusion.data_term import DataTerm, NetworkUnits
from recon.reconstructors.diffusion.problem import NerdProblem, slice_last
from recon.reconstructors.diffusion.state import DiffusionState
from recon.reconstructors.fbp.fbp import FBP
from recon.reconstructors.tv import TV

Volumes = Float[Tensor, "z y x"]

# Bytes of activations per pixel of one slice in flight: the embedded U-Net's peak grows by 92 MiB per 256 x 256 slice.
GRAPH_BYTES_PER_PIXEL = 1500
BUFFERS = 9
# More slices at once gain nothing on a CPU, where their activations leave the last-level cache.
LARGEST_CHUNK = {"cpu": 4, "cuda": 16}


@dataclass(frozen=True)
class NoiseLevel:
    """One noise level of a run: its size and the next one's, 0 after the last."""

    level: float
    after: float


@dataclass(frozen=True)
class Advance:
    """What one noise level makes of a state.

    Attributes:
        u: the next diffusion state.
        x: the estimate.
        duals: dual arrays of the coupling, and whatever else the method carries from level to level.
        figures: numbers to show.
    """

    u: Volumes
    x: Volumes
    duals: Duals
    figures: dict[str, float]


class DiffusionReconstructor(Reconstructor, ABC):
    """The loop; leaves define ``sequence`` and ``advance``.

    Attributes:
        prior: name of an embedded prior, or a folder with a card.
        warm_start: reconstruction that the first state is made of; ``noise`` starts from noise alone.
        coupling: agreement of neighbouring slices; rho 0 turns it off.
        model_error: deviation of what the projector cannot represent, in line integral.
        chunk: slices per network call; None chooses from the free memory.
        device: where the network runs; auto takes a GPU if there is one. Everything else stays on the CPU.
    """

    prior: str = "ct-chest-256"
    warm_start: Literal["tv", "fbp", "noise"] = "tv"
    coupling: AdmmCoupling = AdmmCoupling()
    model_error: float = Field(0.004, ge=0)
    chunk: int | None = Field(None, ge=1)
    device: DeviceName = "auto"

    @abstractmethod
    def sequence(self, largest: float) -> list[float]:
        """Return the noise levels, largest first, none above ``largest``, which is the largest the prior knows."""

    @abstractmethod
    def advance(
        self, problem: NerdProblem, state: DiffusionState, now: NoiseLevel, generator: torch.Generator
    ) -> Advance:
        """Return what the level ``now`` makes of a state; every draw comes from ``generator``."""

    def levels(self, largest: float = math.inf) -> Sequence[NoiseLevel]:
        """Return every noise level of a run, in order."""
        sequence = self.sequence(largest)
        return [NoiseLevel(level, after) for level, after in zip(sequence, [*sequence[1:], 0.0], strict=True)]

    def first_state(self, x: Volumes, level: float, generator: torch.Generator) -> Volumes:
        """Return the first diffusion state around the volume ``x`` of the warm start."""
        return x + level * noise_like(x, generator)

    def __call__(self, measurement: Measurement, projector: LinearOperator, context: RunContext) -> Volumes:
        """See `Reconstructor`.

        Raises:
            InputError: unknown prior, a prior that is not in HU, an operator without a grid, or a checkpoint of
                another run.
        """
        prior = load_prior(self.prior, device=resolved_device(self.device).type)
        if prior.card.unit != "HU":
            raise InputError(f"prior {self.prior!r}: its unit is {prior.card.unit!r}, CT needs one in HU")
        units = NetworkUnits.of(prior.slices, mu_water=measurement.mu_water)
        problem = self._problem(measurement, projector, prior, units)
        mark = self.mark(measurement, projector, context, prior.card)
        largest = float(prior.denoiser.schedule.ratio(torch.ones(1, dtype=torch.float64))[0])
        levels = self.levels(largest)
        kept = context.load(mark)
        if kept is not None:
            state = DiffusionState(**kept)
        else:
            state = self._start(
                measurement, projector, context, units=units, problem=problem, level=levels[0].level
            )
            context.keep(vars(state), mark)
        while state.done < len(levels):
            state = self._step(problem, state, levels[state.done])
            context.keep(vars(state), mark)
            context.on_step(StepRecord(state.done, len(levels), state.history[-1]))
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
        self, measurement: Measurement, projector: LinearOperator, prior: Prior, units: NetworkUnits
    ) -> NerdProblem:
        grid = grid_of(projector, self.name)
        spacing_ratio = grid.voxel_mm[1] / grid.voxel_mm[0]
        return NerdProblem(
            data=DataTerm(projector, measurement, units=units, model_error=self.model_error),
            denoiser=prior.denoiser,
            coupling=self.coupling,
            differences=Differences(grid.shape, axes=(0,)),
            threshold=self.coupling.z_threshold_hu / prior.slices.scale * min(1.0, spacing_ratio),
            chunk=self._chunk_for(grid),
        )

    def _start(
        self,
        measurement: Measurement,
        projector: LinearOperator,
        context: RunContext,
        *,
        units: NetworkUnits,
        problem: NerdProblem,
        level: float,
    ) -> DiffusionState:
        """Return the state before the first level."""
        if self.warm_start == "noise":
            x = slice_last(torch.zeros(projector.domain))
        else:
            method = TV() if self.warm_start == "tv" else FBP()
            x = slice_last(units.network(method(measurement, projector, context.within("warm start"))))
        generator = context.generator()
        u = self.first_state(x, level, generator)
        return DiffusionState(0, u, x, problem.start_duals(x), generator.get_state(), problem.chunk)

    def _step(self, problem: NerdProblem, state: DiffusionState, now: NoiseLevel) -> DiffusionState:
        """Do one noise level and check what came of it."""
        generator = torch.Generator()
        generator.set_state(state.generator)
        # The chunk belongs to the state: another one lets the network sum in another order, which changes last bits.
        problem.chunk = state.chunk
        before = problem.calls.copy()
        done = self.advance(problem, state, now, generator)
        figures = dict(done.figures)
        if "chi2" not in figures:
            figures["chi2"] = problem.data.chi2(problem.data.residual(done.x))
        if not torch.isfinite(done.x).all():
            raise InputError(
                f"{type(self).__name__} diverged at noise level {now.level:.3g} (chi2 {figures['chi2']:.3g}); "
                "expected finite values: check the scan's weights, or trust the network's estimate more (pull, weight)"
            )
        spent = problem.calls - before
        counts = {"network_calls": float(spent["looks"]), "network_gradients": float(spent["gradients"])}
        history = [*state.history, {"level": now.level, **figures, **counts}]
        drawn = generator.get_state()
        return DiffusionState(state.done + 1, done.u, done.x, done.duals, drawn, problem.chunk, history)


def noise_like(x: Volumes, generator: torch.Generator) -> Volumes:
    """Return unit Gaussian noise of the shape of ``x``, slice-last."""
    return slice_last(torch.randn(x.shape, generator=generator))
