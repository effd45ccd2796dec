"""The slow, obvious projector: the ray table written out as a sparse matrix.

Row (v, c), column (y, x) of the matrix holds the weight of a pixel in a ray. The tests compare every other
backend with it; its memory grows with the number of crossings, so it refuses large scans.
"""

from typing import ClassVar

import numpy as np
import scipy
import torch
from jaxtyping import Float
from scipy import sparse
from torch import Tensor

from recon.operators.backends.base import Engine, OnCpu, Traced
from recon.operators.backends.reference.cone import ConeEngine, cone_bytes
from recon.operators.cone_rays import ConeTable
from recon.operators.rays import FRACTION_BITS, RayTable

LARGEST_BYTES = 2 << 30


class SliceEngine(Engine):
    """Forward projection and its adjoint by a stored matrix, in float32 or float64."""

    def __init__(self, traced: Traced) -> None:
        table: RayTable = traced.table
        self.table = table
        self.matrix = stored_matrix(table)
        self._by_type = {torch.float64: self.matrix, torch.float32: self.matrix.astype(np.float32)}

    def forward(self, image: Float[Tensor, "y x z"]) -> Float[Tensor, "v c r"]:
        """Return the line integrals of a contiguous image."""
        flat = image.reshape(-1, image.shape[2]).numpy()
        return torch.from_numpy(self._by_type[image.dtype] @ flat).reshape(*self.table.shape, -1)

    def adjoint(self, sinogram: Float[Tensor, "v c r"], *, fading: bool = False) -> Float[Tensor, "y x z"]:
        """Return the backprojection of a contiguous sinogram; ``fading`` divides by the source distance."""
        flat = sinogram.reshape(-1, sinogram.shape[2]).numpy()
        matrix = stored_matrix(self.table, fading=True) if fading else self._by_type[sinogram.dtype]
        return torch.from_numpy((matrix.T @ flat).astype(flat.dtype)).reshape(*self.table.grid, -1)


class Reference(OnCpu):
    """The stored sparse matrix."""

    name = "reference"
    engines: ClassVar = {RayTable: SliceEngine, ConeTable: ConeEngine}

    def version(self) -> str:
        """Return scipy's version, whose sparse product computes."""
        return str(scipy.__version__)

    def refusal(self, traced: Traced) -> str | None:
        """Return why no engine reads the table, or that the matrix would be too large."""
        missing = super().refusal(traced)
        if missing:
            return missing
        # Two weights per crossing; while the matrix is built each takes about 40 bytes.
        if isinstance(traced.table, ConeTable):
            needed = cone_bytes(traced)
        else:
            needed = 80 * int(np.maximum(traced.table.stop - traced.table.first, 0).sum())
        if needed > LARGEST_BYTES:
            return f"the matrix needs {needed >> 20} MiB, allowed {LARGEST_BYTES >> 20}: use numba"
        return None


def stored_matrix(table: RayTable, *, fading: bool = False) -> sparse.csr_matrix:
    """Return the float64 matrix of a ray table: rows (view, column), columns (y, x).

    With ``fading`` every weight is divided by its distance in mm from the source of the fan.
    """
    height, width = table.grid
    count = np.maximum(table.stop - table.first, 0).reshape(-1)
    ray = np.repeat(np.arange(count.size), count)
    i = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + table.first.reshape(-1)[ray]
    along_y, step = table.along_y.reshape(-1)[ray], table.step.reshape(-1)[ray]
    if fading and table.source is not None:
        step = 1 / abs(i - table.source[ray // table.shape[1], along_y.astype(int)])
    # Both terms are multiples of 2**-40 below 2**13 in size, so float64 holds their sum exactly.
    p = table.offset.reshape(-1)[ray] * 2.0**-FRACTION_BITS + i * (
        table.slope.reshape(-1)[ray] * 2.0**-FRACTION_BITS
    )
    near = np.floor(p).astype(np.int64)
    entries = []
    for j, weight in ((near, near + 1 - p), (near + 1, p - near)):
        inside = (j >= 0) & (j < np.where(along_y, width, height))
        pixel = np.where(along_y, i * width + j, j * width + i)
        entries.append((weight[inside] * step[inside], ray[inside], pixel[inside]))
    weight, row, column = (
        np.concatenate(column_of_entries) for column_of_entries in zip(*entries, strict=True)
    )
    return sparse.csr_matrix((weight, (row, column)), shape=(count.size, height * width))
