"""Where the slices of a DICOM series are, and whether they make one gapless stack.

With the slices sorted along the normal n = c x r, the step between slices is (P_last - P_first) / (S - 1) as
a vector, so a tilted gantry gives a sheared affine rather than a wrong one.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from pydicom.dataset import FileDataset

from priors.runtime.errors import InputError
from recon.io.image import LPS_TO_RAS

SPACING_TOLERANCE = 0.05
"""Distances between slices may differ by this fraction: positions are often written with a few digits."""


@dataclass(frozen=True, eq=False)
class Slice:
    """One file: ``name`` for messages, ``dataset`` as read."""

    name: str
    dataset: FileDataset

    def _vector(self, key: str, length: int) -> Float64[np.ndarray, " n"]:
        found = self.dataset.get(key)
        try:
            vector = np.array([float(number) for number in found], np.float64)
        except (TypeError, ValueError):
            vector = np.empty(0)
        if len(vector) != length or not np.isfinite(vector).all():
            raise InputError(f"{self.name}: {key}: found {found}, expected {length} numbers")
        return vector

    @cached_property
    def position(self) -> Float64[np.ndarray, " 3"]:
        """Centre of the first pixel in mm, left-posterior-superior."""
        return self._vector("ImagePositionPatient", 3)

    @cached_property
    def axes(self) -> Float64[np.ndarray, "3 3"]:
        """Unit vectors of growing column index, growing row index, and their normal, one per row."""
        c, r = self._vector("ImageOrientationPatient", 6).reshape(2, 3)
        if abs(np.linalg.norm(c) - 1) > 1e-3 or abs(np.linalg.norm(r) - 1) > 1e-3 or abs(c @ r) > 1e-3:
            raise InputError(
                f"{self.name}: ImageOrientationPatient: expected two unit vectors at right angles"
            )
        return np.stack([c, r, np.cross(c, r)])

    @cached_property
    def spacing(self) -> Float64[np.ndarray, " 2"]:
        """Distance in mm between rows and between columns."""
        spacing = self._vector("PixelSpacing", 2)
        if (spacing <= 0).any():
            raise InputError(f"{self.name}: PixelSpacing: found {spacing.tolist()}, expected positive mm")
        return spacing

    @cached_property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        if int(self.dataset.get("NumberOfFrames") or 1) != 1:
            raise InputError(f"{self.name}: found a multi-frame file, expected one slice per file")
        return int(self.dataset.get("Rows") or 0), int(self.dataset.get("Columns") or 0)


def stack_affine(path: Path, slices: list[Slice]) -> tuple[list[Slice], Float64[np.ndarray, "4 4"]]:
    """Return the slices in order and the affine from index (x, y, z) to RAS mm.

    Raises:
        InputError: sizes, spacings or orientations differ, a slice is doubled or missing, or geometry is
            absent.
    """
    first = slices[0]
    for item in slices[1:]:
        _check_alike(path, first, item)
    normal = first.axes[2]
    ordered = sorted(slices, key=lambda item: float(item.position @ normal))
    affine = np.eye(4)
    affine[:3, 0] = first.axes[0] * first.spacing[1]
    affine[:3, 1] = first.axes[1] * first.spacing[0]
    affine[:3, 2] = _step(path, ordered, normal)
    affine[:3, 3] = ordered[0].position
    return ordered, LPS_TO_RAS @ affine


def _check_alike(path: Path, first: Slice, item: Slice) -> None:
    if item.size != first.size:
        raise InputError(
            f"{path}: {item.name} has {item.size} rows and columns, {first.name} has {first.size}"
        )
    if not np.allclose(item.spacing, first.spacing, rtol=1e-3):
        found = f"{item.spacing.tolist()} mm, {first.name} has {first.spacing.tolist()}"
        raise InputError(f"{path}: {item.name} has PixelSpacing {found}")
    if not np.allclose(item.axes, first.axes, atol=1e-3):
        raise InputError(f"{path}: {item.name} and {first.name} have different ImageOrientationPatient")


def _step(path: Path, ordered: list[Slice], normal: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, " 3"]:
    if len(ordered) == 1:
        thickness = ordered[0].dataset.get("SliceThickness")
        return normal * (float(thickness) if thickness else 1.0)
    positions = np.stack([item.position for item in ordered])
    gaps = np.diff(positions @ normal)
    usual = float(np.median(gaps))
    if (gaps < 1e-3).any():
        here = int(np.argmin(gaps))
        raise InputError(
            f"{path}: {ordered[here].name} and {ordered[here + 1].name} are at the same position"
        )
    if (abs(gaps - usual) > SPACING_TOLERANCE * usual).any():
        here = int(np.argmax(abs(gaps - usual)))
        between = f"{ordered[here].name} and {ordered[here + 1].name}"
        raise InputError(
            f"{path}: found {gaps[here]:.4g} mm between {between}, expected {usual:.4g} mm; "
            "is a slice missing?"
        )
    return np.asarray((positions[-1] - positions[0]) / (len(ordered) - 1))
