r"""What every diffusion reconstructor shares: one loop over noise levels, in u-coordinates (u = x_t / alpha = X + s z).

    levels  ->  look (the network's E[x | u])  ->  agree (data and slices)  ->  next state

A method says which levels it visits (``sequence``) and what it does at one (``advance``). Everything else is here:
prior and units, first state, chunks and device, memory plan, a state to save after every level from which a run
resumes to the same bits.
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

from priors.card import Prior, PriorReference, card_of_prior, open_prior, weights_bytes
from priors.diffusion.denoiser import DeviceName, resolved_device
from priors.diffusion.samplers.sampler import LEVEL_ROUNDING
from priors.runtime.errors import InputError, warn
from priors.runtime.system.memory import MemoryPlan, available_bytes
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry
from recon.operators.base import LinearOperator, grid_of
from recon.operators.differences import Differences
from recon.reconstructors.base import Measurement, Reconstructor, RunContext, StepRecord
from recon.reconstructors.diffusion.coupling import AdmmCoupling, Duals, in_units
from recon.reconstructors.diffusion.data_term import DataTerm, NetworkUnits
from recon.reconstructors.diffusion.noise import noise_like
from recon.reconstructors.diffusion.problem import NerdProblem, slice_last
from recon.reconstructors.diffusion.state import DiffusionState
from recon.reconstructors.fbp.fbp import FBP
from recon.reconstructors.tv import TV

Volumes = Float[Tensor, "z y x"]

# Bytes of activations per pixel of one slice in flight, of the embedded U-Net: its peak grows by 92 MiB per 256 x 256
# slice that is only looked at, and by 175 MiB where all activations are kept for a gradient
# (benchmarks/memory/plans.py).
GRAPH_BYTES_PER_PIXEL = 1500
VJP_BYTES_PER_PIXEL = 2800
BUFFERS = 9
# More slices at once gain nothing on a CPU, where their activations leave the last-level cache.
OVERLAP = 8
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
        prior: name of an embedded prior, or a folder with a card; from Python also a loaded prior.
        label: class to condition on, of a prior that knows classes; None takes the card's.
        warm_start: reconstruction that the first state is made from; ``noise`` starts from noise alone.
        coupling: agreement of neighbouring slices; rho 0 turns it off.
        model_error: deviation of what the projector cannot represent, in line integral.
        chunk: slices per network call; None chooses from the free memory.
        device: where the network runs; auto takes a GPU if there is one. Everything else stays on the CPU.
    """

    prior: PriorReference = "ct-chest-256"
    label: int | None = Field(None, ge=0)
    warm_start: Literal["tv", "fbp", "noise"] = "tv"
    coupling: AdmmCoupling = AdmmCoupling()
    model_error: float = Field(0.004, ge=0, le=10)
    chunk: int | None = Field(None, ge=1)
    device: DeviceName = "auto"

    @abstractmethod
    def sequence(self, largest: float, hu: float) -> list[float]:
        """Return the noise levels in network units of ``hu`` HU, largest first.

        None is above ``largest``, the largest the prior knows, where a method starts from noise alone.
        """

    @abstractmethod
    def advance(
        self, problem: NerdProblem, state: DiffusionState, now: NoiseLevel, generator: torch.Generator
    ) -> Advance:
        """Return what the level ``now`` makes of a state; every draw comes from ``generator``."""

    def told(self, now: NoiseLevel) -> float:
        """Return the largest noise level that the network is given at ``now``."""
        return now.level

    def levels(self, largest: float = math.inf, hu: float = 1000.0) -> Sequence[NoiseLevel]:
        """Return every noise level of a run in network units of ``hu`` HU, in order."""
        sequence = self.sequence(largest, hu)
        return [NoiseLevel(level, after) for level, after in zip(sequence, [*sequence[1:], 0.0], strict=True)]

    def first_state(self, x: Volumes, level: float, generator: torch.Generator) -> Volumes:
        """Return the first diffusion state around the volume ``x`` of the warm start."""
        return x + level * noise_like(x, generator)

    def __call__(self, measurement: Measurement, projector: LinearOperator, context: RunContext) -> Volumes:
        """See `Reconstructor`.

        Raises:
            InputError: unknown prior, one in neither HU nor 1/mm, one that does not know a level of the method, an
                operator without a grid, or a checkpoint of another run.
        """
        prior = open_prior(self.prior, device=resolved_device(self.device).type, label=self.label)
        warn_about(prior, grid_of(projector, self.name), measurement)
        units = NetworkUnits.of(prior.slices, unit=prior.card.unit, mu_water=measurement.mu_water)
        problem = self._problem(measurement, projector, prior, units)
        problem.first_slice = context.first_slice
        mark = self.mark(measurement, projector, context, prior.card)
        largest = float(prior.denoiser.schedule.ratio(torch.ones(1, dtype=torch.float64))[0])
        levels = self.levels(largest, units.hu)
        check_levels(prior, [self.told(now) for now in levels], units.hu)
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
            figures = {**state.history[-1], **context.watch(units.attenuation(state.x).clamp(min=0))}
            context.on_step(StepRecord(state.done, len(levels), figures))
        # No matter amplifies: the projection onto attenuation >= 0 brings the volume nearer to every such truth. Only
        # the result is projected; inside the loop noise around vacuum must be free to average out to zero.
        return units.attenuation(state.x).clamp(min=0)

    def plan(self, grid: Grid, geometry: ScanGeometry) -> MemoryPlan:
        """See `Reconstructor`: volume buffers, sinograms and the graph of one chunk, as the card measured it."""
        voxels, rays = math.prod(grid.shape), geometry.views * math.prod(geometry.shape)
        library = getattr(card_of_prior(self.prior).network, "library_bytes", 0)
        return MemoryPlan(
            {
                "volume buffers": BUFFERS * 4 * voxels,
                "sinograms": 5 * 4 * rays,
                "network graph of one chunk": self._graph_bytes(grid, self._chunk_for(grid)),
                "prior weights": weights_bytes(self.prior),
                **({"library of the prior": library} if library else {}),
            }
        )

    def _graph_bytes(self, grid: Grid, slices: int) -> int:
        """Return the bytes of a network call with so many slices: of windows, where the network sees windows."""
        card = card_of_prior(self.prior)
        pixels = math.prod(card.fit.size or grid.shape[1:])
        if card.memory is None:
            each = VJP_BYTES_PER_PIXEL if self.through_network else GRAPH_BYTES_PER_PIXEL
            return each * pixels * slices * card.fit.slices
        return card.memory.chunk(slices, pixels, vjp=self.through_network)

    def overlap(self) -> int:
        """See `Reconstructor`: the coupling of slices, and that of the warm start, reach across."""
        coupled = self.coupling.rho > 0 or (self.warm_start == "tv" and TV().overlap() > 0)
        return OVERLAP if coupled else 0

    @property
    def needs_object_sums(self) -> bool:
        """See `Reconstructor`."""
        return self.warm_start == "tv"

    @property
    def through_network(self) -> bool:
        """Whether the method differentiates the network, which keeps all of its activations."""
        return True

    def _chunk_for(self, grid: Grid) -> int:
        """Return the slices per network call: as asked, else at most a quarter of the free memory."""
        if self.chunk is not None:
            return min(self.chunk, grid.shape[0])
        device = resolved_device(self.device).type
        free = available_bytes() if device == "cpu" else torch.cuda.mem_get_info()[0]
        most = min(LARGEST_CHUNK[device], grid.shape[0])
        return next((n for n in range(most, 1, -1) if self._graph_bytes(grid, n) <= 0.25 * free), 1)

    def _problem(
        self, measurement: Measurement, projector: LinearOperator, prior: Prior, units: NetworkUnits
    ) -> NerdProblem:
        grid = grid_of(projector, self.name)
        spacing_ratio = grid.voxel_mm[1] / grid.voxel_mm[0]
        return NerdProblem(
            data=DataTerm(projector, measurement, units=units, model_error=self.model_error),
            denoiser=prior.denoiser,
            coupling=in_units(self.coupling, units.hu),
            differences=Differences(grid.shape, axes=(0,)),
            threshold=self.coupling.z_threshold_hu / units.hu * min(1.0, spacing_ratio),
            chunk=self._chunk_for(grid),
            hu=units.hu,
            mirrorable=prior.card.mirrored,
        )

    def warm_volume(
        self, measurement: Measurement, projector: LinearOperator, context: RunContext
    ) -> Volumes | None:
        """Return the attenuation in 1/mm that the first state is made from, None where that is noise alone."""
        if self.warm_start == "noise":
            return None
        method = TV() if self.warm_start == "tv" else FBP()
        return method(measurement, projector, context)

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
        begin = context.initial
        if begin is None:
            begin = self.warm_volume(measurement, projector, context.within("warm start"))
        x = slice_last(torch.zeros(projector.domain) if begin is None else units.network(begin))
        generator = problem.generator(context.generator().get_state())
        u = self.first_state(x, level, generator)
        return DiffusionState(0, u, x, problem.start_duals(x), generator.get_state(), problem.chunk)

    def _step(self, problem: NerdProblem, state: DiffusionState, now: NoiseLevel) -> DiffusionState:
        """Do one noise level and check what came of it."""
        generator = problem.generator(state.generator)
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


