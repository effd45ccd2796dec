"""Whether a scan's rays and a grid meet, and which views look from one place."""

import numpy as np
from jaxtyping import Bool, Float64

from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry

BINS = 36
"""Directions that are told apart, of a turn."""
_RAYS = 9
_POINTS = 9


def meeting_share(geometry: ScanGeometry, grid: Grid) -> float:
    """Return from which share of the scan's directions, seen along z, a ray meets the grid; 0 to 1.

    Rays in the middle of the detector's edges and between them are followed into the box of the grid, and points of the
    grid onto the detector: either finds what is too small for the other. Slices of parallel and fan beams are where
    their rows are, so that z does not count there.
    """
    travel = geometry.source_mm if geometry.parallel else geometry.detector_mm - geometry.source_mm
    angle = np.arctan2(travel[:, 1], travel[:, 0])
    direction = np.floor((angle / (2 * np.pi) + 0.5) * BINS).astype(int) % BINS
    meets = _rays_meet(geometry, grid) | _points_seen(geometry, grid)
    return len(set(direction[meets])) / len(set(direction))


def repeats(geometry: ScanGeometry) -> list[list[int]]:
    """Return the views that have a pose in common, group by group; views with one of their own are in none."""
    poses = np.concatenate([geometry.source_mm, geometry.detector_mm, geometry.u_mm, geometry.v_mm], axis=1)
    _, which = np.unique(poses, axis=0, return_inverse=True)
    order = np.argsort(which.ravel(), kind="stable")
    starts = np.flatnonzero(np.diff(which.ravel()[order])) + 1
    return [group.tolist() for group in np.split(order, starts) if len(group) > 1]


def _rays_meet(geometry: ScanGeometry, grid: Grid) -> Bool[np.ndarray, " v"]:
    rows, columns = geometry.shape
    across, up = (n / 2 * np.linspace(-1, 1, _RAYS) for n in (columns, rows))
    offset = (
        across[None, None, :, None] * geometry.u_mm[:, None, None]
        + up[None, :, None, None] * geometry.v_mm[:, None, None]
    )
    pixel = geometry.detector_mm[:, None, None] + offset
    if geometry.parallel:
        origin, way = pixel, np.broadcast_to(geometry.source_mm[:, None, None], pixel.shape)
    else:
        origin = np.broadcast_to(geometry.source_mm[:, None, None], pixel.shape)
        way = pixel - origin
    low, high = _box(geometry, grid)
    with np.errstate(divide="ignore", invalid="ignore"):
        one, two = (low - origin) / way, (high - origin) / way
        first = np.nanmax(np.minimum(one, two), axis=-1)
        last = np.nanmin(np.maximum(one, two), axis=-1)
    # A ray beside the box and along its side never enters: the division gave infinities of one sign.
    return np.asarray((first <= last).any(axis=(1, 2)))


def _points_seen(geometry: ScanGeometry, grid: Grid) -> Bool[np.ndarray, " v"]:
    low, high = _box(geometry, grid)
    if geometry.sliced:
        low[2] = high[2] = 0.0
    axes = [np.append(np.linspace(a, b, _POINTS), np.clip(0.0, a, b)) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    seen = np.zeros(geometry.views, bool)
    rows, columns = geometry.shape
    for view in range(geometry.views):
        u, v, centre = geometry.u_mm[view], geometry.v_mm[view], geometry.detector_mm[view]
        source = geometry.source_mm[view]
        # point + t way = centre + c u + r v
        way = np.broadcast_to(source, points.shape) if geometry.parallel else points - source
        column, row = _on_detector(points - centre, way, u, v)
        inside = abs(column) <= columns / 2
        if not geometry.sliced:
            inside &= abs(row) <= rows / 2
        seen[view] = bool(inside.any())
    return seen


def _on_detector(
    away: Float64[np.ndarray, "p 3"],
    way: Float64[np.ndarray, "p 3"],
    u: Float64[np.ndarray, "3"],
    v: Float64[np.ndarray, "3"],
) -> tuple[Float64[np.ndarray, " p"], Float64[np.ndarray, " p"]]:
    """Return column and row, from the detector's middle, where lines through points meet its plane."""
    normal = np.cross(u, v)
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = away - ((away @ normal) / (way @ normal))[:, None] * way
        # In the basis u, v, which need not be at right angles.
        gram = np.array([[u @ u, u @ v], [u @ v, v @ v]])
        both = np.linalg.solve(gram, np.stack([hit @ u, hit @ v]))
    return both[0], both[1]


def _box(geometry: ScanGeometry, grid: Grid) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]]:
    """Return the grid's corners (x, y, z) in mm; without bounds along z where rows are slices."""
    half = np.array([n * d / 2 for n, d in zip(grid.shape, grid.voxel_mm, strict=True)])[::-1]
    centre = np.array(grid.centre_mm)[::-1]
    low, high = centre - half, centre + half
    if geometry.sliced:
        low[2], high[2] = -np.inf, np.inf
    return low, high
