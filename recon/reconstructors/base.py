"""What every reconstruction method is: measured line integrals in, attenuation out.

A reconstructor is a frozen pydantic model of hyperparameters with a literal ``name`` (the tag of the union in this
package's ``__init__``). Data comes in the call; progress goes out through the context.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from priors.runtime.run_folder.fingerprint import fingerprint
from priors.runtime.system.memory import MemoryPlan
from priors.runtime.system.seeds import generator_of
from recon.data.units import MU_WATER
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry
from recon.operators.base import LinearOperator
from recon.operators.projector import Projector
from recon.reconstructors.checkpoint import Checkpoint
from recon.reconstructors.object_mean import ObjectSums


@dataclass(frozen=True)
class Measurement:
    """Line integrals and their statistical weights.

    Attributes:
        sinogram: line integrals of attenuation (view, row, column), dimensionless, no NaN.
        weights: inverse variances of ``sinogram``, same shape; zero for a bad pixel (PWLS).
        mu_water: attenuation of water in 1/mm at the scan's energy, which places HU.
        unit: of volumes made from it, HU, or 1/mm where nobody states the attenuation of water.
        object_sums: of the whole scan where this is a slab of it, so that all slabs are regularised alike.
    """

    sinogram: Float[Tensor, "v r c"]
    weights: Float[Tensor, "v r c"]
    mu_water: float = MU_WATER
    unit: str = "HU"
    object_sums: ObjectSums | None = None


@dataclass(frozen=True)
class StepRecord:
    """One line of progress.

    Attributes:
        iteration: iterations or noise levels done.
        total: how many there will be, as far as is known by now; None where that cannot be said yet.
        figures: named numbers such as ``chi2``.
    """

    iteration: int
    total: int | None
    figures: dict[str, float]


def ray_table_bytes(geometry: ScanGeometry) -> int:
    """Return the size of a projector's table of a scan; columns of cones also carry their heights."""
    return (34 if geometry.sliced else 74) * geometry.views * geometry.shape[1]


def empty_volume(measurement: Measurement, projector: LinearOperator) -> Float[Tensor, "z y x"]:
    """Return zeros in the layout that projectors work in, with the innermost axis z."""
    z, y, x = projector.domain
    return measurement.sinogram.new_zeros((y, x, z)).permute(2, 0, 1)


def _identity(projector: LinearOperator, measurement: Measurement) -> list[Any]:
    """Return what tells one operator from another: its geometry and grid, or what it does to a fixed random volume."""
    if isinstance(projector, Projector):
        return [projector.geometry, projector.grid, projector.backend]
    probe = torch.rand(projector.domain, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return [projector(probe.to(measurement.sinogram))]


def _ignore(_: StepRecord) -> None:
    """Drop a progress record."""


Watcher = Callable[[Float[Tensor, "z y x"]], Mapping[str, float]]
"""Returns figures of an estimate in 1/mm."""


def _no_figures(_: Tensor) -> Mapping[str, float]:
    """Return nothing of an estimate."""
    return {}


@dataclass(frozen=True)
class RunContext:
    """How a reconstruction runs: its seed, where it keeps its state, who listens.

    Attributes:
        seed: seed of every random draw.
        checkpoint: keeps the state and may hold one to continue from; None keeps none.
        on_step: called after every iteration or noise level.
        stage: which part of a method runs, where it has several whose states are kept apart.
        initial: attenuation in 1/mm to begin with, in place of a method's own warm start; None leaves that to it.
        first_slice: number of the first slice in the whole volume where a slab of it is reconstructed: random numbers
            then belong to slices, the same ones whatever the slabs; None draws them for the volume in one.
        watch: returns figures of an estimate in 1/mm to show beside those of a step; it decides nothing.
    """

    seed: int = 0
    checkpoint: Checkpoint | None = None
    on_step: Callable[[StepRecord], None] = field(default=_ignore)
    stage: str = ""
    initial: Float[Tensor, "z y x"] | None = None
    first_slice: int | None = None
    watch: Watcher = field(default=_no_figures)

    def generator(self) -> torch.Generator:
        """Return a fresh CPU generator seeded with ``seed``."""
        return generator_of(self.seed)

    def within(self, stage: str) -> "RunContext":
        """Return the context of a method that runs as a stage of another: the same checkpoint, nobody listens."""
        return replace(self, stage=stage, on_step=_ignore, watch=_no_figures)

    def load(self, mark: str) -> dict[str, Any] | None:
        """Return the state to continue from, None where there is none.

        Raises:
            InputError: it is of a run with another mark; see ``Reconstructor.mark``.
        """
        return None if self.checkpoint is None else self.checkpoint.load(mark, self.stage)

    def keep(self, state: Mapping[str, Any], mark: str) -> None:
        """Offer a new state to the checkpoint."""
        if self.checkpoint is not None:
            self.checkpoint.offer(state, mark=mark, stage=self.stage)


@dataclass(frozen=True)
class Rehearsal:
    """A short run in place of a long one whose steps do not all cost the same.

    Attributes:
        method: the short run.
        stands_for: how many steps of the whole run each of its steps stands for.
    """

    method: "Reconstructor"
    stands_for: tuple[float, ...]


class Reconstructor(BaseModel, ABC):
    """Interface of the family; leaves define ``name``, ``__call__`` and ``plan``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str

    @abstractmethod
    def __call__(
        self, measurement: Measurement, projector: LinearOperator, context: RunContext
    ) -> Float[Tensor, "z y x"]:
        """Return the attenuation in 1/mm on the grid of the projector.

        Args:
            measurement: line integrals and weights, in the shape of the projector's range.
            projector: A, from volumes (z, y, x) to sinograms; what a method needs beyond A and A.T it says itself.
            context: how it runs.
        """

    def mark(
        self, measurement: Measurement, projector: LinearOperator, context: RunContext, *more: Any
    ) -> str:
        """Return a hash of everything that decides the result, ``more`` included; "" where no state is kept."""
        if context.checkpoint is None:
            return ""
        measured: list[Any] = [measurement.sinogram, measurement.weights, measurement.mu_water]
        if measurement.object_sums is not None or context.first_slice is not None:
            measured += [measurement.object_sums, context.first_slice]
        decisive = [self, context.seed, *measured, *_identity(projector, measurement), *more]
        return fingerprint({"run": decisive})["run"]

    def overlap(self) -> int:
        """Return how many slices beside its own a slab of a volume needs, 0 where no slice depends on another."""
        return 0

    @property
    def needs_object_sums(self) -> bool:
        """Whether a slab of a volume needs the `ObjectSums` of the whole scan."""
        return False

    @property
    def automatic(self) -> bool:
        """Whether a setting waits for the scan to become a number, see ``resolved``."""
        return False

    def resolved(self, measurement: Measurement, projector: LinearOperator) -> "Reconstructor":
        """Return the method with a number in place of every setting that follows the scan; itself without any."""
        return self

    def rehearsal(self) -> "Rehearsal | None":
        """Return a short run that tells the pace of the whole, None where the first steps tell it."""
        return None

    @abstractmethod
    def plan(self, grid: Grid, geometry: ScanGeometry) -> MemoryPlan:
        """Return the memory this method will need, by purpose, in bytes."""
