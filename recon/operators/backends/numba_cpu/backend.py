"""The default projector on a CPU: compiled tiles, bundles of up to 64 slices, one thread per core.

A ray's weights are computed once per bundle of slices, so 64 slices cost little more than 16. Work is dealt
to threads by views in the forward direction and by tiles in the adjoint.
"""

from collections.abc import Callable, Iterator
from typing import ClassVar

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon.operators.backends.base import Engine, OnCpu, Traced
from recon.operators.backends.numba_cpu import tiles
from recon.operators.backends.numba_cpu.cone import ConeEngine
from recon.operators.backends.numba_cpu.threads import run_shares
from recon.operators.cone_rays import ConeTable
from recon.operators.rays import RayTable

# A tile with its bundle fits the second-level cache of a core: lanes -> pixels along the edge.
TILE_EDGE = {1: 128, 4: 64, 16: 64, 32: 32, 64: 32}


class SliceEngine(Engine):
    """Forward projection and its adjoint, slice by slice, of one ray table."""

    def __init__(self, traced: Traced) -> None:
        self.table: RayTable = traced.table
        table = self.table
        self._rays = (table.along_y, table.offset, table.slope, table.step, table.first, table.stop)
        self._columns: dict[int, np.ndarray] = {}

    def forward(self, image: Float[Tensor, "y x z"]) -> Float[Tensor, "v c r"]:
        """Return the line integrals of a contiguous image."""
        sinogram = torch.zeros((*self.table.shape, image.shape[2]), dtype=image.dtype)
        target, source = sinogram.numpy(), image.numpy()
        for bundle in _bundles(image.shape[2]):
            self._deal(tiles.forward, (source, target), bundle)
        return sinogram

    def adjoint(self, sinogram: Float[Tensor, "v c r"], *, fading: bool = False) -> Float[Tensor, "y x z"]:
        """Return the backprojection of a contiguous sinogram; ``fading`` divides by the source distance."""
        image = torch.empty((*self.table.grid, sinogram.shape[2]), dtype=sinogram.dtype)
        target, source = image.numpy(), sinogram.numpy()
        for bundle in _bundles(sinogram.shape[2]):
            self._deal(tiles.adjoint, (source, target), bundle, fading=fading)
        return image

    def _deal(
        self,
        kernel: Callable[..., None],
        arrays: tuple[np.ndarray, np.ndarray],
        bundle: tuple[int, int, int],
        *,
        fading: bool = False,
    ) -> None:
        """Run a kernel on all of its views or tiles, an equal share per thread."""
        first, slices, lanes = bundle
        edge, doublings = TILE_EDGE[lanes], (0,) * (lanes.bit_length() - 1)
        grid = self._tiles(edge)
        count = self.table.shape[0] if kernel is tiles.forward else grid[0] * grid[1]
        rays = (*self._rays, self._columns_of(edge))
        # The compiler drops a branch on None only for an argument of its own.
        last = (self.table.source if fading else None,) if kernel is tiles.adjoint else ()

        def share(begin: int, end: int) -> None:
            kernel(*arrays, rays, (edge, grid, first, slices, begin, end), doublings, *last)

        run_shares(share, count)

    def _tiles(self, edge: int) -> tuple[int, int]:
        height, width = self.table.grid
        return -(-height // edge), -(-width // edge)

    def _columns_of(self, edge: int) -> np.ndarray:
        if edge not in self._columns:
            self._columns[edge] = tiles.columns_of_tiles(self._rays, edge, self._tiles(edge))
        return self._columns[edge]


class Numba(OnCpu):
    """Compiled loops on the CPU."""

    name = "numba"
    engines: ClassVar = {RayTable: SliceEngine, ConeTable: ConeEngine}

    def version(self) -> str:
        """Return numba's version."""
        return str(numba.__version__)


def _bundles(slices: int) -> Iterator[tuple[int, int, int]]:
    """Yield (first slice, number of slices, lanes): blocks of 64, then the narrowest bundle that holds the
    rest."""
    for first in range(0, slices, 64):
        count = min(64, slices - first)
        yield first, count, next(lanes for lanes in TILE_EDGE if lanes >= count)
