"""Slow, obvious answers in three dimensions: line integrals of ellipsoids, and Joseph's method ray by ray in Python.

Neither reads the code under test beyond the vectors of the scan.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry


@dataclass(frozen=True)
class Ellipsoid:
    """Attenuation ``value`` added inside an ellipsoid: centre, semi-axes in mm (x, y, z), turn about z in radians."""

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]
    angle: float
    value: float

    def coordinates(self, points: np.ndarray, *, vectors: bool = False) -> np.ndarray:
        """Map points (or directions) to the frame where the ellipsoid is the unit ball."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        shift = 0.0 if vectors else np.array(self.centre)
        return (points - shift) @ turn.T / np.array(self.axes)


def balls(radius_mm: float, value: float = 0.02) -> list[Ellipsoid]:
    """A ball with a cavity and a dense ellipsoid, nothing symmetric."""
    r = radius_mm
    return [
        Ellipsoid((0.05 * r, 0, -0.04 * r), (r, 0.85 * r, 0.8 * r), 0.3, value),
        Ellipsoid((0.3 * r, 0.2 * r, 0.2 * r), (0.25 * r, 0.2 * r, 0.3 * r), 0.8, -0.5 * value),
        Ellipsoid((-0.35 * r, -0.2 * r, -0.3 * r), (0.2 * r, 0.2 * r, 0.2 * r), 0.0, value),
    ]


def torso(radius_mm: float, value: float = 0.02) -> list[Ellipsoid]:
    """A body with a lung, an organ 5% denser, and two small parts, one of them high up."""
    r = radius_mm
    return [
        Ellipsoid((0, 0, 0), (r, 0.8 * r, 0.9 * r), 0.2, value),
        Ellipsoid((0.3 * r, 0.1 * r, 0.1 * r), (0.2 * r, 0.3 * r, 0.3 * r), 0.5, -0.5 * value),
        Ellipsoid((-0.4 * r, -0.2 * r, 0.2 * r), (0.22 * r, 0.22 * r, 0.25 * r), 0.0, 0.05 * value),
        Ellipsoid((-0.1 * r, 0.45 * r, 0), (0.07 * r, 0.06 * r, 0.08 * r), 0.0, value),
        Ellipsoid((-0.2 * r, 0.2 * r, 0.5 * r), (0.15 * r, 0.15 * r, 0.1 * r), 0.0, 0.5 * value),
    ]


def cylinder(radius_mm: float, value: float = 0.02) -> list[Ellipsoid]:
    """The same along every z: bodies so long that their ends are out of sight."""
    return [
        replace(e, centre=(*e.centre[:2], 0.0), axes=(*e.axes[:2], 1e7)) for e in torso(radius_mm, value)[:4]
    ]