def warn_about(prior: Prior, grid: Grid, measurement: Measurement) -> None:
    """Say where a prior sees what it was not trained on."""
    card = prior.card
    if card.pixel_mm is not None:
        low, high = card.pixel_mm
        odd = [mm for mm in grid.voxel_mm[1:] if not 0.99 * low <= mm <= 1.01 * high]
        if odd:
            warn(
                f"prior {card.name!r}: pixels of {odd[0]:.3g} mm, and it was trained on {low:.3g} to {high:.3g} mm; "
                "structures have another size to it (prior_grid=true reconstructs on its pixels and resamples)"
            )
    if card.unit == "HU" and measurement.unit == "1/mm":
        warn(
            f"prior {card.name!r}: is in HU, and the scan states attenuation in 1/mm without that of water; water is "
            f"taken as {measurement.mu_water:.4g} per mm"
        )


def check_levels(prior: Prior, levels: Sequence[float], hu: float) -> None:
    """Check that the prior knows every level it will be given, in network units of ``hu`` HU.

    Raises:
        InputError: it does not; names the level and the prior's range.
    """
    ends = prior.denoiser.schedule.ratio(torch.tensor([0.0, 1.0], dtype=torch.float64))
    low, high = float(ends[0]) * (1 - LEVEL_ROUNDING), float(ends[1]) * (1 + LEVEL_ROUNDING)
    for level in levels:
        if not low <= level <= high:
            raise InputError(
                f"prior {prior.card.name!r}: would be told a noise level of {level * hu:.4g} HU, and knows "
                f"{low * hu:.4g} to {high * hu:.4g} HU; expected levels of the method in that range"
            )
