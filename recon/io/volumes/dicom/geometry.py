"""Where the slices of a DICOM series are, and whether they make one gapless stack.

A slice is a file, or a frame of a multi-frame file, whose attributes are looked up in the frame's functional
groups, then the shared ones, then the data set (PS3.3 C.7.6.16). With the slices sorted along the normal
n = c x r, the step between slices is (P_last - P_first) / (S - 1) as a vector, so a tilted gantry gives a sheared
affine rather than a wrong one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence

from priors.runtime.errors import InputError
from recon.data.volume import LPS_TO_RAS

SPACING_TOLERANCE = 0.05
"""Distances between slices may differ by this fraction: positions are often written with a few digits."""


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice: ``name`` for messages, ``dataset`` as read, ``frame`` of a multi-frame file."""

    name: str
    dataset: FileDataset
    frame: int | None = None

    def get(self, key: str) -> Any:
        """Return an attribute of this slice, None where it has none or it cannot be decoded."""
        try:
            if self.frame is not None:
                for group in self._groups():
                    if key in group:
                        return group[key].value
            # By tag: looking a keyword up costs pydicom more than decoding the element.
            element = self.dataset.get(_tag(key))
            return None if element is None else element.value
        except Exception as error:
            # pydicom decodes on access; what a damaged element raises is of no certain kind.
            raise InputError(f"{self.name}: {key}: cannot be decoded ({type(error).__name__})") from error

    def _groups(self) -> Iterator[Dataset]:
        assert self.frame is not None
        frames = self.dataset.get("PerFrameFunctionalGroupsSequence") or []
        own = [frames[self.frame]] if self.frame < len(frames) else []
        for group in [*own, *(self.dataset.get("SharedFunctionalGroupsSequence") or [])]:
            for element in group:
                if isinstance(element.value, Sequence) and len(element.value):
                    yield element.value[0]

    def vector(self, key: str, length: int) -> Float64[np.ndarray, " n"]:
        """Return an attribute of ``length`` numbers.

        Raises:
            InputError: it is not there, or something else.
        """
        numbers = self.get(key)
        try:
            vector = np.array([float(number) for number in numbers], np.float64)
        except (TypeError, ValueError):
            vector = np.empty(0)
        if len(vector) != length or not np.isfinite(vector).all():
            raise InputError(f"{self.name}: {key}: found {str(numbers)[:80]}, expected {length} numbers")
        return vector

    def number(self, key: str) -> float | None:
        """Return an attribute that is a number, None where it is absent.

        Raises:
            InputError: it is something else.
        """
        stored = self.get(key)
        if stored is None or stored == "":
            return None
        try:
            number = float(stored)
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.name}: {key}: found {str(stored)[:80]}, expected a number") from error
        if not np.isfinite(number):
            raise InputError(f"{self.name}: {key}: found {stored}, expected a finite number")
        return number

    @cached_property
    def position(self) -> Float64[np.ndarray, " 3"]:
        """Centre of the first pixel in mm, left-posterior-superior."""
        return self.vector("ImagePositionPatient", 3)

    @cached_property
    def axes(self) -> Float64[np.ndarray, "3 3"]:
        """Unit vectors of growing column index, growing row index, and their normal, one per row."""
        c, r = self.vector("ImageOrientationPatient", 6).reshape(2, 3)
        if abs(np.linalg.norm(c) - 1) > 1e-3 or abs(np.linalg.norm(r) - 1) > 1e-3 or abs(c @ r) > 1e-3:
            raise InputError(
                f"{self.name}: ImageOrientationPatient: expected two unit vectors at right angles"
            )
        return np.stack([c, r, np.cross(c, r)])

    @cached_property
    def spacing(self) -> Float64[np.ndarray, " 2"]:
        """Distance in mm between rows and between columns."""
        spacing = self.vector("PixelSpacing", 2)
        if (spacing <= 0).any():
            raise InputError(f"{self.name}: PixelSpacing: found {spacing.tolist()}, expected positive mm")
        return spacing

    @cached_property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        rows, columns = self.number("Rows"), self.number("Columns")
        return int(rows or 0), int(columns or 0)


@cache
def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    return tag


