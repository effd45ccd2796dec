"""A scan: one source and one detector pose per view, in plain vectors.

Points are (x, y, z) in mm. Column c and row r of a flat detector with C columns and R rows are at

    detector_mm + (c - (C - 1) / 2) * u_mm + (r - (R - 1) / 2) * v_mm

A curved detector is a cylinder around the line through the source along v_mm: column c is seen from that line at the
angle (c - (C - 1) / 2) * |u_mm| / R from the detector's centre, towards u_mm, with R the distance of the detector's
centre from the line.
Parallel rays have no source: ``source_mm`` then holds the unit direction in which they travel.
In ``parallel`` and ``fan`` beams a detector row sees the slice of the same index and no other. In ``cone``
and ``parallel-3d`` beams a row is where its vectors say, and rays cross slices.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float64

from priors.runtime.errors import InputError

Beam = Literal["parallel", "fan", "cone", "parallel-3d"]
Detector = Literal["flat", "curved"]
Index = slice | list[int] | np.ndarray


@dataclass(frozen=True, eq=False)
class ScanGeometry:
    """Poses of the views of a scan and the shape of the detector.

    Attributes:
        beam: how the rays spread.
        source_mm: source position, or for a parallel beam the unit direction of travel.
        detector_mm: centre of the detector array.
        u_mm: step from a column to the next.
        v_mm: step from a row to the next.
        shape: detector rows and columns.
        detector: flat, or a cylinder around the source.

    Raises:
        InputError: shapes disagree, a vector is not finite, or a pose is degenerate.
    """

    beam: Beam
    source_mm: Float64[np.ndarray, "v 3"]
    detector_mm: Float64[np.ndarray, "v 3"]
    u_mm: Float64[np.ndarray, "v 3"]
    v_mm: Float64[np.ndarray, "v 3"]
    shape: tuple[int, int]
    detector: Detector = "flat"

    def __post_init__(self) -> None:
        for name in ("source_mm", "detector_mm", "u_mm", "v_mm"):
            value = np.array(getattr(self, name), dtype=np.float64)
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        self._check_shapes()
        self._check_poses()

    def _check_shapes(self) -> None:
        if self.beam not in get_args(Beam) or self.detector not in get_args(Detector):
            found = f"beam {self.beam!r} with a {self.detector!r} detector"
            raise InputError(f"scan: found {found}, expected {', '.join(get_args(Beam))} with flat or curved")
        if len(self.shape) != 2 or min(self.shape) < 1:
            raise InputError(f"scan.shape: found {self.shape}, expected (rows, columns), both at least 1")
        for name in ("source_mm", "detector_mm", "u_mm", "v_mm"):
            value = getattr(self, name)
            if value.ndim != 2 or value.shape[1:] != (3,) or len(value) != self.views or not len(value):
                raise InputError(
                    f"scan.{name}: found shape {value.shape}, expected ({self.views or 'views'}, 3)"
                )
            if not np.isfinite(value).all():
                view = int(np.flatnonzero(~np.isfinite(value).all(1))[0])
                raise InputError(f"scan.{name}: view {view} holds {value[view]}, expected finite millimetres")

    def _check_poses(self) -> None:
        u, v = np.linalg.norm(self.u_mm, axis=1), np.linalg.norm(self.v_mm, axis=1)
        if (u <= 0).any() or (v <= 0).any():
            raise InputError("scan: a detector step u_mm or v_mm is zero, expected the size of a pixel in mm")
        area = np.linalg.norm(np.cross(self.u_mm, self.v_mm), axis=1)
        if (area < 1e-6 * u * v).any():
            raise InputError(
                "scan: u_mm and v_mm point the same way, expected two directions of the detector"
            )
        travel = self.source_mm if self.parallel else self.detector_mm - self.source_mm
        length = np.linalg.norm(travel, axis=1)
        if self.parallel and (abs(length - 1) > 1e-6).any():
            raise InputError("scan.source_mm: a parallel beam needs unit directions, found another length")
        if (length <= 0).any():
            raise InputError("scan: a source sits on the centre of its detector")
        normal = np.cross(self.u_mm, self.v_mm) / area[:, None]
        if (abs(np.einsum("vi,vi->v", normal, travel)) < 1e-6 * length).any():
            raise InputError("scan: rays travel inside the plane of the detector")
        if self.detector == "curved":
            along = abs(np.einsum("vi,vi->v", self.u_mm, travel)) / (u * length)
            if self.parallel or (along > 1e-6).any():
                raise InputError(
                    "scan: a curved detector needs a source, and u_mm at right angles to its direction"
                )

    @property
    def sliced(self) -> bool:
        """Whether row r sees slice r and no other."""
        return self.beam in ("parallel", "fan")

    @property
    def parallel(self) -> bool:
        """Whether rays are parallel, and ``source_mm`` their direction."""
        return self.beam in ("parallel", "parallel-3d")

    @property
    def views(self) -> int:
        """Number of views."""
        return len(self.source_mm)

    def __getitem__(self, index: Index) -> "ScanGeometry":
        """Return the scan of some views: a slice, a list of indices or a boolean mask.

        Raises:
            InputError: no view is left.
        """
        poses = (self.source_mm[index], self.detector_mm[index], self.u_mm[index], self.v_mm[index])
        if poses[0].ndim != 2 or not len(poses[0]):
            raise InputError("scan: expected at least one view in a slice or list of views")
        return ScanGeometry(self.beam, *poses, self.shape, self.detector)

    def bend(self) -> tuple[Float64[np.ndarray, "v 3"], Float64[np.ndarray, "v 3"]]:
        """Return the vector from a curved detector's axis to its centre, and from the source to the foot of that."""
        along = self.v_mm / np.linalg.norm(self.v_mm, axis=1, keepdims=True)
        reach = self.detector_mm - self.source_mm
        rise = (reach * along).sum(1, keepdims=True) * along
        return reach - rise, rise

    def rows(self, start: int, stop: int) -> "ScanGeometry":
        """Return the scan seen by detector rows ``start`` to ``stop`` (excluded).

        Raises:
            InputError: the range is empty or leaves the detector.
        """
        if not 0 <= start < stop <= self.shape[0]:
            raise InputError(f"rows {start}:{stop} were asked of a detector with {self.shape[0]} rows")
        shift = (start + stop - 1) / 2 - (self.shape[0] - 1) / 2
        # Each row of a fan has its own plane, and the source is in it.
        source = self.source_mm + shift * self.v_mm if self.beam == "fan" else self.source_mm
        poses = (source, self.detector_mm + shift * self.v_mm, self.u_mm, self.v_mm)
        return ScanGeometry(self.beam, *poses, (stop - start, self.shape[1]), self.detector)
