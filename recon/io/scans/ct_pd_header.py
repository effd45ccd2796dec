"""The header of one DICOM-CT-PD projection: private tags, decoded whatever value representation they carry.

Tags and meanings are those of the published table: Chen, Duan, Yu, Leng, Yu, McCollough, "Development and validation
of an open data format for CT projection data", Med. Phys. 42, 6964 (2015); Moen et al., Med. Phys. 48, 902 (2021),
table IV; DICOM-CT-PD User Manual version 3 (2020). Implicit transfer syntaxes lose the representation of private
tags: their bytes are then read as the table says.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from priors.runtime.errors import InputError
from recon.io.volumes.dicom.geometry import Slice

TAGS: dict[str, tuple[int, str]] = {
    "NumberofDetectorRows": (0x70291010, "US"),
    "NumberofDetectorColumns": (0x70291011, "US"),
    "DetectorElementTransverseSpacing": (0x70291002, "FL"),
    "DetectorElementAxialSpacing": (0x70291006, "FL"),
    "DetectorShape": (0x7029100B, "CS"),
    "DetectorFocalCenterAngularPosition": (0x70311001, "FL"),
    "DetectorFocalCenterAxialPosition": (0x70311002, "FL"),
    "DetectorFocalCenterRadialDistance": (0x70311003, "FL"),
    "ConstantRadialDistance": (0x70311031, "FL"),
    "DetectorCentralElement": (0x70311033, "FL"),
    "SourceAngularPositionShift": (0x7033100B, "FL"),
    "SourceAxialPositionShift": (0x7033100C, "FL"),
    "SourceRadialDistanceShift": (0x7033100D, "FL"),
    "FlyingFocalSpotMode": (0x7033100E, "CS"),
    "NumberofSourceAngularSteps": (0x70331013, "US"),
    "NumberofSpectra": (0x70331061, "US"),
    "SpectrumIndex": (0x70331063, "US"),
    "PhotonStatistics": (0x70331065, "FL"),
    "TypeofProjectionData": (0x70371009, "CS"),
    "LogFlag": (0x70391009, "CS"),
    "WaterAttenuationCoefficient": (0x70411001, "DS"),
}


@dataclass(frozen=True, eq=False)
class View:
    """One projection. Lengths in mm, angles in radians, elements counted from 1 as in the format."""

    item: Slice
    rows: int
    columns: int
    column_mm: float
    row_mm: float
    shape: str
    angle: float
    height_mm: float
    radius_mm: float
    depth_mm: float
    central: tuple[float, float]
    shift: tuple[float, float, float]

    def alike(self) -> tuple[Any, ...]:
        """Return what all views of a scan share."""
        return (self.rows, self.columns, self.column_mm, self.row_mm, self.shape)


def read_view(item: Slice) -> View:
    """Return the geometry of a projection.

    Raises:
        InputError: a tag is missing or holds something else.
    """
    x, y = numbers(item, "DetectorCentralElement", 2)
    return View(
        item,
        rows=int(_number(item, "NumberofDetectorRows")),
        columns=int(_number(item, "NumberofDetectorColumns")),
        column_mm=_number(item, "DetectorElementTransverseSpacing"),
        row_mm=_number(item, "DetectorElementAxialSpacing"),
        shape=text(item, "DetectorShape"),
        angle=_number(item, "DetectorFocalCenterAngularPosition"),
        height_mm=_number(item, "DetectorFocalCenterAxialPosition"),
        radius_mm=_number(item, "DetectorFocalCenterRadialDistance"),
        depth_mm=_number(item, "ConstantRadialDistance"),
        central=(x, y),
        shift=(
            optional(item, "SourceAngularPositionShift", 0.0),
            optional(item, "SourceAxialPositionShift", 0.0),
            optional(item, "SourceRadialDistanceShift", 0.0),
        ),
    )


def text(item: Slice, name: str) -> str:
    """Return a tag that holds a word, empty where it is absent."""
    found = _value(item, name)
    return "" if found is None else str(found).strip().upper()


def optional(item: Slice, name: str, otherwise: float) -> float:
    """Return a tag that holds a number, or ``otherwise`` where it is absent."""
    return otherwise if _value(item, name) is None else _number(item, name)


def numbers(item: Slice, name: str, count: int | None = None) -> Float64[np.ndarray, " n"]:
    """Return a tag that holds ``count`` numbers, any number of them where it is None.

    Raises:
        InputError: it is absent or holds something else.
    """
    found = _value(item, name)
    tag = f"({TAGS[name][0] >> 16:04X},{TAGS[name][0] & 0xFFFF:04X}) {name}"
    if found is None:
        raise InputError(f"{item.name}: {tag} is missing, expected DICOM-CT-PD projection data")
    try:
        vector = np.atleast_1d(np.asarray(found, np.float64))
    except (TypeError, ValueError):
        vector = np.array([np.nan])
    if (count is not None and len(vector) != count) or not np.isfinite(vector).all():
        raise InputError(f"{item.name}: {tag}: found {str(found)[:60]}, expected {count or 'finite'} numbers")
    return vector


def _number(item: Slice, name: str) -> float:
    return float(numbers(item, name, 1)[0])


def _value(item: Slice, name: str) -> Any:
    tag, kind = TAGS[name]
    try:
        if tag not in item.dataset:
            return None
        found = item.dataset[tag].value
        if not isinstance(found, bytes):
            return found
        if kind in ("CS", "DS"):
            return found.decode("ascii").strip(" \0")
        form = "H" if kind == "US" else "f"
        values = struct.unpack(f"<{len(found) // struct.calcsize(form)}{form}", found)
        return values[0] if len(values) == 1 else values
    except Exception as error:
        # pydicom decodes on access; what a damaged element raises is of no certain kind.
        raise InputError(f"{item.name}: {name}: cannot be decoded ({type(error).__name__})") from error
