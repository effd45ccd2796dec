"""The Triton engine of stacks of slices: parallel and fan beams, one ray table for all slices.

Before its first use an engine proves that the adjoint visits every crossing: with all steps and values one, the
float64 kernels sum weights that are multiples of 2**-40, exactly, so the total over all rays of the forward
projection must equal the total over all pixels of the adjoint to the last bit.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from jaxtyping import Float, Float64
from torch import Tensor

from priors.runtime.errors import InputError
from recon.operators.backends.base import Engine, Traced
from recon.operators.backends.gather import column_map
from recon.operators.backends.triton_gpu import kernels
from recon.operators.rays import FRACTION_BITS, RayTable


@dataclass(frozen=True)
class Blocks:
    """How many numbers a program works on.

    A program computes the weights of a tile or of some columns once for ``parts`` bundles of ``lanes`` slices each.
    """

    lanes: int
    parts: int
    tile: tuple[int, int]
    columns: int
    warps: tuple[int, int]  # forward, adjoint


# Up to this many slices -> blocks; the last one repeats. Measured on an H100, see docs/results/gpu-projectors.md.
BLOCKS = {
    1: Blocks(1, 1, (8, 8), 32, (1, 1)),
    4: Blocks(4, 1, (16, 16), 64, (4, 4)),
    16: Blocks(16, 1, (4, 4), 8, (1, 1)),
    32: Blocks(16, 2, (8, 8), 16, (4, 2)),
    64: Blocks(16, 4, (8, 8), 16, (4, 2)),
}


class SliceEngine(Engine):
    """Forward projection and adjoint of one ray table on a device.

    The adjoint raises InputError where it would miss crossings, which no geometry should bring about.
    """

    def __init__(self, traced: Traced, device: torch.device) -> None:
        self.table: RayTable = traced.table
        self.device = device
        table, columns = self.table, column_map(traced.grid, traced.geometry)
        line = (table.offset, table.slope, signed_steps(table), table.first, table.stop)
        self._rays = [self._put(array) for array in line]
        self._map, self._lines = columns, self._put(columns.rows()).float()
        self._reach: dict[tuple[int, int], Tensor] = {}
        self._source = None if table.source is None else self._put(table.source)

    def forward(self, image: Float[Tensor, "y x z"]) -> Float[Tensor, "v c r"]:
        """Return the line integrals of a contiguous image; bfloat16 images give float32 integrals."""
        return self._forward(image, self._rays)

    def adjoint(self, sinogram: Float[Tensor, "v c r"], *, fading: bool = False) -> Float[Tensor, "y x z"]:
        """Return the backprojection of a contiguous sinogram; ``fading`` divides by the source distance."""
        fading = fading and self._source is not None
        return self._adjoint(sinogram, self._rays, self._tile(sinogram.shape[2]), fading=fading)

    def _forward(self, image: Tensor, rays: list[Tensor]) -> Tensor:
        (views, columns), slices = self.table.shape, image.shape[2]
        sinogram = self._empty((views, columns, slices), image)
        blocks = blocks_of(slices)
        bundle = {"SLICES": blocks.lanes, "PARTS": blocks.parts, "num_warps": blocks.warps[0]}
        grid = (triton.cdiv(columns, blocks.columns), views, triton.cdiv(slices, blocks.lanes * blocks.parts))
        sizes, real = (*self.table.grid, columns, slices), real_type(sinogram)
        with on_device(self.device):
            kernels.forward[grid](image, sinogram, *rays, *sizes, REAL=real, COLUMNS=blocks.columns, **bundle)
        return sinogram

    def _adjoint(
        self, sinogram: Tensor, rays: list[Tensor], tile: tuple[int, int], *, fading: bool
    ) -> Tensor:
        (views, columns), slices = self.table.shape, sinogram.shape[2]
        image = self._empty((*self.table.grid, slices), sinogram)
        reach, blocks = self._reach[tile], blocks_of(slices)
        bundle = {"SLICES": blocks.lanes, "PARTS": blocks.parts, "num_warps": blocks.warps[1]}
        grid = (reach.shape[1], triton.cdiv(slices, blocks.lanes * blocks.parts))
        guides = (self._lines, reach, self._source if fading else self._lines)
        sizes = (*self.table.grid, views, columns, slices)
        kind: dict[str, Any] = {"CURVED": self._map.curved, "CUT": self._source is not None, "FADING": fading}
        kind |= {"REAL": real_type(image), "HEIGHT": tile[0], "WIDTH": tile[1]}
        with on_device(self.device):
            kernels.adjoint[grid](sinogram, image, *rays, *guides, *sizes, **kind, **bundle)
        return image

    def _tile(self, slices: int) -> tuple[int, int]:
        """Return the tile for a number of slices; its first use is checked."""
        tile = blocks_of(slices).tile
        if tile not in self._reach:
            self._reach[tile] = self._map.reach(self.table.grid, tile, self.device)
            self._check_coverage(tile)
        return tile

    def _check_coverage(self, tile: tuple[int, int]) -> None:
        offset, slope, signed, first, stop = self._rays
        rays = [offset, slope, signed.sign(), first, stop]
        ones = partial(torch.ones, dtype=torch.float64, device=self.device)
        forward = self._forward(ones((*self.table.grid, 1)), rays)
        adjoint = self._adjoint(ones((*self.table.shape, 1)), rays, tile, fading=False)
        # Sums may wrap around: equality modulo 2**64 is meant.
        total, covered = (int((weights * 2.0**FRACTION_BITS).long().sum()) for weights in (forward, adjoint))
        if total != covered:
            missed = (total - covered) * 2.0**-FRACTION_BITS
            raise InputError(
                f"projector backend triton: the adjoint misses {missed:.3g} crossings: use numba"
            )

    def _empty(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        real = torch.float64 if like.dtype == torch.float64 else torch.float32
        return torch.empty(shape, dtype=real, device=self.device)

    def _put(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def signed_steps(table: RayTable) -> Float64[np.ndarray, "v c"]:
    """Return the steps, negative where x drives the ray and zero where it misses the grid."""
    hit = table.first < table.stop
    return np.where(hit, np.where(table.along_y, table.step, -table.step), 0.0)


def power_of_two(count: int) -> int:
    """Return the smallest power of two that is not below a count."""
    return 1 << (count - 1).bit_length()


def blocks_of(slices: int) -> Blocks:
    """Return how a stack of slices is dealt to programs."""
    return next((blocks for most, blocks in BLOCKS.items() if slices <= most), BLOCKS[max(BLOCKS)])


def real_type(array: Tensor) -> object:
    """Return the type in which a kernel sums into an array."""
    return tl.float64 if array.dtype == torch.float64 else tl.float32


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Return a context that launches on a GPU; interpreted kernels run where they are called."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
