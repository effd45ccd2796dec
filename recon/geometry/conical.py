"""Orbits whose rays cross slices from a point: circular and helical cones.

At angle a the source is at (-sod sin a, sod cos a, h) - axis_offset u and the middle of the detector sdd in front of
it, with u = (cos a, sin a, 0), rows along z and h the height of the table feed. The detector's array is shifted by
``offset_columns`` along u and ``offset_rows`` along the rows; ``axis_offset_mm`` is where the rotation axis falls
beside the ray through the middle of the unshifted detector, measured along u at the axis. A flat detector is then
turned about its own middle: by ``in_plane_deg`` within its plane (u towards v), by ``tilt_deg`` about u (the upper
edge away from the source) and by ``slant_deg`` about v (the far end of u towards the source). A detector that is
turned in its plane or tilted has no upright columns, which the projector handles ray by ray, and slower.

In a helix the source climbs ``pitch_mm`` per full turn, against the direction of the table. ``fit`` gives it as many
turns as let every view that meets the volume be taken, and rows that cover the Tam-Danielsson window: the part of the
detector between the projections of the neighbouring turns of the helix,

    |v| <= pitch / (2 pi) sdd / sod (1 + t^2) (pi / 2 + |atan t|),    t = u / sdd

on a flat detector (Danielsson et al. 1997; Noo, Pack, Heuscher, Phys. Med. Biol. 48, 3787, 2003).
"""

import math
from abc import ABC
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import PositiveFloat, PositiveInt, field_validator, model_validator

from priors.runtime.errors import InputError
from recon.geometry.circular import CircularOrbit, DetectorOrbit, directions
from recon.geometry.grid import Grid
from recon.geometry.scan import Detector, ScanGeometry


