"""Orbits given in other ways: parallel rays onto a detector in space, and plain vectors.

``parallel-3d`` at angle a and elevation e: rays travel along (sin a cos e, -cos a cos e, -sin e), columns step along
u = (cos a, sin a, 0) and rows along v = (sin a sin e, -cos a sin e, cos e), the detector facing the rays. Elevation 0
is a parallel beam whose rows need not be slices; 0 < e < 90 is laminography with the axis tilted by e against the
detector. ``in_plane_deg`` turns the detector within its plane (u towards v).

``vectors`` lists one row of twelve numbers per view in mm: source (or direction of parallel rays), middle of the
detector, u, v. That is the row of ASTRA's ``cone_vec`` and ``parallel3d_vec``.
"""

import math
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import model_validator

from priors.runtime.errors import InputError
from recon.geometry.circular import CircularOrbit, DetectorOrbit, directions
from recon.geometry.grid import Grid
from recon.geometry.scan import Beam, Detector, ScanGeometry
from recon.geometry.suggestion import suggested_grid


class Parallel3D(CircularOrbit):
    """Parallel rays onto a detector in space.

    Attributes:
        elevation_deg: angle of the rays against the slices.
        in_plane_deg: turn of the detector within its plane.
        offset_rows: shift of the detector along +v in rows.
        height_mm: z of the point on the axis that the unshifted detector's middle sees; ``fit`` takes the volume's.
    """

    name: Literal["parallel-3d"] = "parallel-3d"
    elevation_deg: float = 0.0
    in_plane_deg: float = 0.0
    offset_rows: float = 0.0
    height_mm: float | None = None

    def fit(self, grid: Grid) -> "Parallel3D":
        """Return the orbit with every open field filled; the detector covers the cylinder around the volume."""
        height = grid.centre_mm[0] if self.height_mm is None else self.height_mm
        rise, turn = math.radians(self.elevation_deg), math.radians(self.in_plane_deg)
        radius = grid.radius_mm
        tall = abs(grid.centre_mm[0] - height) + grid.shape[0] * grid.voxel_mm[0] / 2
        up = tall * abs(math.cos(rise)) + radius * abs(math.sin(rise))
        half_width = radius * abs(math.cos(turn)) + up * abs(math.sin(turn))
        half_height = up * abs(math.cos(turn)) + radius * abs(math.sin(turn))
        column = self.column_mm or min(grid.voxel_mm[1:])
        row = self.row_mm or grid.voxel_mm[0]
        columns = math.ceil(2 * half_width / column - 1e-9) + 2 * math.ceil(abs(self.offset_columns))
        rows = math.ceil(2 * half_height / row - 1e-9) + 2 * math.ceil(abs(self.offset_rows))
        size = {
            "columns": self.columns or columns,
            "column_mm": column,
            "rows": self.rows or rows,
            "row_mm": row,
        }
        return self.model_copy(update={**size, "height_mm": height})

    def geometry(self) -> ScanGeometry:
        """Return the vectors of every view."""
        rows, columns, row_mm, column_mm = self._detector()
        level, u, up = directions(self.angles())
        rise, turn = math.radians(self.elevation_deg), math.radians(self.in_plane_deg)
        travel = math.cos(rise) * level - math.sin(rise) * up
        v = math.cos(rise) * up + math.sin(rise) * level
        if turn:
            u, v = math.cos(turn) * u + math.sin(turn) * v, math.cos(turn) * v - math.sin(turn) * u
        centre = (
            (self.height_mm or 0.0) * up + self.offset_columns * column_mm * u + self.offset_rows * row_mm * v
        )
        return ScanGeometry("parallel-3d", travel, centre, column_mm * u, row_mm * v, (rows, columns))


class Vectors(DetectorOrbit):
    """Poses of the views, as they are.

    Attributes:
        beam: how rays spread. detector: flat, or a cylinder around the source.
        poses: twelve numbers per view.
        file: text file with twelve numbers per line instead of ``poses``.
    """

    name: Literal["vectors"] = "vectors"
    beam: Beam = "cone"
    detector: Detector = "flat"
    poses: tuple[tuple[float, ...], ...] | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _given_once(self) -> "Vectors":
        if (self.poses is None) == (self.file is None):
            raise InputError("orbit: expected either poses or the file that holds them")
        if self.columns is None or self.rows is None:
            raise InputError("orbit: vectors need rows and columns, the shape of the detector")
        if self.column_mm is not None or self.row_mm is not None:
            raise InputError(
                "orbit: vectors hold the size of a pixel in u and v; leave column_mm and row_mm away"
            )
        if self.poses is not None:
            self._numbers()
        return self

    @property
    def views(self) -> int:
        """Number of views."""
        return len(self._numbers())

    def fit(self, grid: Grid) -> "Vectors":
        """Return the orbit with the poses read from their file: nothing else is open."""
        poses = tuple(tuple(float(n) for n in row) for row in self._numbers())
        return self.model_copy(update={"poses": poses, "file": None})

    def geometry(self) -> ScanGeometry:
        """Return the vectors of every view.

        Raises:
            InputError: the file cannot be read, or poses are degenerate.
        """
        if self.rows is None or self.columns is None:
            raise InputError("orbit: vectors need rows and columns")
        source, detector, u, v = np.split(self._numbers(), 4, axis=1)
        if self.beam in ("parallel", "parallel-3d"):
            length = np.linalg.norm(source, axis=1, keepdims=True)
            source = source / np.where(length > 0, length, 1)
        return ScanGeometry(self.beam, source, detector, u, v, (self.rows, self.columns), self.detector)

    def grid(self) -> Grid:
        """Return as many pixels as columns and slices as rows, as large as those are at the rotation axis."""
        return suggested_grid(self.geometry())

    def _numbers(self) -> np.ndarray:
        if self.poses is not None:
            table = self.poses
            if not table or any(len(row) != 12 for row in table):
                raise InputError(
                    f"orbit.poses: found rows of {sorted({len(row) for row in table})} numbers, expected 12 per view"
                )
            return np.array(table, dtype=np.float64)
        try:
            numbers = np.loadtxt(str(self.file), dtype=np.float64, ndmin=2, delimiter=_delimiter(self.file))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.file}: is not a readable text file of numbers, expected 12 per line"
            ) from error
        if numbers.shape[1:] != (12,) or not len(numbers):
            raise InputError(
                f"{self.file}: found a table of shape {numbers.shape}, expected 12 numbers per view"
            )
        return numbers


def _delimiter(file: Path | None) -> str | None:
    return "," if file is not None and file.suffix.lower() == ".csv" else None
