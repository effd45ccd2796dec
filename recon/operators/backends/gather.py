"""How far from the column through a pixel's centre a ray can be that still meets the pixel.

In the plane of the slices the point P is on column

    middle + q(P)                   flat detectors and parallel rays
    middle + turn * atan(q(P))      curved detectors

with q = N / D, both affine in P, and D > 0 in front of the source. A ray of column k meets the pixel at P when,
at the driving index of P, it crosses the other axis e (x or y) less than one pixel away: k is the column through
P + s e with |s| < 1. Over a tile, with subscript e for the change per pixel along e,

    |q(P + s e) - q(P)| = |s (N_e - q D_e) / (D + s D_e)| <= max |N_e - q D_e| / (min D - max |D_e|) = b

The numerator is convex in q, and q and D are extreme at corners, so corners decide. On a curved detector the
angle changes by at most b / (1 + (min |q| - b)^2). Where the denominator is not positive every column is
visited. Kernels decide by the crossing itself; this only says where they look.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry

# Kernels compute the column in float32: its error stays below 2**-20 of the detector and a fixed share.
SLACK = 2.0**-20, 2.0**-10
# Corners of tiles handled at a time: keeps the temporaries below 100 MB.
CORNERS = 1 << 20


@dataclass(frozen=True, eq=False)
class ColumnMap:
    """The column through a pixel, for pixel indices (x, y).

    Attributes:
        over: N as the constant and the changes per pixel along x and y.
        under: D likewise.
        turn: columns per radian of a curved detector, 0 for a flat one.
        columns: of the detector.
    """

    over: Float64[np.ndarray, "v 3"]
    under: Float64[np.ndarray, "v 3"]
    turn: Float64[np.ndarray, " v"]
    columns: int

    @property
    def curved(self) -> bool:
        """Whether columns are angles."""
        return bool(self.turn[0])

    def rows(self) -> Float64[np.ndarray, "v 8"]:
        """Return N (3 numbers), D (3), the middle column and the turn of every view."""
        middle = np.full(len(self.turn), (self.columns - 1) / 2)
        return np.column_stack([self.over, self.under, middle, self.turn])

    def reach(
        self, grid: tuple[int, int], tile: tuple[int, int], device: torch.device
    ) -> Float[Tensor, "v t"]:
        """Return the bound in columns for every view and tile; -1 where no ray of the view comes by."""
        y, x = (_ends(size, edge, device) for size, edge in zip(grid, tile, strict=True))
        y, x = y[None, :, None, :, None], x[None, None, :, None, :]
        views = max(1, CORNERS // (4 * y.shape[3] * x.shape[4]))
        reaches = [self._reach(slice(v, v + views), y, x) for v in range(0, len(self.turn), views)]
        return torch.cat(reaches).to(torch.float32).contiguous()

    def _reach(self, views: slice, y: Tensor, x: Tensor) -> Tensor:
        n, d, turn = (
            torch.from_numpy(matrix[views]).to(y.device)[..., None, None, None, None]
            for matrix in (self.over, self.under, self.turn)
        )
        under = d[:, 0] + d[:, 1] * x + d[:, 2] * y
        q = (n[:, 0] + n[:, 1] * x + n[:, 2] * y) / under
        slide = torch.maximum(*((n[:, k] - q * d[:, k]).abs() for k in (1, 2))).amax((1, 2))
        step = d[:, 1:].abs().amax(1)[:, 0, 0]
        room, behind = under.amin((1, 2)) - step, under.amax((1, 2)) + step <= 0
        bound = slide / room
        if self.curved:
            one_side = q.amin((1, 2)) * q.amax((1, 2)) > 0
            gentlest = torch.where(one_side, q.abs().amin((1, 2)) - bound, 0.0).clamp(min=0.0)
            bound = turn[:, 0, 0] * bound / (1 + gentlest**2)
        every = float(self.columns)
        bound = torch.where(room > 0, bound, every).nan_to_num(nan=every).clamp(max=every)
        return torch.where(behind, -1.0, bound + every * SLACK[0] + SLACK[1]).flatten(1)


def column_map(grid: Grid, geometry: ScanGeometry) -> ColumnMap:
    """Return the map of a scan, from its poses in the plane of the slices.

    In the plane a point seen by a fan is source + D * travel + N * across, and by parallel rays
    detector + N * u + any multiple of the travel.
    """
    travel, u = geometry.source_mm[:, :2], geometry.u_mm[:, :2]
    base, turn = geometry.detector_mm[:, :2], np.zeros(geometry.views)
    if not _is_parallel(geometry):
        base, travel = geometry.source_mm[:, :2], geometry.detector_mm[:, :2] - geometry.source_mm[:, :2]
        if geometry.detector == "curved":
            reach = np.linalg.norm(geometry.detector_mm - geometry.source_mm, axis=1)
            turn = reach / np.linalg.norm(geometry.u_mm, axis=1)
            u = u * turn[:, None]
    over = _across(travel, grid, base) / _cross(u, travel)[:, None]
    under = _across(u, grid, base) / _cross(travel, u)[:, None]
    if _is_parallel(geometry):
        under = np.tile([1.0, 0.0, 0.0], (geometry.views, 1))
    return ColumnMap(over, under, turn, geometry.shape[1])


def _is_parallel(geometry: ScanGeometry) -> bool:
    return geometry.beam.startswith("parallel")


def _across(
    way: Float64[np.ndarray, "v 2"], grid: Grid, base: Float64[np.ndarray, "v 2"]
) -> Float64[np.ndarray, "v 3"]:
    """Return (P - base) x way as the constant and the changes per pixel along x and y."""
    corner = np.array([grid.coordinates(2)[0], grid.coordinates(1)[0]])
    along_x, along_y = way[:, 1] * grid.voxel_mm[2], -way[:, 0] * grid.voxel_mm[1]
    return np.column_stack([_cross(corner - base, way), along_x, along_y])


def _cross(a: Float64[np.ndarray, "v 2"], b: Float64[np.ndarray, "v 2"]) -> Float64[np.ndarray, " v"]:
    return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])


def _ends(size: int, edge: int, device: torch.device) -> Tensor:
    """Return the first and the last pixel of every tile along an axis, (2, tiles)."""
    start = torch.arange(0, size, edge, device=device)
    return torch.stack([start, (start + edge - 1).clamp(max=size - 1)]).double()
