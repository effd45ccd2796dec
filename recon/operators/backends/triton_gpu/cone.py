"""The Triton engine of cone beams and tilted parallel beams whose columns stand upright.

Rays that must be traced one by one (steep rays, tilted detectors) are refused: numba has them. Before its first
use an engine checks that the adjoint visits every crossing: with all values one, the float64 totals of the forward
projection and of the adjoint are the same sum of the same weights, in another order.
"""

from functools import partial

import numpy as np
import torch
import triton
from jaxtyping import Float
from torch import Tensor

from priors.runtime.errors import InputError
from recon.operators.backends.base import Engine, Traced, refuse_fading
from recon.operators.backends.gather import SLACK, column_map
from recon.operators.backends.triton_gpu import cone_kernels as kernels
from recon.operators.backends.triton_gpu.slices import on_device, power_of_two, real_type, signed_steps
from recon.operators.cone_rays import ConeTable

# Pixels along the edges of a tile of the adjoint, and columns of a block of the forward projection.
TILE, COLUMNS = (2, 4), 4
LARGEST_LANES = 64
# Sums of up to 2**40 float64 weights, in two orders.
COVERAGE = 1e-11


class ConeEngine(Engine):
    """Forward projection and adjoint of one ``ConeTable`` on a device.

    Raises:
        InputError: the adjoint would miss crossings, which no geometry should bring about.
    """

    def __init__(self, traced: Traced, device: torch.device) -> None:
        self.table: ConeTable = traced.table
        self.device, track = device, self.table.track
        columns = column_map(traced.grid, traced.geometry)
        line = (track.offset, track.slope, signed_steps(track), track.first, track.stop)
        arrays = (*line, self.table.height, np.array([self.table.dz]))
        self._rays = [torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays]
        self._lines = torch.from_numpy(columns.rows()).to(device).float()
        self._reach = columns.reach(track.grid, TILE, device)
        self._row_reach = torch.from_numpy(row_reach(self.table)).to(device).float()
        self._kind = {"CURVED": columns.curved, "CUT": track.source is not None}
        self._check_coverage()

    def forward(self, image: Float[Tensor, "y x z"]) -> Float[Tensor, "v c r"]:
        """Return the line integrals of a contiguous image; bfloat16 images give float32 integrals."""
        (height, width, slices), (views, columns, rows) = self.table.grid, self.table.shape
        sinogram = self._empty(self.table.shape, image)
        lanes = min(LARGEST_LANES, power_of_two(rows))
        grid = (triton.cdiv(columns, COLUMNS), views, triton.cdiv(rows, lanes))
        sizes = (height, width, columns, slices, rows)
        blocks = {"REAL": real_type(sinogram), "COLUMNS": COLUMNS, "ROWS": lanes}
        with on_device(self.device):
            kernels.forward[grid](image, sinogram, *self._rays, *sizes, **blocks, num_warps=2)
        return sinogram

    def adjoint(self, sinogram: Float[Tensor, "v c r"], *, fading: bool = False) -> Float[Tensor, "y x z"]:
        """Return the backprojection of a contiguous sinogram.

        Raises:
            InputError: with ``fading``.
        """
        refuse_fading(fading)
        (height, width, slices), (views, columns, rows) = self.table.grid, self.table.shape
        image = self._empty(self.table.grid, sinogram)
        lanes = min(LARGEST_LANES, power_of_two(slices))
        grid = (self._reach.shape[1], triton.cdiv(slices, lanes))
        guides = (self._lines, self._reach, self._row_reach)
        sizes = (height, width, views, columns, slices, rows)
        blocks = {"REAL": real_type(image), "HEIGHT": TILE[0], "WIDTH": TILE[1], "SLICES": lanes}
        arrays = (self._weighed(sinogram), image, *self._rays[:-1], *guides)
        with on_device(self.device):
            kernels.adjoint[grid](*arrays, *sizes, **blocks, **self._kind, num_warps=2)
        return image

    def _weighed(self, sinogram: Tensor) -> Tensor:
        """Return the sinogram times the length of every ray per driving index."""
        views, columns, rows = self.table.shape
        target, lanes = self._empty(self.table.shape, sinogram), min(LARGEST_LANES, power_of_two(rows))
        _, _, step, _, _, heights, dz = self._rays
        grid = (triton.cdiv(views * columns, COLUMNS), triton.cdiv(rows, lanes))
        sizes = {"rays": views * columns, "rows": rows, "COLUMNS": COLUMNS, "ROWS": lanes}
        with on_device(self.device):
            kernels.weighed[grid](sinogram, target, step, heights, dz, **sizes, REAL=real_type(target))
        return target

    def _check_coverage(self) -> None:
        ones = partial(torch.ones, dtype=torch.float64, device=self.device)
        total = float(self.forward(ones(self.table.grid)).sum())
        covered = float(self.adjoint(ones(self.table.shape)).sum())
        if abs(total - covered) > COVERAGE * total:
            raise InputError(
                f"projector backend triton: the adjoint misses {1 - covered / total:.2g} of the crossings: use numba"
            )

    def _empty(self, shape: tuple[int, ...], like: Tensor) -> Tensor:
        real = torch.float64 if like.dtype == torch.float64 else torch.float32
        return torch.empty(shape, dtype=real, device=self.device)


def row_reach(table: ConeTable) -> np.ndarray:
    """Return, per view, how many rows from a slice's height a ray can be that meets it: max 1 / |b|, in rows."""
    track, height = table.track, table.height
    hit = track.first < track.stop
    spacing = np.full(hit.shape, np.inf)
    for i in (track.first, track.stop - 1):
        spacing = np.minimum(spacing, abs(height[..., 2] + height[..., 3] * i))
    widest = 1 / np.maximum(np.where(hit, spacing, np.inf).min(axis=1), 1 / table.rows)
    # Rows are found in float32, from heights of up to some thousand slices.
    return np.asarray(np.minimum(widest, table.rows) * (1 + 2.0**-10) + table.rows * 4 * SLACK[0] + 2.0**-7)
