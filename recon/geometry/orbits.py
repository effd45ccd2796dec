"""Orbits: what a person writes in YAML, expanded to the vectors of a scan.

At angle a the rays of a parallel beam travel along (sin a, -cos a, 0) and columns step along u = (cos a,
sin a, 0); rows step along (0, 0, 1). A fan has its source at sod * (-sin a, cos a, 0) and the foot of its
detector at (sdd - sod) * (sin a, -cos a, 0). For parallel beams this is ASTRA's convention;
its ``fanflat`` at angle a + 180 degrees is our fan at angle a with the columns in reverse order.

Views are equispaced over ``arc_deg`` with the end point excluded, or at the listed ``angles_deg``. The
detector's array is shifted by ``offset_columns`` along +u (on a curved detector, along the curve), so the
rotation axis falls on column (columns - 1) / 2 - offset_columns. ``fit`` fills what is left open so that
the detector covers the circle around a volume at the resolution of its voxels.
"""

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from priors.runtime.errors import InputError
from recon.geometry.scan import Scan
from recon.geometry.volume import Volume


class CircularOrbit(BaseModel, ABC):
    """A source or a direction that turns about the z axis.

    Attributes:
        views: number of views.
        arc_deg: arc over which the views are spread, end point excluded; negative turns the other way.
        start_deg: angle of the first view.
        angles_deg: one angle per view instead of ``views``, ``arc_deg`` and ``start_deg``.
        columns: detector columns. column_mm: their spacing.
        rows: detector rows, one per slice. row_mm: their spacing.
        offset_columns: shift of the detector along +u in columns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    views: PositiveInt = 180
    arc_deg: float = 360.0
    start_deg: float = 0.0
    angles_deg: tuple[float, ...] | None = None
    columns: PositiveInt | None = None
    column_mm: PositiveFloat | None = None
    rows: PositiveInt | None = None
    row_mm: PositiveFloat | None = None
    offset_columns: float = 0.0

    @model_validator(mode="after")
    def _angles_look_like_degrees(self) -> "CircularOrbit":
        if not 0 < abs(self.arc_deg) <= 360:
            raise InputError(f"orbit.arc_deg: found {self.arc_deg}, expected degrees, at most 360 and not 0")
        if any(abs(abs(self.arc_deg) - turn) < 2e-3 for turn in (math.pi, 2 * math.pi)):
            raise InputError(
                f"orbit.arc_deg: found {self.arc_deg}, which looks like radians, expected degrees"
            )
        if self.angles_deg is not None:
            _check_angles(self.angles_deg)
        return self

    @abstractmethod
    def fit(self, volume: Volume) -> "CircularOrbit":
        """Return the orbit with every open field filled to cover ``volume`` at its resolution."""

    @abstractmethod
    def scan(self) -> Scan:
        """Return the vectors of every view; needs a complete detector (see ``fit``)."""

    def angles(self) -> Float64[np.ndarray, " v"]:
        """Return the angle of every view in radians."""
        if self.angles_deg is not None:
            return np.deg2rad(np.asarray(self.angles_deg, dtype=np.float64))
        return np.deg2rad(self.start_deg + self.arc_deg * np.arange(self.views) / self.views)

    def _filled(self, volume: Volume, column_mm: float, half_width_mm: float) -> dict[str, Any]:
        step = self.column_mm or column_mm
        wide = math.ceil(2 * half_width_mm / step - 1e-9) + 2 * math.ceil(abs(self.offset_columns))
        rows, row_mm = self.rows or volume.shape[0], self.row_mm or volume.voxel_mm[0]
        return {"columns": self.columns or wide, "column_mm": step, "rows": rows, "row_mm": row_mm}

    def _detector(self) -> tuple[int, int, float, float]:
        rows, columns, row_mm, column_mm = self.rows, self.columns, self.row_mm, self.column_mm
        if rows is None or columns is None or row_mm is None or column_mm is None:
            raise InputError(
                "orbit: columns, column_mm, rows and row_mm must be given, or filled by fit(volume)"
            )
        return rows, columns, row_mm, column_mm


def _check_angles(angles_deg: tuple[float, ...]) -> None:
    if not angles_deg:
        raise InputError("orbit.angles_deg: found an empty list, expected one angle per view")
    span = max(angles_deg) - min(angles_deg)
    if (
        len(angles_deg) >= 8
        and span <= 2 * math.pi + 1e-3
        and min(abs(span - math.pi), abs(span - 2 * math.pi)) < 0.5
    ):
        raise InputError(
            f"orbit.angles_deg: found a span of {span:.4g}, which looks like radians, expected degrees"
        )
    if max(map(abs, angles_deg)) > 36000:
        raise InputError(f"orbit.angles_deg: found {max(map(abs, angles_deg)):.6g}, expected degrees")


def _directions(angles: Float64[np.ndarray, " v"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the direction of travel, the column direction u and the row direction v of every view."""
    # Multiples of 90 degrees are made exact: their rays must run along the grid, not 1e-16 beside it.
    sine, cosine, zero = np.sin(angles), np.cos(angles), np.zeros_like(angles)
    sine, cosine = (np.where(abs(value) < 1e-14, 0.0, value) for value in (sine, cosine))
    travel = np.stack([sine, -cosine, zero], axis=1)
    return travel, np.stack([cosine, sine, zero], axis=1), np.tile([0.0, 0.0, 1.0], (len(angles), 1))


