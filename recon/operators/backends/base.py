"""What a projector backend is: a description of itself, and engines that it builds for one geometry.

An engine works on slice-last arrays, the image as (y, x, slice) and the sinogram as (view, column, row), both
contiguous and on the engine's device. In parallel and fan beams row r is slice r and the same engine serves
any number of slices. The kind of ray table says what a geometry needs; a backend lists an engine for each
kind of table it can work with.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.scan import Beam, ScanGeometry

Table = Any
"""A ray table: what ``recon.operators.rays.trace`` returns for the beam of a scan."""


@dataclass(frozen=True, eq=False)
class Traced:
    """A geometry with its ray table, traced once and shared by every engine.

    Attributes:
        grid: the voxel grid.
        geometry: the poses.
        table: how the rays cross the grid.
    """

    grid: Grid
    geometry: ScanGeometry
    table: Table


class Engine(ABC):
    """Forward projection and adjoint of one geometry."""

    @abstractmethod
    def forward(self, image: Float[Tensor, "y x z"]) -> Float[Tensor, "v c r"]:
        """Return the line integrals of a contiguous image on this engine's device, in fresh memory."""

    @abstractmethod
    def adjoint(self, sinogram: Float[Tensor, "v c r"], *, fading: bool = False) -> Float[Tensor, "y x z"]:
        """Return the backprojection of a contiguous sinogram, in fresh memory.

        With ``fading`` every weight is divided by its distance in mm from the source.

        Raises:
            InputError: the backend cannot fade its weights.
        """


class Backend(ABC):
    """One way to compute projections.

    Attributes:
        name: what settings call it.
        matched: whether its adjoint is the exact transpose of its forward projection.
        beams: beams it can work with when everything it wants is there.
        devices: types of the torch devices whose tensors it works on without a copy.
        dtypes: of the arrays it takes; results are float64 for float64 and float32 for all others.
    """

    name: ClassVar[str]
    matched: ClassVar[bool]
    beams: ClassVar[tuple[str, ...]]
    devices: ClassVar[tuple[str, ...]]
    dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.float64)

    @abstractmethod
    def availability(self) -> str | None:
        """Return None where it can be used here, else the reason why not."""

    @abstractmethod
    def version(self) -> str | None:
        """Return the version of the library that computes, None where it is not installed."""

    @abstractmethod
    def refusal(self, traced: Traced) -> str | None:
        """Return None where it can work with a geometry, else the reason why not."""

    @abstractmethod
    def engine(self, traced: Traced, device: torch.device) -> Engine:
        """Return an engine for a geometry that it does not refuse, on one of its devices."""

    def home(self, device: torch.device) -> torch.device:
        """Return the device on which tensors from ``device`` are worked on: the same one where it can."""
        return device if device.type in self.devices else torch.device(self.devices[0])


class OnCpu(Backend):
    """Code of this package that works on every beam without anything that could be missing.

    Attributes:
        engines: by kind of ray table.
    """

    matched = True
    beams = get_args(Beam)
    devices = ("cpu",)
    engines: ClassVar[Mapping[type, Callable[[Traced], Engine]]]

    def availability(self) -> None:
        """Return None: what it needs is a dependency."""

    def refusal(self, traced: Traced) -> str | None:
        """Return why no engine reads the table."""
        return refusal_of_table(self.engines, traced)

    def engine(self, traced: Traced, device: torch.device) -> Engine:
        """Return the engine for the kind of table."""
        return self.engines[type(traced.table)](traced)


def refuse_fading(fading: bool) -> None:
    """Refuse to fade the weights of rays that cross slices.

    Raises:
        InputError: ``fading`` was asked for.
    """
    if fading:
        raise InputError(
            "projector: distance_weighted_adjoint is for parallel and fan beams; a cone's adjoint fades by itself"
        )


def refusal_of_table(engines: Mapping[type, object], traced: Traced) -> str | None:
    """Return why none of a backend's engines reads a geometry's table, None where one does."""
    if type(traced.table) in engines:
        return None
    return f"it has no engine for a {traced.geometry.beam} beam"