def pixel(geometry: ScanGeometry, view: int, row: float, column: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a point and the unit direction of one detector position's ray."""
    source, detector, u, v = (
        x[view] for x in (geometry.source_mm, geometry.detector_mm, geometry.u_mm, geometry.v_mm)
    )
    along, up = column - (geometry.shape[1] - 1) / 2, row - (geometry.shape[0] - 1) / 2
    if geometry.parallel:
        return detector + along * u + up * v, source
    place = detector + along * u + up * v
    if geometry.detector == "curved":
        axis = v / np.linalg.norm(v)
        foot = source + np.dot(detector - source, axis) * axis
        spoke = detector - foot
        radius = np.linalg.norm(spoke)
        angle = along * np.linalg.norm(u) / radius
        place = foot + np.cos(angle) * spoke + np.sin(angle) * radius * u / np.linalg.norm(u) + up * v
    return source, (place - source) / np.linalg.norm(place - source)


def rays(geometry: ScanGeometry, view: int, shift: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return a point and the unit direction of every ray of a view (r, c, 3), ``shift`` (rows, columns) beside the
    middle of its pixel."""
    rows, columns = geometry.shape
    up = np.arange(rows)[:, None, None] - (rows - 1) / 2 + shift[0]
    along = np.arange(columns)[None, :, None] - (columns - 1) / 2 + shift[1]
    source, detector, u, v = (
        x[view] for x in (geometry.source_mm, geometry.detector_mm, geometry.u_mm, geometry.v_mm)
    )
    place = detector + along * u + up * v
    if geometry.parallel:
        return place, np.broadcast_to(source, place.shape)
    if geometry.detector == "curved":
        axis = v / np.linalg.norm(v)
        foot = source + np.dot(detector - source, axis) * axis
        spoke, pitch = detector - foot, np.linalg.norm(u)
        radius = np.linalg.norm(spoke)
        angle = along * pitch / radius
        place = foot + np.cos(angle) * spoke + np.sin(angle) * radius * u / pitch + up * v
    way = place - source
    return np.broadcast_to(source, way.shape), way / np.linalg.norm(way, axis=-1, keepdims=True)


def line_integrals(
    ellipsoids: list[Ellipsoid], geometry: ScanGeometry, oversampling: int = 1
) -> torch.Tensor:
    """Return the exact sinogram (view, row, column), every pixel the mean of ``oversampling`` squared rays."""
    result = np.zeros((geometry.views, *geometry.shape))
    offsets = (np.arange(oversampling) + 0.5) / oversampling - 0.5
    for view in range(geometry.views):
        for shift in np.ndindex(oversampling, oversampling):
            points, ways = rays(geometry, view, (offsets[shift[0]], offsets[shift[1]]))
            for body in ellipsoids:
                p, d = body.coordinates(points), body.coordinates(ways, vectors=True)
                a, b, c = (d * d).sum(-1), (p * d).sum(-1), (p * p).sum(-1) - 1
                result[view] += body.value * 2 * np.sqrt(np.maximum(b * b - a * c, 0)) / a
    return torch.from_numpy(result / oversampling**2)


def rasterise(ellipsoids: list[Ellipsoid], grid: Grid, oversampling: int = 3) -> torch.Tensor:
    """Return the mean attenuation of every voxel (z, y, x) from ``oversampling`` cubed samples."""
    inside = (np.arange(oversampling) + 0.5) / oversampling - 0.5
    z, y, x = ((grid.coordinates(k)[:, None] + inside * grid.voxel_mm[k]).ravel() for k in (0, 1, 2))
    total = np.zeros(grid.shape)
    for k in range(grid.shape[0]):
        for height in z[k * oversampling : (k + 1) * oversampling]:
            points = np.stack(np.broadcast_arrays(x[None, :], y[:, None], height), axis=-1)
            values = sum(e.value * ((e.coordinates(points) ** 2).sum(-1) <= 1) for e in ellipsoids)
            shape = (grid.shape[1], oversampling, grid.shape[2], oversampling)
            total[k] += np.asarray(values).reshape(shape).mean((1, 3)) / oversampling
    return torch.from_numpy(total)


def joseph_matrix(grid: Grid, geometry: ScanGeometry) -> np.ndarray:
    """Return the dense matrix, rows (view, row, column), columns (z, y, x), with Python loops."""
    axes = [grid.coordinates(k) for k in (2, 1, 0)]
    voxel = np.array(grid.voxel_mm[::-1])
    matrix = np.zeros((geometry.views, *geometry.shape, *grid.shape))
    for place in np.ndindex(geometry.views, *geometry.shape):
        point, way = pixel(geometry, *place)
        speed = abs(way) / voxel
        drive = 2 if speed[2] > max(speed[:2]) else 1 if speed[0] < speed[1] else 0
        for i, position in enumerate(axes[drive]):
            travelled = (position - point[drive]) / way[drive]
            if not geometry.parallel and travelled < 0:
                continue
            at = [(point[k] + travelled * way[k] - axes[k][0]) / voxel[k] for k in range(3)]
            for corner in np.ndindex(2, 2, 2):
                index = [i if k == drive else int(np.floor(at[k])) + corner[k] for k in range(3)]
                if corner[drive] or not all(0 <= index[k] < len(axes[k]) for k in range(3)):
                    continue
                share = np.prod([1 - abs(at[k] - index[k]) for k in range(3) if k != drive])
                matrix[(*place, *index[::-1])] += share * voxel[drive] / abs(way[drive])
    return matrix.reshape(-1, int(np.prod(grid.shape)))
