"""The projector of cone beams on a CPU: upright columns by shared lines, all other rays one by one.

Work is dealt to plain threads as in ``backend``: views in the forward direction, tiles of the (y, x) plane in the
adjoint.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon.operators.backends.base import Engine, Traced, refuse_fading
from recon.operators.backends.numba_cpu import cone_tiles, single_rays, tiles
from recon.operators.backends.numba_cpu.threads import run_shares
from recon.operators.cone_rays import ConeTable

# A tile of the adjoint with its profiles fits the second-level cache of a core.
TILE_BYTES = 384 << 10
SMALLEST_EDGE, LARGEST_EDGE = 8, 48


class ConeEngine(Engine):
    """Forward projection and its adjoint on slice-last arrays of one ``ConeTable``."""

    def __init__(self, traced: Traced) -> None:
        table: ConeTable = traced.table
        self.table = table
        track = table.track
        self._line = (track.along_y, track.offset, track.slope, track.step, track.first, track.stop)
        rows = (table.height, table.upright)
        self._columns = (track.along_y, track.offset, track.slope, track.first, track.stop, *rows)
        self._lengths = (track.step, *rows, table.dz)
        self._poses = (table.single, table.voxel, table.kind, table.upright)
        counted = table.upright[..., 1] - table.upright[..., 0]
        self._any_upright, self._any_single = bool(counted.any()), bool((counted < table.rows).any())
        self._pad = cone_tiles.LANES * (math.ceil(_steepest_rows(table)) + 1)
        self._crossed: dict[int, np.ndarray] = {}

    def forward(self, image: Float[Tensor, "y x z"]) -> Float[Tensor, "v c r"]:
        """Return the line integrals of a contiguous image."""
        sinogram = torch.zeros(self.table.shape, dtype=image.dtype)
        source, target = image.numpy(), sinogram.numpy()
        views = self.table.shape[0]
        if self._any_upright:
            edge = self._edge(source.itemsize)
            grid, columns = self._tiles(edge), self._columns_of(edge)

            def upright(first: int, stop: int) -> None:
                work = (self._pad, edge, grid, first, stop)
                cone_tiles.forward(source, target, self._columns, columns, work)
                cone_tiles.lengthen(target, target, self._lengths, (first, stop))

            run_shares(upright, views)
        if self._any_single:
            run_shares(
                lambda first, stop: single_rays.forward(source, target, self._poses, first, stop), views
            )
        return sinogram

    def adjoint(self, sinogram: Float[Tensor, "v c r"], *, fading: bool = False) -> Float[Tensor, "y x z"]:
        """Return the backprojection of a contiguous sinogram."""
        refuse_fading(fading)
        image = torch.zeros(self.table.grid, dtype=sinogram.dtype)
        source, target = sinogram.numpy(), image.numpy()
        if self._any_upright:
            edge = self._edge(source.itemsize)
            grid, columns = self._tiles(edge), self._columns_of(edge)
            scaled = np.empty_like(source)
            run_shares(
                lambda first, stop: cone_tiles.lengthen(source, scaled, self._lengths, (first, stop)),
                len(source),
            )

            def upright(first: int, stop: int) -> None:
                work = (self._pad, edge, grid, first, stop)
                cone_tiles.adjoint(scaled, target, self._columns, columns, work)

            run_shares(upright, grid[0] * grid[1])
        if self._any_single:
            run_shares(
                lambda first, stop: single_rays.adjoint(source, target, self._poses, first, stop),
                target.shape[0],
            )
        return image

    def _edge(self, itemsize: int) -> int:
        fitting = math.isqrt(TILE_BYTES // (itemsize * (self.table.slices + cone_tiles.LANES))) - 2
        return max(SMALLEST_EDGE, min(LARGEST_EDGE, fitting))

    def _tiles(self, edge: int) -> tuple[int, int]:
        height, width, _ = self.table.grid
        return -(-height // edge), -(-width // edge)

    def _columns_of(self, edge: int) -> np.ndarray:
        if edge not in self._crossed:
            self._crossed[edge] = tiles.columns_of_tiles(self._line, edge, self._tiles(edge))
        return self._crossed[edge]


def _steepest_rows(table: ConeTable) -> float:
    """Return the largest distance of neighbouring rows at any crossing, in slices."""
    hit = table.track.first < table.track.stop
    if not hit.any():
        return 1.0
    b0, b1 = table.height[..., 2], table.height[..., 3]
    ends = (b0 + b1 * table.track.first, b0 + b1 * (table.track.stop - 1))
    return max(float(abs(end[hit]).max()) for end in ends)