class _Cone(DetectorOrbit, ABC):
    """What cones share.

    Attributes:
        sod_mm: source to axis. sdd_mm: source to detector.
        detector: flat, or a cylinder around the source; column_mm is then an arc length.
        offset_columns: shift of the detector along +u in columns.
        offset_rows: shift of the detector along +v in rows.
        axis_offset_mm: see the module.
        in_plane_deg, tilt_deg, slant_deg: turns of a flat detector, see the module.
    """

    sod_mm: PositiveFloat
    sdd_mm: PositiveFloat
    detector: Detector = "flat"
    offset_columns: float = 0.0
    offset_rows: float = 0.0
    axis_offset_mm: float = 0.0
    in_plane_deg: float = 0.0
    tilt_deg: float = 0.0
    slant_deg: float = 0.0

    @model_validator(mode="after")
    def _possible(self) -> "_Cone":
        if self.sdd_mm < self.sod_mm:
            raise InputError(f"orbit.sdd_mm: found {self.sdd_mm}, expected at least sod_mm = {self.sod_mm}")
        turns = (self.in_plane_deg, self.tilt_deg, self.slant_deg)
        if self.detector == "curved" and any(turns):
            raise InputError("orbit: a curved detector cannot be turned; leave in_plane, tilt and slant at 0")
        if max(abs(turn) for turn in turns[1:]) >= 80:
            raise InputError(f"orbit: found a detector turned by {turns[1:]} degrees, expected less than 80")
        return self

    @property
    def magnification(self) -> float:
        """Size on the detector of something of size one at the rotation axis."""
        return self.sdd_mm / self.sod_mm

    def _poses(
        self, angles: Float64[np.ndarray, " v"], height: Float64[np.ndarray, " v"], shape: tuple[int, int]
    ) -> ScanGeometry:
        """Return the scan of a source at these angles and heights."""
        _, _, row_mm, column_mm = self._detector()
        travel, u, v = directions(angles)
        up = np.stack([np.zeros_like(height), np.zeros_like(height), height], axis=1)
        source = up - self.sod_mm * travel - self.axis_offset_mm * u
        if self.detector == "curved":
            turn = self.offset_columns * column_mm / self.sdd_mm
            middle = math.cos(turn) * travel + math.sin(turn) * u
            u = math.cos(turn) * u - math.sin(turn) * travel
            centre = source + self.sdd_mm * middle
        else:
            u, v = self._turned(travel, u, v)
            centre = source + self.sdd_mm * travel + self.offset_columns * column_mm * u
        centre = centre + self.offset_rows * row_mm * v
        return ScanGeometry("cone", source, centre, column_mm * u, row_mm * v, shape, self.detector)

    def _turned(self, travel: np.ndarray, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.slant_deg:
            turn = math.radians(self.slant_deg)
            u, travel = (
                math.cos(turn) * u - math.sin(turn) * travel,
                math.cos(turn) * travel + math.sin(turn) * u,
            )
        if self.tilt_deg:
            turn = math.radians(self.tilt_deg)
            v = math.cos(turn) * v + math.sin(turn) * travel
        if self.in_plane_deg:
            turn = math.radians(self.in_plane_deg)
            u, v = math.cos(turn) * u + math.sin(turn) * v, math.cos(turn) * v - math.sin(turn) * u
        return u, v

    def _columns(self, grid: Grid) -> dict[str, Any]:
        """Return columns that cover the circle around the volume."""
        radius = grid.radius_mm + abs(self.axis_offset_mm)
        if radius >= self.sod_mm:
            raise InputError(
                f"orbit.sod_mm: found {self.sod_mm}, expected a source outside the circle of radius "
                f"{radius:.4g} mm around the volume"
            )
        half = math.asin(radius / self.sod_mm)
        reach = self.sdd_mm * (half if self.detector == "curved" else math.tan(half))
        step = self.column_mm or min(grid.voxel_mm[1:]) * self.sdd_mm / self.sod_mm
        wide = math.ceil(2 * reach / step - 1e-9) + 2 * math.ceil(abs(self.offset_columns))
        return {"columns": self.columns or wide, "column_mm": step}

    def _rows(self, grid: Grid, half_height_mm: float) -> dict[str, Any]:
        """Return rows that reach ``half_height_mm`` on the detector above and below its middle."""
        step = self.row_mm or grid.voxel_mm[0] * self.sdd_mm / self.sod_mm
        high = math.ceil(2 * half_height_mm / step - 1e-9) + 2 * math.ceil(abs(self.offset_rows))
        return {"rows": self.rows or max(high, 1), "row_mm": step}


class CircularCone(_Cone, CircularOrbit):
    """A cone beam on a circle.

    Attributes:
        height_mm: z of the circle; ``fit`` puts it at the middle of the volume.
    """

    name: Literal["cone"] = "cone"
    height_mm: float | None = None

    def fit(self, grid: Grid) -> "CircularCone":
        """Return the orbit with every open field filled; voxels are resolved at the rotation axis and the detector
        sees the whole cylinder around the volume."""
        height = grid.centre_mm[0] if self.height_mm is None else self.height_mm
        columns = self._columns(grid)
        tallest = abs(grid.centre_mm[0] - height) + grid.shape[0] * grid.voxel_mm[0] / 2
        near = self.sod_mm - grid.radius_mm - abs(self.axis_offset_mm)
        rows = self._rows(grid, tallest * self.sdd_mm / near)
        return self.model_copy(update={**columns, **rows, "height_mm": height})

    def grid(self) -> Grid:
        """Return as many pixels as columns and slices as rows, as large as those are at the rotation axis."""
        grid = super().grid()
        return replace(grid, centre_mm=(self.height_mm or 0.0, 0.0, 0.0))

    def geometry(self) -> ScanGeometry:
        """Return the vectors of every view."""
        rows, columns, _, _ = self._detector()
        angles = self.angles()
        return self._poses(angles, np.full_like(angles, self.height_mm or 0.0), (rows, columns))


class HelicalCone(_Cone):
    """A cone beam on a helix.

    Attributes:
        pitch_mm: climb of the source per full turn; negative descends.
        views_per_turn: views per full turn.
        turns: turns of the helix; ``fit`` fills it.
        start_deg: angle of the first view.
        start_mm: height of the source at the first view; ``fit`` centres the helix on the volume.
        clockwise: turn towards smaller angles.
    """

    name: Literal["helical"] = "helical"
    pitch_mm: float
    views_per_turn: PositiveInt = 360
    turns: PositiveFloat | None = None
    start_deg: float = 0.0
    start_mm: float | None = None
    clockwise: bool = False

    @field_validator("pitch_mm")
    @classmethod
    def _climbs(cls, pitch_mm: float) -> float:
        if pitch_mm == 0:
            raise ValueError("expected the climb per turn in mm, not 0; a circle is the orbit cone")
        return pitch_mm

    @property
    def views(self) -> int:
        """Number of views."""
        return max(1, round(self.views_per_turn * (self.turns or 1.0)))

    def angles(self) -> Float64[np.ndarray, " v"]:
        """Return the angle of every view in radians."""
        turn = 360.0 * np.arange(self.views) / self.views_per_turn
        return np.deg2rad(self.start_deg + (-turn if self.clockwise else turn))

    def fit(self, grid: Grid) -> "HelicalCone":
        """Return the orbit with every open field filled; voxels are resolved at the rotation axis, rows cover the
        Tam-Danielsson window, and the helix is as long as any of its views meets the volume."""
        columns = self._columns(grid)
        rows = self._rows(grid, self._window(columns["columns"] * columns["column_mm"] / 2))
        # Half the height of the beam where it leaves the volume on the far side.
        reach = rows["rows"] * rows["row_mm"] / 2 * (self.sod_mm + grid.radius_mm) / self.sdd_mm
        travel = grid.shape[0] * grid.voxel_mm[0] + 2 * reach
        turns = (
            self.turns or math.ceil(travel / abs(self.pitch_mm) * self.views_per_turn) / self.views_per_turn
        )
        start = self.start_mm
        if start is None:
            steps = max(1, round(self.views_per_turn * turns)) - 1
            start = grid.centre_mm[0] - self.pitch_mm * steps / self.views_per_turn / 2
        return self.model_copy(update={**columns, **rows, "turns": turns, "start_mm": start})

    def grid(self) -> Grid:
        """Return as many pixels as columns and as many slices as the helix climbs, as large as a column and a row
        are at the rotation axis."""
        grid, climb = super().grid(), abs(self.pitch_mm) * (self.turns or 1.0)
        slices = max(1, round(climb / grid.voxel_mm[0]))
        middle = (self.start_mm or 0.0) + self.pitch_mm * (self.turns or 1.0) / 2
        return Grid((slices, *grid.shape[1:]), grid.voxel_mm, (middle, 0.0, 0.0))

    def geometry(self) -> ScanGeometry:
        """Return the vectors of every view."""
        rows, columns, _, _ = self._detector()
        if self.turns is None or self.start_mm is None:
            raise InputError("orbit: turns and start_mm must be given, or filled by fit(volume)")
        height = self.start_mm + self.pitch_mm * np.arange(self.views) / self.views_per_turn
        return self._poses(self.angles(), height, (rows, columns))

    def _window(self, half_width_mm: float) -> float:
        """Return half the height of the Tam-Danielsson window at the edge of the detector."""
        climb = abs(self.pitch_mm) / (2 * math.pi) * self.sdd_mm / self.sod_mm
        if self.detector == "curved":
            angle = half_width_mm / self.sdd_mm
            return climb * (math.pi / 2 + angle) / math.cos(angle)
        slope = half_width_mm / self.sdd_mm
        return climb * (1 + slope**2) * (math.pi / 2 + math.atan(slope))
