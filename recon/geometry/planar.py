"""Orbits whose rays stay in the slices: parallel beams and fans, one detector row per slice.

A fan has its source at sod * (-sin a, cos a, 0) and the foot of its detector at (sdd - sod) * (sin a, -cos a, 0). For
parallel beams this is ASTRA's convention; its ``fanflat`` at angle a + 180 degrees is our fan at angle a with the
columns in reverse order.
"""

import math
from abc import ABC
from dataclasses import replace
from typing import Any, Literal

from pydantic import PositiveFloat, model_validator

from priors.runtime.errors import InputError
from recon.geometry.circular import CircularOrbit, directions
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry


class PlanarOrbit(CircularOrbit, ABC):
    """A turn seen slice by slice: row r of the detector is slice r."""

    def _filled(self, grid: Grid, column_mm: float, half_width_mm: float) -> dict[str, Any]:
        step = self.column_mm or column_mm
        wide = math.ceil(2 * half_width_mm / step - 1e-9) + 2 * math.ceil(abs(self.offset_columns))
        rows, row_mm = self.rows or grid.shape[0], self.row_mm or grid.voxel_mm[0]
        return {"columns": self.columns or wide, "column_mm": step, "rows": rows, "row_mm": row_mm}


class Parallel(PlanarOrbit):
    """Parallel rays; 180 degrees see everything."""

    name: Literal["parallel"] = "parallel"
    arc_deg: float = 180.0

    def fit(self, grid: Grid) -> "Parallel":
        """Return the orbit with every open field filled; columns as wide as the smaller in-plane voxel
        side."""
        filled = self._filled(grid, min(grid.voxel_mm[1:]), grid.radius_mm)
        return self.model_copy(update=filled)

    def geometry(self) -> ScanGeometry:
        """Return the vectors of every view."""
        rows, columns, row_mm, column_mm = self._detector()
        travel, u, v = directions(self.angles())
        centre = self.offset_columns * column_mm * u
        return ScanGeometry("parallel", travel, centre, column_mm * u, row_mm * v, (rows, columns))


class _Fan(PlanarOrbit):
    """What both fans share. sod_mm: source to axis. sdd_mm: source to detector."""

    sod_mm: PositiveFloat
    sdd_mm: PositiveFloat

    @model_validator(mode="after")
    def _detector_behind_the_axis(self) -> "_Fan":
        if self.sdd_mm < self.sod_mm:
            raise InputError(f"orbit.sdd_mm: found {self.sdd_mm}, expected at least sod_mm = {self.sod_mm}")
        return self

    @property
    def magnification(self) -> float:
        """Size on the detector of something of size one at the rotation axis."""
        return self.sdd_mm / self.sod_mm

    def grid(self) -> Grid:
        """Return as many pixels as columns, as large as those are at the rotation axis, and slices as high as rows."""
        grid = super().grid()
        return replace(grid, voxel_mm=(self._detector()[2], *grid.voxel_mm[1:]))

    def _half_fan(self, grid: Grid) -> float:
        if grid.radius_mm >= self.sod_mm:
            raise InputError(
                f"orbit.sod_mm: found {self.sod_mm}, expected a source outside the circle of radius "
                f"{grid.radius_mm:.4g} mm around the volume"
            )
        return math.asin(grid.radius_mm / self.sod_mm)

    def _column_at_axis(self, grid: Grid) -> float:
        return min(grid.voxel_mm[1:]) * self.sdd_mm / self.sod_mm


class FanFlat(_Fan):
    """A fan onto a straight detector; column_mm is measured on the detector."""

    name: Literal["fan-flat"] = "fan-flat"

    def fit(self, grid: Grid) -> "FanFlat":
        """Return the orbit with every open field filled; voxels are resolved at the rotation axis."""
        half = self.sdd_mm * math.tan(self._half_fan(grid))
        return self.model_copy(update=self._filled(grid, self._column_at_axis(grid), half))

    def geometry(self) -> ScanGeometry:
        """Return the vectors of every view."""
        rows, columns, row_mm, column_mm = self._detector()
        travel, u, v = directions(self.angles())
        centre = (self.sdd_mm - self.sod_mm) * travel + self.offset_columns * column_mm * u
        return ScanGeometry("fan", -self.sod_mm * travel, centre, column_mm * u, row_mm * v, (rows, columns))


class FanCurved(_Fan):
    """A fan onto a cylinder around the source; column_mm is measured along the curve."""

    name: Literal["fan-curved"] = "fan-curved"

    def fit(self, grid: Grid) -> "FanCurved":
        """Return the orbit with every open field filled; voxels are resolved at the rotation axis."""
        half = self.sdd_mm * self._half_fan(grid)
        return self.model_copy(update=self._filled(grid, self._column_at_axis(grid), half))

    def geometry(self) -> ScanGeometry:
        """Return the vectors of every view."""
        rows, columns, row_mm, column_mm = self._detector()
        travel, u, v = directions(self.angles())
        turn = self.offset_columns * column_mm / self.sdd_mm
        middle = math.cos(turn) * travel + math.sin(turn) * u
        along = math.cos(turn) * u - math.sin(turn) * travel
        source = -self.sod_mm * travel
        poses = (source, source + self.sdd_mm * middle, column_mm * along, row_mm * v)
        return ScanGeometry("fan", *poses, (rows, columns), "curved")