def frames(name: str, dataset: FileDataset) -> list[Slice]:
    """Return the slices of a file: one, or one per frame.

    Raises:
        InputError: the number of frames is not that of their descriptions.
    """
    single = Slice(name, dataset)
    count = single.number("NumberOfFrames") or 1.0
    described = single.get("PerFrameFunctionalGroupsSequence")
    if described is None and count == 1:
        return [single]
    found = 0 if described is None else len(described)
    if found != count:
        raise InputError(f"{name}: found {found} descriptions for {count:.0f} frames, expected one for each")
    return [Slice(f"{name} frame {i + 1}", dataset, i) for i in range(found)]


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order.

    Attributes:
        slices: sorted along their normal.
        affine: index (x, y, z) to RAS mm.
        places: index z of every slice; numbers are left out where slices are missing.
        warnings: what headers say against it.
    """

    slices: list[Slice]
    affine: Float64[np.ndarray, "4 4"]
    places: Int[np.ndarray, " s"]
    warnings: tuple[str, ...]


def stacked(path: Path, slices: list[Slice], *, allow_gaps: bool = False) -> Stack:
    """Return the slices in order and where they are.

    Args:
        path: for messages.
        slices: of one series.
        allow_gaps: leave places empty where slices are missing, instead of an error.

    Raises:
        InputError: sizes, spacings or orientations differ, a slice is doubled or missing, or geometry is
            absent.
    """
    first = slices[0]
    for plane in slices[1:]:
        _check_alike(path, first, plane)
    normal = first.axes[2]
    ordered = sorted(slices, key=lambda plane: float(plane.position @ normal))
    affine = np.eye(4)
    affine[:3, 0] = first.axes[0] * first.spacing[1]
    affine[:3, 1] = first.axes[1] * first.spacing[0]
    step, indices = _step(path, ordered, normal, allow_gaps=allow_gaps)
    affine[:3, 2] = step
    affine[:3, 3] = ordered[0].position
    return Stack(ordered, LPS_TO_RAS @ affine, indices, contradictions(ordered, step, normal))


def _check_alike(path: Path, first: Slice, plane: Slice) -> None:
    if plane.size != first.size:
        raise InputError(
            f"{path}: {plane.name} has {plane.size} rows and columns, {first.name} has {first.size}"
        )
    # Plain comparisons: numpy.allclose would cost as much as reading the slice.
    if (abs(plane.spacing - first.spacing) > 1e-3 * abs(first.spacing)).any():
        found = f"{plane.spacing.tolist()} mm, {first.name} has {first.spacing.tolist()}"
        raise InputError(f"{path}: {plane.name} has PixelSpacing {found}")
    if (abs(plane.axes - first.axes) > 1e-3).any():
        raise InputError(f"{path}: {plane.name} and {first.name} have different ImageOrientationPatient")


def _step(
    path: Path, ordered: list[Slice], normal: Float64[np.ndarray, " 3"], *, allow_gaps: bool
) -> tuple[Float64[np.ndarray, " 3"], Int[np.ndarray, " s"]]:
    if len(ordered) == 1:
        return normal * (ordered[0].number("SliceThickness") or 1.0), np.zeros(1, np.int64)
    positions = np.stack([plane.position for plane in ordered])
    gaps = np.diff(positions @ normal)
    usual = float(np.median(gaps))
    if (gaps < 1e-3).any():
        here = int(np.argmin(gaps))
        raise InputError(
            f"{path}: {ordered[here].name} and {ordered[here + 1].name} are at the same position"
        )
    indices = np.concatenate([[0], np.cumsum(np.rint(gaps / usual))]).astype(np.int64)
    whole = np.rint(gaps / usual)
    fits = (abs(gaps - whole * usual) <= SPACING_TOLERANCE * usual * np.maximum(whole, 1)).all()
    if allow_gaps and fits and (whole >= 1).all():
        return np.asarray((positions[-1] - positions[0]) / indices[-1]), indices
    if (abs(gaps - usual) > SPACING_TOLERANCE * usual).any():
        here = int(np.argmax(abs(gaps - usual)))
        between = f"{ordered[here].name} and {ordered[here + 1].name}"
        raise InputError(
            f"{path}: found {gaps[here]:.4g} mm between {between}, expected {usual:.4g} mm; "
            "is a slice missing? (--allow-gaps interpolates it)"
        )
    return np.asarray((positions[-1] - positions[0]) / (len(ordered) - 1)), np.arange(len(ordered))


def contradictions(
    ordered: list[Slice], step: Float64[np.ndarray, " 3"], normal: Float64[np.ndarray, " 3"]
) -> tuple[str, ...]:
    """Return what the headers say about lengths, tilt and values that is not used."""
    first, sentences = ordered[0], []
    apart, stated = float(abs(step @ normal)), first.number("SpacingBetweenSlices")
    if len(ordered) > 1 and stated is not None and abs(abs(stated) - apart) > 0.01 * apart:
        sentences.append(
            f"SpacingBetweenSlices says {stated:.4g} mm, positions {apart:.4g} mm; the positions were taken"
        )
    tilt = first.number("GantryDetectorTilt")
    sheared = float(np.degrees(np.arccos(np.clip(apart / np.linalg.norm(step), -1, 1))))
    if (
        len(ordered) > 1
        and tilt is not None
        and abs(tilt) > 0.1
        and sheared < 0.05
        and abs(normal[2]) > 0.9999
    ):
        sentences.append(
            f"GantryDetectorTilt is {tilt:.4g} degrees, but the slices are straight: resampled before?"
        )
    if len({str(plane.get("FrameOfReferenceUID")) for plane in ordered}) > 1:
        sentences.append("the slices are of several frames of reference: did the patient move between them?")
    if str(first.get("LossyImageCompression")) == "01":
        sentences.append("the pixels were compressed with loss (LossyImageCompression 01)")
    if first.get("RealWorldValueMappingSequence") is not None:
        sentences.append("a RealWorldValueMappingSequence is not used: values are slope and intercept")
    return tuple(sentences)
