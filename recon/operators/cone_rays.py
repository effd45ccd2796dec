"""Rays that cross slices: cone beams and tilted parallel beams, by Joseph's method in three dimensions.

Where every detector column stands upright (v along z, or for parallel beams v in the vertical plane of the
rays), the rays of a column lie above one line in the (x, y) plane. That line is one row of the
two-dimensional table (see ``rays``); at driving index i of the line, row r of the column is at the height

    z(i, r) = (A0 + A1 i) + (B0 + B1 i) r          in slices

and its ray is as long as sqrt(step^2 + (dz (A1 + B1 r))^2) mm per driving index. Weights in the plane are
computed once per crossing and serve all rows; along z two slices share each sample.

Joseph's driving axis is the one on which a ray moves most voxels. Rays for which that is z, and all rays of a
view whose columns do not stand upright, are traced one by one from the poses of their view (``single``).
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int32

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.scan import Index, ScanGeometry
from recon.operators.rays import RayTable, plane_table

# Steps of a column may leave the vertical by this fraction before its rays are traced one by one.
UPRIGHT = 1e-9


@dataclass(frozen=True, eq=False)
class ConeTable:
    """One row per detector column, and the poses for rays that are traced one by one.

    Attributes:
        slices: slices of the volume. rows: rows of the detector.
        track: the line of every column in the plane of the slices.
        height: A0, A1, B0, B1 of every column.
        upright: rows [first, stop) of every column that follow its line; the others are single.
        dz: distance of slices in mm.
        single: source (or direction of parallel rays), detector centre, u and v in voxels (x, y, z) from
            voxel 0.
        voxel: size of a voxel (x, y, z) in mm.
        kind: 0 for parallel rays, 1 for a flat, 2 for a curved detector.
    """

    slices: int
    rows: int
    track: RayTable
    height: Float64[np.ndarray, "v c 4"]
    upright: Int32[np.ndarray, "v c 2"]
    dz: float
    single: Float64[np.ndarray, "v 4 3"]
    voxel: Float64[np.ndarray, " 3"]
    kind: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Views, columns and rows."""
        return (*self.track.shape, self.rows)

    @property
    def grid(self) -> tuple[int, int, int]:
        """Voxels along y, x and z, the order in memory."""
        return (*self.track.grid, self.slices)

    def __getitem__(self, views: Index) -> "ConeTable":
        """Return the rays of some views."""
        kept = (self.height, self.upright, self.single)
        height, upright, single = (np.ascontiguousarray(x[views]) for x in kept)
        return replace(self, track=self.track[views], height=height, upright=upright, single=single)


def trace_cone(grid: Grid, geometry: ScanGeometry) -> ConeTable:
    """Return the table of a cone beam or a parallel beam in three dimensions.

    Raises:
        InputError: rows are slices, a source is inside the volume, or a slice has too many pixels.
    """
    if geometry.sliced:
        raise InputError(f"scan.beam: found {geometry.beam}, expected cone or parallel-3d")
    voxel = np.array(grid.voxel_mm[::-1])
    corner = np.array([grid.coordinates(axis)[0] for axis in (2, 1, 0)])
    if not geometry.parallel:
        _check_sources((geometry.source_mm - corner) / voxel, np.array(grid.shape[::-1]))
    point, way = column_rays(geometry)
    # ``column_rays`` goes to the middle row; heights count from row 0. A cone's rows differ in direction, parallel
    # rays in the point they pass.
    middle = (geometry.shape[0] - 1) / 2
    lower = (middle * geometry.v_mm)[:, None]
    if geometry.parallel:
        point = point - lower
    else:
        way = way - lower
    upright = _upright(geometry, way)
    # A line that is never followed still needs a direction in the plane.
    plane = np.where(upright[..., None], way[..., :2], np.array([1.0, 0.0]))
    track = plane_table(grid, point[..., :2], plane, from_source=not geometry.parallel)
    height = _height((point - corner) / voxel, way / voxel, geometry, track, geometry.v_mm / voxel)
    rows = np.where(upright[..., None], _gentle(height, geometry.shape[0]), 0).astype(np.int32)
    kind = 0 if geometry.parallel else 2 if geometry.detector == "curved" else 1
    source = geometry.source_mm / voxel if geometry.parallel else (geometry.source_mm - corner) / voxel
    poses = (source, (geometry.detector_mm - corner) / voxel, geometry.u_mm / voxel, geometry.v_mm / voxel)
    single = np.stack(poses, axis=1)
    lines = (track, height, rows, grid.voxel_mm[0])
    return ConeTable(grid.shape[0], geometry.shape[0], *lines, single, voxel, kind)


