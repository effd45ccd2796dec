"""The slow, obvious projector of rays that cross slices: one row of a sparse matrix per ray.

It is written from the vectors of the scan and shares nothing with the compiled loops. A ray through the point o with
direction d (both in voxels) is driven along the axis of its largest |d|. At every index i of that axis it is at

    o + (i - o_axis) / d_axis * d

and the four voxels around that place share the length of ray per index, |d in mm| / |d_axis|, bilinearly. Only places
in front of the source count.
"""

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy import sparse
from torch import Tensor

from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry
from recon.operators.backends.base import Engine, Traced, refuse_fading


class ConeEngine(Engine):
    """Forward projection and its adjoint by a stored matrix, in float32 or float64."""

    def __init__(self, traced: Traced) -> None:
        scan, (z, y, x) = traced.geometry, traced.grid.shape
        self.shape, self.grid = (scan.views, scan.shape[1], scan.shape[0]), (y, x, z)
        self.matrix = cone_matrix(traced.grid, scan)
        self._by_type = {torch.float64: self.matrix, torch.float32: self.matrix.astype(np.float32)}

    def forward(self, image: Float[Tensor, "y x z"]) -> Float[Tensor, "v c r"]:
        """Return the line integrals of a contiguous image."""
        return torch.from_numpy(self._by_type[image.dtype] @ image.numpy().ravel()).reshape(self.shape)

    def adjoint(self, sinogram: Float[Tensor, "v c r"], *, fading: bool = False) -> Float[Tensor, "y x z"]:
        """Return the backprojection of a contiguous sinogram."""
        refuse_fading(fading)
        flat = self._by_type[sinogram.dtype].T @ sinogram.numpy().ravel()
        return torch.from_numpy(flat).reshape(self.grid)


def cone_bytes(traced: Traced) -> int:
    """Return the memory the matrix needs: four weights per crossing, about 40 bytes each while it is built."""
    scan = traced.geometry
    return 160 * scan.views * scan.shape[0] * scan.shape[1] * max(traced.grid.shape)


def cone_matrix(grid: Grid, geometry: ScanGeometry) -> sparse.csr_matrix:
    """Return the float64 matrix of a scan: rows (view, column, row), columns (y, x, z)."""
    voxel = np.array(grid.voxel_mm[::-1])
    corner = np.array([grid.coordinates(axis)[0] for axis in (2, 1, 0)])
    start, way = (array.reshape(-1, 3) for array in pixel_rays(geometry))
    at, to = (start - corner) / voxel, way / voxel
    size = np.abs(to)
    # Ties go to x, then y.
    axis = np.where(size[:, 2] > size[:, :2].max(1), 2, np.where(size[:, 0] < size[:, 1], 1, 0))
    shape = np.array(grid.shape[::-1])
    count = len(axis)
    driven = np.take_along_axis(to, axis[:, None], 1)[:, 0]
    begin = np.take_along_axis(at, axis[:, None], 1)[:, 0]
    length = np.linalg.norm(way, axis=1) / abs(driven)
    entries = []
    for i in range(int(shape.max())):
        travelled = (i - begin) / driven
        seen = (i < shape[axis]) & ((travelled >= 0) | geometry.parallel)
        crossing = at[seen] + travelled[seen, None] * to[seen]
        entries.append(_corners(crossing, axis[seen], i, shape, (np.flatnonzero(seen), length[seen])))
    weight, row, column = (np.concatenate(array) for array in zip(*entries, strict=True))
    return sparse.csr_matrix((weight, (row, column)), shape=(count, int(shape.prod())))


def pixel_rays(
    geometry: ScanGeometry,
) -> tuple[Float64[np.ndarray, "v c r 3"], Float64[np.ndarray, "v c r 3"]]:
    """Return a point and the direction of every detector pixel's ray in mm; the point is the source of a cone."""
    rows, columns = geometry.shape
    row, column = (np.arange(n) - (n - 1) / 2 for n in (rows, columns))
    source, detector, u, v = (
        x[:, None, None] for x in (geometry.source_mm, geometry.detector_mm, geometry.u_mm, geometry.v_mm)
    )
    up = row[None, None, :, None] * v
    shape = (geometry.views, columns, rows, 3)
    across = column[None, :, None, None]
    if geometry.parallel:
        return detector + across * u + up, np.broadcast_to(source, shape)
    reach = detector - source
    if geometry.detector == "curved":
        axis = v / np.linalg.norm(v, axis=-1, keepdims=True)
        rise = (reach * axis).sum(-1, keepdims=True) * axis
        radius, pitch = (np.linalg.norm(x, axis=-1, keepdims=True) for x in (reach - rise, u))
        angle = across * pitch / radius
        way = np.cos(angle) * (reach - rise) + np.sin(angle) * radius * u / pitch + rise + up
    else:
        way = reach + across * u + up
    return np.broadcast_to(source, shape), way


def _corners(
    crossing: np.ndarray, axis: np.ndarray, i: int, shape: np.ndarray, rays: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return weights, rays and voxels of the four voxels around each place on plane ``i`` of its axis."""
    ray, length = rays
    low = np.floor(crossing)
    entries = []
    for first in (0, 1):
        for second in (0, 1):
            corner, weight = np.empty_like(crossing), length.copy()
            for k in range(3):
                # Of the two axes that are not driven, the first takes ``first``, the other ``second``.
                step = np.where((k == 0) | ((k == 1) & (axis == 0)), first, second)
                corner[:, k] = np.where(axis == k, i, low[:, k] + step)
                share = 1 - abs(crossing[:, k] - corner[:, k])
                weight = np.where(axis == k, weight, weight * share)
            inside = ((corner >= 0) & (corner < shape)).all(1) & (weight > 0)
            x, y, z = corner[inside].astype(np.int64).T
            entries.append((weight[inside], ray[inside], (y * shape[0] + x) * shape[2] + z))
    weights, rows, voxels = (np.concatenate(array) for array in zip(*entries, strict=True))
    return weights, rows, voxels
