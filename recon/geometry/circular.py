"""What orbits share: a detector, and the angles of a turn about the z axis.

At angle a rays through the axis travel along (sin a, -cos a, 0); columns step along u = (cos a, sin a, 0), rows along
(0, 0, 1). Views are equispaced over ``arc_deg`` with the end point excluded, or at the listed ``angles_deg``. The
detector's array is shifted by ``offset_columns`` along +u (on a curved detector, along the curve), so the rotation
axis falls on column (columns - 1) / 2 - offset_columns. ``fit`` fills what is left open so that the detector covers a
volume at the resolution of its voxels.
"""

import math
from abc import ABC, abstractmethod

import numpy as np
from jaxtyping import Float64
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry


class DetectorOrbit(BaseModel, ABC):
    """Where source and detector go, and the size of the detector.

    Attributes:
        columns: detector columns. column_mm: their spacing.
        rows: detector rows. row_mm: their spacing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    columns: PositiveInt | None = None
    column_mm: PositiveFloat | None = None
    rows: PositiveInt | None = None
    row_mm: PositiveFloat | None = None

    @abstractmethod
    def fit(self, grid: Grid) -> "DetectorOrbit":
        """Return the orbit with every open field filled to cover ``grid`` at its resolution."""

    @abstractmethod
    def geometry(self) -> ScanGeometry:
        """Return the vectors of every view; needs a complete detector (see ``fit``)."""

    @property
    def magnification(self) -> float:
        """Size on the detector of something of size one at the rotation axis."""
        return 1.0

    def grid(self) -> Grid:
        """Return as many pixels as columns and slices as rows, as large as those are at the rotation axis.

        Raises:
            InputError: the detector is not complete (see ``fit``).
        """
        rows, columns, row_mm, column_mm = self._detector()
        pixel = column_mm / self.magnification
        return Grid((rows, columns, columns), (row_mm / self.magnification, pixel, pixel))

    def _detector(self) -> tuple[int, int, float, float]:
        rows, columns, row_mm, column_mm = self.rows, self.columns, self.row_mm, self.column_mm
        if rows is None or columns is None or row_mm is None or column_mm is None:
            raise InputError(
                "orbit: columns, column_mm, rows and row_mm must be given, or filled by fit(volume)"
            )
        return rows, columns, row_mm, column_mm


class CircularOrbit(DetectorOrbit, ABC):
    """A source or a direction that turns about the z axis.

    Attributes:
        views: number of views.
        arc_deg: arc over which the views are spread, end point excluded; negative turns the other way.
        start_deg: angle of the first view.
        angles_deg: one angle per view instead of ``views``, ``arc_deg`` and ``start_deg``.
        offset_columns: shift of the detector along +u in columns.
    """

    # Beyond this a misprint would fill the memory before anything compares it with the data.
    views: PositiveInt = Field(180, le=1_000_000)
    arc_deg: float = 360.0
    start_deg: float = 0.0
    angles_deg: tuple[float, ...] | None = None
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
            check_angles(self.angles_deg)
        return self

    def angles(self) -> Float64[np.ndarray, " v"]:
        """Return the angle of every view in radians."""
        if self.angles_deg is not None:
            return np.deg2rad(np.asarray(self.angles_deg, dtype=np.float64))
        return np.deg2rad(self.start_deg + self.arc_deg * np.arange(self.views) / self.views)


def check_angles(angles_deg: tuple[float, ...]) -> None:
    """Refuse angles that cannot be degrees.

    Raises:
        InputError: there are none, or they look like radians.
    """
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


def directions(angles: Float64[np.ndarray, " v"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the direction of travel, the column direction u and the row direction v of every view."""
    # Multiples of 90 degrees are made exact: their rays must run along the grid, not 1e-16 beside it.
    sine, cosine, zero = np.sin(angles), np.cos(angles), np.zeros_like(angles)
    sine, cosine = (np.where(abs(value) < 1e-14, 0.0, value) for value in (sine, cosine))
    travel = np.stack([sine, -cosine, zero], axis=1)
    return travel, np.stack([cosine, sine, zero], axis=1), np.tile([0.0, 0.0, 1.0], (len(angles), 1))
