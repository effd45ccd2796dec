r"""Backprojection driven by voxels: what filtered backprojection of cone beams needs, and no projector's adjoint.

    x(p) += f_v(p) * w_v(p) * F_v(c(p), r(p))          over the views v

c and r are the fractional column and row where the ray from the source through the voxel p meets the detector, F_v is
the filtered view, interpolated bilinearly; outside its rows the nearest row is taken, outside its columns zero. In a
view with upright columns c and f depend on (x, y) only and r is affine in z, so a column of voxels costs one division.

On a helix of ``pitch`` mm per turn a voxel is seen at the same angle from several turns, at rows that differ by the
pitch. They share the weight 1:

    w_v(p) = g(t_v) / sum_k g(t_k),      t = (row - middle) / (rows / 2)

over the turns k that the scan has, with g = 1 in the middle half of the detector and falling smoothly to its edge
(as the redundancy weights of Stierstorfer et al., Physics in Medicine and Biology 49 (2004) 2209, for half turns).
Where all rows miss the voxel the nearest turn counts.
"""

import inspect
from dataclasses import dataclass

import numba
import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from recon.geometry.grid import Grid
from recon.operators.backends.numba_cpu.threads import run_shares

# Of g at the detector's edge and beyond: enough to be the whole where nothing else sees a voxel.
LEAST_SHARE = 1e-3
PARALLEL, FLAT, CURVED = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Views:
    """Where voxels fall on the detector, one row per view.

    Attributes:
        kind: PARALLEL, FLAT or CURVED.
        rows: number of detector rows.
        source: x, y, z of the source, for parallel rays of the detector's centre, mm.
        across: x, y of the direction of columns. along: x, y of the direction of rays, unit vectors.
        column: column at the foot of the source, and columns per mm at the detector (per radian if curved).
        row: row at the height ``source`` z, and rows per mm at the detector.
        distance: of the detector from the source, mm.
        factor: of the view; for a flat detector times 1 / U^2, for a curved one 1 / L^2.
        turns: how many turns of the scan pass the angle of the view below and above it (along z).
        step: height of one turn in mm; 0 without a helix.
    """

    kind: int
    rows: int
    source: Float64[np.ndarray, "v 3"]
    across: Float64[np.ndarray, "v 2"]
    along: Float64[np.ndarray, "v 2"]
    column: Float64[np.ndarray, "v 2"]
    row: Float64[np.ndarray, "v 2"]
    distance: Float64[np.ndarray, " v"]
    factor: Float64[np.ndarray, " v"]
    turns: Float64[np.ndarray, "v 2"]
    step: float

    def __getitem__(self, picked: slice) -> "Views":
        """Return some views."""
        names = ("source", "across", "along", "column", "row", "distance", "factor", "turns")
        arrays = {name: getattr(self, name)[picked] for name in names}
        return Views(kind=self.kind, rows=self.rows, step=self.step, **arrays)


def backproject(
    filtered: Float[Tensor, "v c r"], views: Views, volume: Grid, *, image: Float[Tensor, "y x z"]
) -> None:
    """Add the sum over views to ``image``, which is contiguous on the CPU and of the type of ``filtered``."""
    height = volume.shape[1]
    z, y, x = (volume.coordinates(axis) for axis in range(3))
    poses = np.concatenate(
        [
            views.source,
            views.across,
            views.along,
            views.column,
            views.row,
            np.stack([views.distance, views.factor], axis=1),
            views.turns,
        ],
        axis=1,
    )
    # One row more, equal to the last, spares the inner loop a comparison.
    padded = torch.cat([filtered, filtered[..., -1:]], dim=2).contiguous().numpy()
    numbers = (views.kind, views.rows, views.step, LEAST_SHARE)
    target, grid = image.numpy(), (x, y, z)

    def add(first: int, stop: int) -> None:
        _backproject(padded, poses, target, grid, numbers, (first, stop))

    run_shares(add, height)


