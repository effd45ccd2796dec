"""A projector for volumes and sinograms that do not fit in memory: NumPy memory maps, Zarr arrays, anything sliceable.

    stacks        slab after slab of slices, each with its own detector rows
    other beams   A x = sum of A_s x_s over slabs s of slices: outside a slab is nothing, and a sample between the last
                  slice of one slab and the first of the next is the sum of its two shares. Views go in blocks; the
                  adjoint of a slab is the sum over blocks.

At any time one slab and one block are in memory: ``bytes`` says how much that is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from priors.runtime.errors import InputError
from priors.runtime.system.memory import MemoryPlan
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry
from recon.operators.backends import BackendName
from recon.operators.projector import Projector

SliceableArray = Any
"""An array on disk or in memory: ``shape``, ``array[slices]`` and ``array[slices] = values``."""


@dataclass(frozen=True, eq=False)
class StreamedProjector:
    """Projection and its adjoint between arrays on disk, float32.

    Attributes:
        geometry: the poses of the whole scan.
        grid: the voxel grid of the whole volume.
        slab: slices in memory at a time.
        block: views in memory at a time; stacks take all views of a slab.
        backend: as for ``Projector``.
    """

    geometry: ScanGeometry
    grid: Grid
    slab: int
    block: int
    backend: BackendName = "auto"

    def __post_init__(self) -> None:
        if self.slab < 1 or self.block < 1:
            raise InputError(
                f"streamed projector: found slab {self.slab}, block {self.block}, expected at least 1"
            )

    def plan(self) -> MemoryPlan:
        """Return the memory of one slab and one block, twice each: as read and in the projector's layout."""
        (_, height, width), (rows, columns) = self.grid.shape, self.geometry.shape
        slab = min(self.slab, self.grid.shape[0])
        views, seen = (
            (self.geometry.views, slab)
            if self.geometry.sliced
            else (min(self.block, self.geometry.views), rows)
        )
        return MemoryPlan({"slab": 8 * slab * height * width, "block": 8 * views * seen * columns})

    def forward(self, volume: SliceableArray, sinogram: SliceableArray) -> None:
        """Write A x to ``sinogram`` (view, row, column) from ``volume`` (z, y, x).

        Raises:
            InputError: an array has another shape.
        """
        self._check(volume, sinogram)
        if self.geometry.sliced:
            for z in self._slabs():
                sinogram[:, z] = self._whole().slices(z.start, z.stop)(_read(volume, z)).numpy()
            return
        for v in self._blocks():
            total: Tensor | float = 0.0
            for z in self._slabs():
                total = total + self._part(z, v)(_read(volume, z))
            sinogram[v] = torch.as_tensor(total).numpy()

    def adjoint(self, sinogram: SliceableArray, volume: SliceableArray) -> None:
        """Write A.T y to ``volume`` (z, y, x) from ``sinogram`` (view, row, column).

        Raises:
            InputError: an array has another shape.
        """
        self._check(volume, sinogram)
        for z in self._slabs():
            if self.geometry.sliced:
                rows = torch.from_numpy(np.asarray(sinogram[:, z], dtype=np.float32))
                volume[z] = self._whole().slices(z.start, z.stop).adjoint(rows).numpy()
                continue
            total: Tensor | float = 0.0
            for v in self._blocks():
                total = total + self._part(z, v).adjoint(_read(sinogram, v))
            volume[z] = torch.as_tensor(total).numpy()

    def _whole(self) -> Projector:
        if "_projector" not in self.__dict__:
            object.__setattr__(self, "_projector", Projector(self.geometry, self.grid, backend=self.backend))
        projector: Projector = self.__dict__["_projector"]
        return projector

    def _part(self, slab: slice, views: slice) -> Projector:
        volume = self.grid.slices(slab.start, slab.stop)
        return Projector(self.geometry[views], volume, backend=self.backend)

    def _slabs(self) -> Iterator[slice]:
        yield from _pieces(self.grid.shape[0], self.slab)

    def _blocks(self) -> Iterator[slice]:
        yield from _pieces(self.geometry.views, self.block)

    def _check(self, volume: SliceableArray, sinogram: SliceableArray) -> None:
        for name, array, shape in (
            ("volume", volume, self.grid.shape),
            ("sinogram", sinogram, (self.geometry.views, *self.geometry.shape)),
        ):
            if tuple(array.shape) != shape:
                raise InputError(
                    f"streamed projector: found a {name} of {tuple(array.shape)}, expected {shape}"
                )


def _pieces(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _read(array: SliceableArray, piece: slice) -> Tensor:
    return torch.from_numpy(np.array(array[piece], dtype=np.float32))
