"""Slow, obvious answers for projector and reconstruction tests.

Ellipses have closed-form line integrals; ``joseph_matrix`` writes Joseph's method ray by ray from the
scan's vectors. Neither reads the code under test beyond the vectors of the scan.
"""

from dataclasses import dataclass

import numpy as np
import torch

from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry


@dataclass(frozen=True)
class Ellipse:
    """Attenuation ``value`` added inside an ellipse: centre and semi-axes in mm (x, y), angle in radians."""

    centre: tuple[float, float]
    axes: tuple[float, float]
    angle: float
    value: float

    def coordinates(self, points: np.ndarray, *, vectors: bool = False) -> np.ndarray:
        """Map points (or directions) to the frame where the ellipse is the unit circle."""
        turn = np.array([[np.cos(self.angle), np.sin(self.angle)], [-np.sin(self.angle), np.cos(self.angle)]])
        shift = 0.0 if vectors else np.array(self.centre)
        return (points - shift) @ turn.T / np.array(self.axes)


def body(radius_mm: float, value: float = 0.02) -> list[Ellipse]:
    """A body with a cavity, an organ 5% denser and two small parts."""
    r = radius_mm
    return [
        Ellipse((0, 0), (r, 0.8 * r), 0.2, value),
        Ellipse((0.3 * r, 0.1 * r), (0.2 * r, 0.3 * r), 0.5, -0.3 * value),
        Ellipse((-0.4 * r, -0.2 * r), (0.22 * r, 0.22 * r), 0.0, 0.05 * value),
        Ellipse((-0.1 * r, 0.45 * r), (0.07 * r, 0.06 * r), 0.0, value),
    ]


def rays(geometry: ScanGeometry, oversampling: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return a point and the unit direction of rays (view, column * oversampling, 2)."""
    columns = geometry.shape[1] * oversampling
    at = ((np.arange(columns) - (columns - 1) / 2) / oversampling)[None, :, None]
    u, source, detector = (x[:, None, :2] for x in (geometry.u_mm, geometry.source_mm, geometry.detector_mm))
    if geometry.beam == "parallel":
        return detector + at * u, np.broadcast_to(source, (geometry.views, columns, 2))
    if geometry.detector == "curved":
        reach = detector - source
        radius, pitch = (np.linalg.norm(x, axis=-1, keepdims=True) for x in (reach, u))
        angle = at * pitch / radius
        direction = np.cos(angle) * reach / radius + np.sin(angle) * u / pitch
    else:
        direction = detector + at * u - source
    direction = direction / np.linalg.norm(direction, axis=-1, keepdims=True)
    return np.broadcast_to(source, direction.shape), direction


def line_integrals(ellipses: list[Ellipse], geometry: ScanGeometry, oversampling: int = 1) -> torch.Tensor:
    """Return the exact sinogram (view, row, column), averaged over ``oversampling`` rays per column."""
    points, directions = rays(geometry, oversampling)
    total = np.zeros(points.shape[:2])
    for ellipse in ellipses:
        p, d = ellipse.coordinates(points), ellipse.coordinates(directions, vectors=True)
        a, b, c = (d * d).sum(-1), (p * d).sum(-1), (p * p).sum(-1) - 1
        total += ellipse.value * 2 * np.sqrt(np.maximum(b * b - a * c, 0)) / a
    sampled = total.reshape(geometry.views, 1, geometry.shape[1], oversampling).mean(-1)
    return torch.from_numpy(np.repeat(sampled, geometry.shape[0], axis=1))


def rasterise(ellipses: list[Ellipse], grid: Grid, oversampling: int = 4) -> torch.Tensor:
    """Return the mean attenuation of every voxel (z, y, x) from ``oversampling`` squared samples."""
    inside = (np.arange(oversampling) + 0.5) / oversampling - 0.5
    y, x = ((grid.coordinates(k)[:, None] + inside * grid.voxel_mm[k]).ravel() for k in (1, 2))
    points = np.stack(np.meshgrid(x, y), axis=-1)
    total = sum(e.value * ((e.coordinates(points) ** 2).sum(-1) <= 1) for e in ellipses)
    _, height, width = grid.shape
    image = np.asarray(total).reshape(height, oversampling, width, oversampling).mean((1, 3))
    return torch.from_numpy(np.repeat(image[None], grid.shape[0], axis=0))


def joseph_matrix(grid: Grid, geometry: ScanGeometry) -> np.ndarray:
    """Return the dense matrix of one slice, rows (view, column), columns (y, x), with Python loops."""
    _, height, width = grid.shape
    ys, xs = grid.coordinates(1), grid.coordinates(2)
    points, directions = rays(geometry)
    matrix = np.zeros((geometry.views * geometry.shape[1], height, width))
    for row, (point, way) in enumerate(zip(points.reshape(-1, 2), directions.reshape(-1, 2), strict=True)):
        along_x = abs(way[0]) / grid.voxel_mm[2] >= abs(way[1]) / grid.voxel_mm[1]
        drive, cross = (0, 1) if along_x else (1, 0)
        driven, crossed = (xs, ys) if along_x else (ys, xs)
        spacing = grid.voxel_mm[2 - drive], grid.voxel_mm[2 - cross]
        for i, position in enumerate(driven):
            travelled = (position - point[drive]) / way[drive]
            if geometry.beam == "fan" and travelled < 0:
                continue
            p = (point[cross] + travelled * way[cross] - crossed[0]) / spacing[1]
            for j in (int(np.floor(p)), int(np.floor(p)) + 1):
                if 0 <= j < len(crossed):
                    y, x = (j, i) if along_x else (i, j)
                    matrix[row, y, x] += (1 - abs(p - j)) * spacing[0] / abs(way[drive])
    return matrix.reshape(len(matrix), -1)