def column_rays(geometry: ScanGeometry) -> tuple[Float64[np.ndarray, "v c 3"], Float64[np.ndarray, "v c 3"]]:
    """Return a point and the direction, in mm, of every column's ray to the middle of its rows.

    For a cone the point is the source and the direction ends on the detector.
    """
    column = (np.arange(geometry.shape[1]) - (geometry.shape[1] - 1) / 2)[None, :, None]
    source, detector, u = (x[:, None] for x in (geometry.source_mm, geometry.detector_mm, geometry.u_mm))
    shape = (geometry.views, geometry.shape[1], 3)
    if geometry.parallel:
        return detector + column * u, np.broadcast_to(source, shape)
    reach = detector - source
    if geometry.detector == "flat":
        return np.broadcast_to(source, shape), reach + column * u
    across, rise = (x[:, None] for x in geometry.bend())
    radius, pitch = (np.linalg.norm(x, axis=-1, keepdims=True) for x in (across, u))
    angle = column * pitch / radius
    bent = np.cos(angle) * across + np.sin(angle) * u * radius / pitch + rise
    return np.broadcast_to(source, shape), bent


def _check_sources(source: Float64[np.ndarray, "v 3"], size: np.ndarray) -> None:
    inside = ((source > -0.5) & (source < size - 0.5)).all(axis=1)
    if inside.any():
        view = int(np.flatnonzero(inside)[0])
        raise InputError(
            f"scan.source_mm: the source of view {view} is inside the volume, expected it outside"
        )


def _upright(geometry: ScanGeometry, way: Float64[np.ndarray, "v c 3"]) -> Bool[np.ndarray, "v c"]:
    """Return which columns have one line in the plane for all of their rows."""
    v, size = geometry.v_mm, np.linalg.norm(geometry.v_mm, axis=1)
    flat = np.linalg.norm(way[..., :2], axis=-1)
    if geometry.parallel:
        across = abs(v[:, 0] * geometry.source_mm[:, 1] - v[:, 1] * geometry.source_mm[:, 0])
        stands = across <= UPRIGHT * size * np.linalg.norm(geometry.source_mm[:, :2], axis=1)
    else:
        stands = np.linalg.norm(v[:, :2], axis=1) <= UPRIGHT * size
    return np.asarray(stands[:, None] & (flat > UPRIGHT * np.linalg.norm(way, axis=-1)))


def _height(
    at: np.ndarray, to: np.ndarray, geometry: ScanGeometry, track: RayTable, v: np.ndarray
) -> Float64[np.ndarray, "v c 4"]:
    """Return A0, A1, B0, B1 from the ray at + t * to of row 0, in voxels."""
    drive = np.where(track.along_y, 1, 0)[..., None]
    start, driven = (np.take_along_axis(x, drive, axis=-1)[..., 0] for x in (at, to))
    driven = np.where(driven == 0, 1.0, driven)
    t0, t1 = -start / driven, 1 / driven
    climb = to[..., 2]
    if geometry.parallel:
        # v may lean along the rays: the ray of the next row then starts ``shift`` further along the line,
        # and has at one driving index climbed for that much less.
        shift = np.take_along_axis(np.broadcast_to(v[:, None], to.shape), drive, axis=-1)[..., 0]
        rise = v[:, None, 2] - shift * t1 * climb
        coefficients = (at[..., 2] + t0 * climb, t1 * climb, rise, np.zeros_like(t1))
    else:
        coefficients = (at[..., 2] + t0 * climb, t1 * climb, t0 * v[:, None, 2], t1 * v[:, None, 2])
    return np.stack(coefficients, axis=-1)


def _gentle(height: Float64[np.ndarray, "v c 4"], rows: int) -> Float64[np.ndarray, "v c 2"]:
    """Return the rows [first, stop) whose rays climb at most one slice per driving index."""
    climb, change = height[..., 1], height[..., 3]
    level = change == 0
    safe = np.where(level, 1.0, change)
    # |A1 + B1 r| <= 1: steeper rays move more slices than pixels, so z drives them (see ``single``).
    ends = (-1 - climb) / safe, (1 - climb) / safe
    all_or_none = np.where(abs(climb) <= 1, float(rows), 0.0)
    first = np.where(level, 0.0, np.clip(np.ceil(np.minimum(*ends)), 0, rows))
    stop = np.where(level, all_or_none, np.clip(np.floor(np.maximum(*ends)) + 1, 0, rows))
    return np.stack([first, np.maximum(stop, first)], axis=-1)
