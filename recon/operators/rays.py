"""Joseph's method as one table: how every ray of a two-dimensional scan crosses the pixel grid.

A ray is driven along the axis it follows most closely, x or y, counted in pixels. At driving index i it
crosses the other axis at

    p(i) = offset + slope * i,            |slope| <= 1

and its line integral is ``step`` (mm per driving pixel) times the sum over i of the image interpolated
linearly between the pixels floor(p) and floor(p) + 1; pixels outside the grid are zero. Offsets and slopes
are integers in units of 2**-40 pixel: p(i) is then exact however it is reached, so a forward projector and
an adjoint that visit the crossings in different orders, or in tiles, use the same weights to the last bit.

All geometry ends here: beams, curved detectors, offsets, spacings and anisotropic pixels change the table
only.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry

FRACTION_BITS = 40
LARGEST_GRID = 1 << 20


@dataclass(frozen=True, eq=False)
class RayTable:
    """One row per ray (view, column).

    Attributes:
        grid: pixels along y and x.
        along_y: whether the driving axis is y.
        offset: crossing at driving index 0 in 2**-40 pixel.
        slope: change of the crossing per driving pixel in 2**-40 pixel.
        step: length of ray per driving pixel in mm.
        first: first driving index.
        stop: one past the last driving index; not above ``first`` where a ray misses the grid.
        source: position of the source of a fan along x and y in pixels from pixel 0, None for parallel rays.
    """

    grid: tuple[int, int]
    along_y: Bool[np.ndarray, "v c"]
    offset: Int64[np.ndarray, "v c"]
    slope: Int64[np.ndarray, "v c"]
    step: Float64[np.ndarray, "v c"]
    first: Int32[np.ndarray, "v c"]
    stop: Int32[np.ndarray, "v c"]
    source: Float64[np.ndarray, "v 2"] | None

    @property
    def shape(self) -> tuple[int, int]:
        """Views and columns."""
        return self.step.shape[0], self.step.shape[1]

    def __getitem__(self, views: slice | list[int] | np.ndarray) -> "RayTable":
        """Return the rays of some views."""
        kept = {name: getattr(self, name) for name in ("along_y", "offset", "slope", "step", "first", "stop")}
        arrays: dict[str, Any] = {name: np.ascontiguousarray(value[views]) for name, value in kept.items()}
        return RayTable(grid=self.grid, **arrays, source=None if self.source is None else self.source[views])


def trace(grid: Grid, geometry: ScanGeometry) -> RayTable:
    """Return the table of a parallel or fan-beam scan over the slices of a volume.

    Raises:
        InputError: rows are not slices, the scan leaves the plane of the slices, or a source is inside the
            volume.
    """
    point, direction = _rays(geometry)
    table = plane_table(grid, point, direction, from_source=geometry.beam == "fan")
    if table.source is not None:
        _check_sources(table.source, np.array(table.grid[::-1]))
    return table


def plane_table(
    grid: Grid,
    point: Float64[np.ndarray, "v c 2"],
    direction: Float64[np.ndarray, "v c 2"],
    *,
    from_source: bool,
) -> RayTable:
    """Return the table of lines in the plane of the slices.

    Args:
        grid: whose slices are crossed.
        point: a point (x, y) of every line in mm; the source where there is one.
        direction: of travel along (x, y), of any length but not zero.
        from_source: whether the lines start at ``point``, the same for all columns of a view.

    Raises:
        InputError: a slice has too many pixels.
    """
    _, height, width = grid.shape
    if max(height, width) > LARGEST_GRID:
        raise InputError(
            f"volume.shape: found {grid.shape}, expected at most {LARGEST_GRID} pixels on an axis"
        )
    spacing = np.array([grid.voxel_mm[2], grid.voxel_mm[1]])
    corner = np.array([grid.coordinates(2)[0], grid.coordinates(1)[0]])
    at, to = (point - corner) / spacing, direction / spacing
    source = np.ascontiguousarray(at[:, 0]) if from_source else None
    along_y = abs(to[..., 0]) < abs(to[..., 1])
    driven, crossed = (np.where(along_y, to[..., k], to[..., 1 - k]) for k in (1, 0))
    start, other = (np.where(along_y, at[..., k], at[..., 1 - k]) for k in (1, 0))
    # The driving axis moves at least as many pixels as the other, so |slope| <= 1 and no crossing skips a pixel.
    slope = crossed / driven
    offset = other - slope * start
    length = np.linalg.norm(direction, axis=-1) / abs(driven)
    count, width_across = np.where(along_y, height, width), np.where(along_y, width, height)
    first, stop = _overlap(offset, slope, count, width_across)
    if source is not None:
        # Only the half of the line in front of the source is a ray.
        first = np.where(driven > 0, np.maximum(first, np.ceil(start)), first)
        stop = np.where(driven < 0, np.minimum(stop, np.floor(start) + 1), stop)
    hit = first < stop
    # Rays that miss become zero first: the offset of one that passes far away might not fit 64 bits.
    offset, slope = (
        np.rint(np.where(hit, x, 0) * 2.0**FRACTION_BITS).astype(np.int64) for x in (offset, slope)
    )
    first, stop = (np.where(hit, x, 0).astype(np.int32) for x in (first, stop))
    return RayTable((height, width), along_y, offset, slope, length, first, stop, source)


def _rays(geometry: ScanGeometry) -> tuple[Float64[np.ndarray, "v c 2"], Float64[np.ndarray, "v c 2"]]:
    """Return a point of every ray and its direction, in the plane; for a fan the point is the source."""
    if not geometry.sliced:
        raise InputError(
            f"scan.beam: found {geometry.beam}, expected parallel or fan: this table works slice by slice"
        )
    travel = geometry.source_mm if geometry.beam == "parallel" else geometry.detector_mm - geometry.source_mm
    tilt = max(
        _slant(geometry.u_mm[:, 2:], geometry.u_mm),
        _slant(geometry.v_mm[:, :2], geometry.v_mm),
        _slant(travel[:, 2:], travel),
    )
    if tilt > 1e-6:
        raise InputError(
            f"scan: rays or detector leave the plane of the slices by {tilt:.2g}, expected u in it, v on z"
        )
    column = np.arange(geometry.shape[1]) - (geometry.shape[1] - 1) / 2
    shift = column[None, :, None] * geometry.u_mm[:, None, :2]
    if geometry.beam == "parallel":
        return geometry.detector_mm[:, None, :2] + shift, np.broadcast_to(travel[:, None, :2], shift.shape)
    source = np.broadcast_to(geometry.source_mm[:, None, :2], shift.shape)
    if geometry.detector == "flat":
        return source, travel[:, None, :2] + shift
    radius, pitch = (np.linalg.norm(x[:, :2], axis=1) for x in (travel, geometry.u_mm))
    angle = column[None, :, None] * (pitch / radius)[:, None, None]
    across = geometry.u_mm[:, None, :2] * (radius / pitch)[:, None, None]
    return source, np.cos(angle) * travel[:, None, :2] + np.sin(angle) * across


def _slant(component: np.ndarray, whole: np.ndarray) -> float:
    return float((np.linalg.norm(component, axis=1) / np.linalg.norm(whole, axis=1)).max())


def _check_sources(source: Float64[np.ndarray, "v 2"], size: np.ndarray) -> None:
    inside = ((source > -0.5) & (source < size - 0.5)).all(axis=1)
    if inside.any():
        view = int(np.flatnonzero(inside)[0])
        raise InputError(
            f"scan.source_mm: the source of view {view} is inside the volume, expected it outside"
        )


def _overlap(
    offset: np.ndarray, slope: np.ndarray, count: np.ndarray, across: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the range of driving indices, as floats, where -1 < offset + slope * i < across."""
    flat = abs(slope) < 1e-12
    safe = np.where(flat, 1.0, slope)
    ends = (-1 - offset) / safe, (across - offset) / safe
    inside = (offset > -1) & (offset < across)
    # One index too many on either side costs nothing: backends skip crossings outside the grid.
    low = np.where(flat, np.where(inside, 0, count), np.floor(np.minimum(*ends)))
    high = np.where(flat, count, np.ceil(np.maximum(*ends)) + 1)
    return np.clip(low, 0, count), np.clip(high, 0, count)