class Parallel(CircularOrbit):
    """Parallel rays; 180 degrees see everything."""

    name: Literal["parallel"] = "parallel"
    arc_deg: float = 180.0

    def fit(self, volume: Volume) -> "Parallel":
        """Return the orbit with every open field filled; columns as wide as the smaller in-plane voxel
        side."""
        filled = self._filled(volume, min(volume.voxel_mm[1:]), volume.radius_mm)
        return self.model_copy(update=filled)

    def scan(self) -> Scan:
        """Return the vectors of every view."""
        rows, columns, row_mm, column_mm = self._detector()
        travel, u, v = _directions(self.angles())
        centre = self.offset_columns * column_mm * u
        return Scan("parallel", travel, centre, column_mm * u, row_mm * v, (rows, columns))


class _Fan(CircularOrbit):
    """What both fans share. sod_mm: source to axis. sdd_mm: source to detector."""

    sod_mm: PositiveFloat
    sdd_mm: PositiveFloat

    @model_validator(mode="after")
    def _detector_behind_the_axis(self) -> "_Fan":
        if self.sdd_mm < self.sod_mm:
            raise InputError(f"orbit.sdd_mm: found {self.sdd_mm}, expected at least sod_mm = {self.sod_mm}")
        return self

    def _half_fan(self, volume: Volume) -> float:
        if volume.radius_mm >= self.sod_mm:
            raise InputError(
                f"orbit.sod_mm: found {self.sod_mm}, expected a source outside the circle of radius "
                f"{volume.radius_mm:.4g} mm around the volume"
            )
        return math.asin(volume.radius_mm / self.sod_mm)

    def _column_at_axis(self, volume: Volume) -> float:
        return min(volume.voxel_mm[1:]) * self.sdd_mm / self.sod_mm


class FanFlat(_Fan):
    """A fan onto a straight detector; column_mm is measured on the detector."""

    name: Literal["fan-flat"] = "fan-flat"

    def fit(self, volume: Volume) -> "FanFlat":
        """Return the orbit with every open field filled; voxels are resolved at the rotation axis."""
        half = self.sdd_mm * math.tan(self._half_fan(volume))
        return self.model_copy(update=self._filled(volume, self._column_at_axis(volume), half))

    def scan(self) -> Scan:
        """Return the vectors of every view."""
        rows, columns, row_mm, column_mm = self._detector()
        travel, u, v = _directions(self.angles())
        centre = (self.sdd_mm - self.sod_mm) * travel + self.offset_columns * column_mm * u
        return Scan("fan", -self.sod_mm * travel, centre, column_mm * u, row_mm * v, (rows, columns))


class FanCurved(_Fan):
    """A fan onto a cylinder around the source; column_mm is measured along the curve."""

    name: Literal["fan-curved"] = "fan-curved"

    def fit(self, volume: Volume) -> "FanCurved":
        """Return the orbit with every open field filled; voxels are resolved at the rotation axis."""
        half = self.sdd_mm * self._half_fan(volume)
        return self.model_copy(update=self._filled(volume, self._column_at_axis(volume), half))

    def scan(self) -> Scan:
        """Return the vectors of every view."""
        rows, columns, row_mm, column_mm = self._detector()
        travel, u, v = _directions(self.angles())
        turn = self.offset_columns * column_mm / self.sdd_mm
        middle = math.cos(turn) * travel + math.sin(turn) * u
        along = math.cos(turn) * u - math.sin(turn) * travel
        source = -self.sod_mm * travel
        poses = (source, source + self.sdd_mm * middle, column_mm * along, row_mm * v)
        return Scan("fan", *poses, (rows, columns), "curved")


Orbit = Annotated[Parallel | FanFlat | FanCurved, Field(discriminator="name")]
