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


def read_view(projection: Slice) -> View:
    """Return the geometry of a projection.

    Raises:
        InputError: a tag is missing or holds something else.
    """
    x, y = numbers(projection, "DetectorCentralElement", 2)
    return View(
        projection,
        rows=int(_number(projection, "NumberofDetectorRows")),
        columns=int(_number(projection, "NumberofDetectorColumns")),
        column_mm=_number(projection, "DetectorElementTransverseSpacing"),
        row_mm=_number(projection, "DetectorElementAxialSpacing"),
        shape=text(projection, "DetectorShape"),
        angle=_number(projection, "DetectorFocalCenterAngularPosition"),
        height_mm=_number(projection, "DetectorFocalCenterAxialPosition"),
        radius_mm=_number(projection, "DetectorFocalCenterRadialDistance"),
        depth_mm=_number(projection, "ConstantRadialDistance"),
        central=(x, y),
        shift=(
            optional(projection, "SourceAngularPositionShift", 0.0),
            optional(projection, "SourceAxialPositionShift", 0.0),
            optional(projection, "SourceRadialDistanceShift", 0.0),
        ),
    )


def text(projection: Slice, name: str) -> str:
    """Return a tag that holds a word, empty where it is absent."""
    value = _value(projection, name)
    return "" if value is None else str(value).strip().upper()


def optional(projection: Slice, name: str, otherwise: float) -> float:
    """Return a tag that holds a number, or ``otherwise`` where it is absent."""
    return otherwise if _value(projection, name) is None else _number(projection, name)


def numbers(projection: Slice, name: str, count: int | None = None) -> Float64[np.ndarray, " n"]:
    """Return a tag that holds ``count`` numbers, any number of them where it is None.

    Raises:
        InputError: it is absent or holds something else.
    """
    value = _value(projection, name)
    tag = f"({TAGS[name][0] >> 16:04X},{TAGS[name][0] & 0xFFFF:04X}) {name}"
    if value is None:
        raise InputError(f"{projection.name}: {tag} is missing, expected DICOM-CT-PD projection data")
    try:
        vector = np.atleast_1d(np.asarray(value, np.float64))
    except (TypeError, ValueError):
        vector = np.array([np.nan])
    if (count is not None and len(vector) != count) or not np.isfinite(vector).all():
        raise InputError(
            f"{projection.name}: {tag}: found {str(value)[:60]}, expected {count or 'finite'} numbers"
        )
    return vector


def _number(projection: Slice, name: str) -> float:
    return float(numbers(projection, name, 1)[0])


def _value(projection: Slice, name: str) -> Any:
    tag, kind = TAGS[name]
    try:
        if tag not in projection.dataset:
            return None
        value = projection.dataset[tag].value
        if not isinstance(value, bytes):
            return value
        if kind in ("CS", "DS"):
            return value.decode("ascii").strip(" \0")
        form = "H" if kind == "US" else "f"
        values = struct.unpack(f"<{len(value) // struct.calcsize(form)}{form}", value)
        return values[0] if len(values) == 1 else values
    except Exception as error:
        # pydicom decodes on access; what a damaged element raises is of no certain kind.
        raise InputError(f"{projection.name}: {name}: cannot be decoded ({type(error).__name__})") from error