def _loop(filtered, poses, image, grid, numbers, share):  # type: ignore[no-untyped-def]
    """Add every view to the rows ``share`` of the image (y, x, z)."""
    xs, ys, zs = grid
    kind, rows, step, least = numbers
    columns = filtered.shape[1]
    blend = np.zeros(rows + 1, filtered.dtype)
    spacing = zs[1] - zs[0] if len(zs) > 1 else 1.0
    for j in range(share[0], share[1]):
        for i in range(len(xs)):
            line = image[j, i]
            for v in range(len(poses)):
                pose = poses[v]
                dx, dy = xs[i] - pose[0], ys[j] - pose[1]
                across, depth = pose[3] * dx + pose[4] * dy, pose[5] * dx + pose[6] * dy
                if kind == 0:
                    column, factor, grow = across, pose[12], 1.0
                elif depth <= 0:
                    continue
                elif kind == 1:
                    column, factor, grow = across * pose[11] / depth, pose[12] / depth**2, pose[11] / depth
                else:
                    far = np.sqrt(across**2 + depth**2)
                    column, factor, grow = np.arctan2(across, depth), pose[12] / far**2, pose[11] / far
                column = pose[7] + pose[8] * column
                if not (0 <= column <= columns - 1):
                    continue
                # The last column is reached as the right neighbour with a share of one, not read past the end.
                c = min(int(column), columns - 2)
                right = column - c
                # The column and the factor serve all z: blending once leaves two reads per voxel in the inner loop.
                for r in range(rows + 1):
                    blend[r] = factor * ((1 - right) * filtered[v, c, r] + right * filtered[v, c + 1, r])
                slope = pose[10] * grow * spacing
                start = pose[9] + pose[10] * grow * (zs[0] - pose[2])
                _add(line, blend, start, slope, step * abs(pose[10]) * grow, pose[13:], rows, least)


def _add_column(line, blend, start, slope, turn, turns, rows, least):  # type: ignore[no-untyped-def]
    """Add the blended detector column to a column of voxels, whose first is at row ``start``."""
    if turn == 0:
        for k in range(len(line)):
            row = min(max(np.float32(start + slope * k), np.float32(0)), np.float32(rows - 1))
            r = int(row)
            line[k] += blend[r] + (row - r) * (blend[r + 1] - blend[r])
        return
    # In units of half the detector: t grows with z, and a turn higher sees the voxel lower by one lap.
    half, middle = rows / 2, (rows - 1) / 2
    lap, sign = turn / half, 1.0 if slope > 0 else -1.0
    at, rise = sign * (start - middle) / half, abs(slope) / half
    # Rows beyond the detector count only where no other turn is nearer, or none exists on that side.
    reach = max(1.0, lap / 2)
    low = 0.0 if turns[0] < 1 else np.ceil((-reach - at) / rise)
    high = len(line) - 1.0 if turns[1] < 1 else np.floor((reach - at) / rise)
    for k in range(int(max(low, 0.0)), int(min(high, len(line) - 1.0)) + 1):
        t = at + rise * k
        own = _share(t, least)
        total = own
        n = 1.0
        while n <= turns[1] and t - n * lap >= -reach:
            total += _share(t - n * lap, least)
            n += 1.0
        n = 1.0
        while n <= turns[0] and t + n * lap <= reach:
            total += _share(t + n * lap, least)
            n += 1.0
        row = min(max(np.float32(start + slope * k), np.float32(0)), np.float32(rows - 1))
        r = int(row)
        line[k] += np.float32(own / total) * (blend[r] + (row - r) * (blend[r + 1] - blend[r]))


def _taper(t, least):  # type: ignore[no-untyped-def]
    """Return g: 1 up to |t| = 1/2, falling smoothly to the floor at the edge."""
    far = min(max(2 * abs(t) - 1, 0.0), 1.0)
    return max(1 - far * far * (3 - 2 * far), least)


# A run-time type checker may have wrapped the loops, which numba cannot see through.
_share = numba.njit(cache=True, inline="always")(inspect.unwrap(_taper))
_add = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})(
    inspect.unwrap(_add_column)
)
_backproject = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})(
    inspect.unwrap(_loop)
)
