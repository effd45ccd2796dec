"""What every reconstruction method is: measured line integrals in, attenuation out.

A reconstructor is a frozen pydantic model of hyperparameters with a literal ``name`` (the tag of the union in this
package's ``__init__``). Data comes in the call; progress goes out through the job.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from priors.runtime.memory import MemoryPlan
from recon.data.units import MU_WATER
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry
from recon.operators.projector import Projector


@dataclass(frozen=True)
class Measurement:
    """Line integrals and their statistical weights.

    Attributes:
        sinogram: line integrals of attenuation (view, row, column), dimensionless, no NaN.
        weights: inverse variances of ``sinogram``, same shape; zero for a bad pixel (PWLS).
        mu_water: attenuation of water in 1/mm at the scan's energy, which places HU.
    """

    sinogram: Float[Tensor, "v r c"]
    weights: Float[Tensor, "v r c"]
    mu_water: float = MU_WATER


@dataclass(frozen=True)
class StepRecord:
    """One line of progress: ``figures`` are named numbers such as ``chi2`` or ``primal_residual``."""

    iteration: int
    total: int
    figures: dict[str, float]


def ray_table_bytes(geometry: ScanGeometry) -> int:
    """Return the size of a projector's table of a scan; columns of cones also carry their heights."""
    return (34 if geometry.sliced else 74) * geometry.views * geometry.shape[1]


def empty_volume(measurement: Measurement, projector: Projector) -> Float[Tensor, "z y x"]:
    """Return zeros in the layout that projectors work in, with the innermost axis z."""
    z, y, x = projector.domain
    return measurement.sinogram.new_zeros((y, x, z)).permute(2, 0, 1)


def _ignore(_: StepRecord) -> None:
    """Drop a progress record."""


@dataclass(frozen=True)
class RunContext:
    """How a reconstruction runs: its seed, where it saves itself, whom it tells.

    Attributes:
        seed: seed of every random draw.
        checkpoint: file that holds the state after every noise level, or None to keep none.
        resume: continue from ``checkpoint`` if it exists.
        on_step: called after every iteration or noise level.
    """

    seed: int = 0
    checkpoint: Path | None = None
    resume: bool = False
    on_step: Callable[[StepRecord], None] = field(default=_ignore)

    def generator(self) -> torch.Generator:
        """Return a fresh CPU generator seeded with ``seed``."""
        return torch.Generator().manual_seed(self.seed)


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

    @abstractmethod
    def __call__(
        self, measurement: Measurement, projector: Projector, job: RunContext
    ) -> Float[Tensor, "z y x"]:
        """Return the attenuation in 1/mm on ``projector.grid``."""

    def rehearsal(self) -> "Rehearsal | None":
        """Return a short run that tells the pace of the whole, None where the first steps tell it."""
        return None

    @abstractmethod
    def plan(self, grid: Grid, geometry: ScanGeometry) -> MemoryPlan:
        """Return the memory this method will need, by purpose, in bytes."""
