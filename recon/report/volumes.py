"""Volumes small enough to sit inside a report: reoriented, reduced, quantised, deflated.

    code = round((value - offset) / scale), 16 bits
    text = base64(deflate(low bytes, high bytes of zigzag(delta along x of code)))

Smooth tissue gives small differences. Zigzag folds the sign into the last bit (0, -1, 1 become 0, 1, 2), so
the high bytes stay nearly empty and deflate does well. Where the text would still be too long, the
quantisation is coarsened, then voxels are averaged; the report says so.

A volume of a patient (HU with an affine to RAS) is turned so that the screen shows the usual view: the
patient's right on the left, anterior on top, superior on top. Any other volume keeps its axes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import nibabel
import numpy as np
from jaxtyping import Float

from priors.runtime.report.page import deflated, inflated

MAX_VOXELS = 12_000_000
DEVIATION = "Deviation"
HU_WINDOWS = {
    "Full": (-1000.0, 1000.0),
    "Lung": (-1350.0, 150.0),
    "Soft tissue": (-160.0, 240.0),
    "Bone": (-450.0, 1050.0),
}


@dataclass(frozen=True, eq=False)
class Unsure:
    """How unsure a volume is.

    Attributes:
        deviation: of its error (z, y, x), in its unit.
        threshold: deviation above which it is hatched at first.
    """

    deviation: Float[np.ndarray, "z y x"]
    threshold: float


@dataclass(frozen=True, eq=False)
class Display:
    """What the viewer needs, as the JSON it reads, and a sentence on what was reduced.

    Attributes:
        data: the JSON block of the report.
        note: how the display differs from the file, "" where it does not.
    """

    data: dict[str, Any]
    note: str = field(default="")


def display(
    volumes: Mapping[str, Float[np.ndarray, "z y x"]],
    affine: Float[np.ndarray, "4 4"],
    *,
    unit: str,
    unsure: Unsure | None = None,
    limit_bytes: int = 7_500_000,
) -> Display:
    """Return volumes of one grid in the form the report embeds.

    Args:
        volumes: label -> values in ``unit``; the first is shown first.
        affine: index (x, y, z) -> mm; to patient RAS where the unit is HU.
        unit: "HU", "1/mm" or "unknown".
        unsure: the deviation of the first volume, shown as a volume more and hatched where it is large.
        limit_bytes: largest size of all embedded codes together.
    """
    if unsure is not None:
        volumes = {**volumes, DEVIATION: unsure.deviation}
    arrays, axes, ends = _turn(volumes, affine, patient=unit == "HU")
    voxel_mm = np.linalg.norm(affine[:3, :3], axis=0)[["xyz".index(axis) for axis, _ in axes]]
    packed = _pack(arrays, limit_bytes, 1.0 if unit == "HU" else None)
    data = {
        "shape": packed.shape,
        "voxel_mm": (voxel_mm * packed.reduced).tolist(),
        "offset": packed.offset,
        "scale": packed.scale,
        "unit": unit,
        **_windows(next(iter(arrays.values())), packed, unit),
        "axes": _original_order(axes),
        "ends": ends,
        "reduced": dict(zip("zyx", packed.reduced, strict=True)),
        "planes": ["Axial", "Coronal", "Sagittal"] if unit == "HU" else ["z plane", "y plane", "x plane"],
        "volumes": [{"label": label, "codes": text} for label, text in packed.codes.items()],
    }
    if unsure is not None:
        largest = float(unsure.deviation.max())
        data["deviation"] = {
            "volume": DEVIATION,
            "threshold": unsure.threshold,
            "largest": max(largest, 2 * unsure.threshold),
        }
    return Display(data, _note(packed, unit))


@dataclass(frozen=True)
class _Packed:
    """Encoded volumes: value = offset + scale * code, ``reduced`` voxels averaged along (z, y, x)."""

    codes: dict[str, str]
    shape: tuple[int, ...]
    reduced: list[int]
    offset: float
    scale: float
    high: float


def _pack(arrays: Mapping[str, np.ndarray], limit_bytes: int, step: float | None) -> _Packed:
    """Encode all volumes, coarser until they fit; ``step`` None starts at 1/4095 of the range."""
    reduced = np.ones(3, dtype=int)
    while sum(array.size for array in arrays.values()) > MAX_VOXELS:
        arrays, reduced = _halve(arrays, reduced)
    low, high = _range(arrays)
    scale = step or (high - low) / 4095
    while True:
        codes = {label: encode(array, low, scale) for label, array in arrays.items()}
        shape = next(iter(arrays.values())).shape
        if sum(map(len, codes.values())) <= limit_bytes or max(shape) < 4:
            return _Packed(codes, shape, reduced.tolist(), low, scale, high)
        if scale < (high - low) / 512:
            scale *= 2
        else:
            arrays, reduced = _halve(arrays, reduced)


def encode(values: Float[np.ndarray, "z y x"], offset: float, scale: float) -> str:
    """Return the base64 text of a volume quantised to ``offset + scale * code``."""
    codes = np.clip(np.rint((values - offset) / scale), 0, 65535).astype(np.uint16)
    delta = np.diff(codes, axis=2, prepend=np.zeros((*codes.shape[:2], 1), np.uint16)).view(np.int16).ravel()
    zigzag = ((delta << 1) ^ (delta >> 15)).view(np.uint16)
    packed = (zigzag & 0xFF).astype(np.uint8).tobytes() + (zigzag >> 8).astype(np.uint8).tobytes()
    return deflated(packed)


def decode(
    text: str, shape: tuple[int, int, int], *, offset: float, scale: float
) -> Float[np.ndarray, "z y x"]:
    """Return the volume that ``encode`` packed, up to its quantisation."""
    raw = np.frombuffer(inflated(text), np.uint8).astype(np.uint16)
    low, high = np.split(raw, 2)
    zigzag = low + 256 * high
    delta = (zigzag >> 1) ^ np.where(zigzag & 1, 0xFFFF, 0).astype(np.uint16)
    codes = np.cumsum(delta.reshape(shape), axis=2, dtype=np.uint16)
    return (offset + scale * codes).astype(np.float32)


def _turn(
    volumes: Mapping[str, np.ndarray], affine: np.ndarray, *, patient: bool
) -> tuple[dict[str, np.ndarray], list[tuple[str, bool]], dict[str, list[str]]]:
    """Return volumes as shown, the original axis and flip of each shown axis (z, y, x), and labels."""
    if not patient:
        ends = {axis: [f"-{axis}", f"+{axis}"] for axis in "zyx"}
        return dict(volumes), [(axis, False) for axis in "zyx"], ends
    wanted = nibabel.orientations.axcodes2ornt(("L", "P", "S"))
    steps = nibabel.orientations.ornt_transform(nibabel.orientations.io_orientation(affine), wanted)
    turned = {
        label: np.ascontiguousarray(nibabel.orientations.apply_orientation(values.T, steps).T)
        for label, values in volumes.items()
    }
    # steps[i] = (position on the screen, direction) of the original axis i; both orders are (x, y, z).
    origin = {int(position): ("xyz"[i], bool(direction < 0)) for i, (position, direction) in enumerate(steps)}
    ends = {"x": ["R", "L"], "y": ["A", "P"], "z": ["I", "S"]}
    return turned, [origin[2], origin[1], origin[0]], ends


def _original_order(axes: list[tuple[str, bool]]) -> list[dict[str, Any]]:
    """Return, for the original axes z, y, x in turn, the shown axis and whether it is flipped."""
    shown = {original: (axis, flipped) for axis, (original, flipped) in zip("zyx", axes, strict=True)}
    return [{"axis": shown[name][0], "flipped": bool(shown[name][1])} for name in "zyx"]


def _halve(arrays: Mapping[str, np.ndarray], reduced: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Average neighbours along every axis that is at least half as long as the longest."""
    shape = np.array(next(iter(arrays.values())).shape)
    factor = np.where(2 * shape >= shape.max(), 2, 1)
    kept = shape // factor
    small = {}
    for label, array in arrays.items():
        cut = array[tuple(slice(0, n) for n in kept * factor)]
        small[label] = cut.reshape(kept[0], factor[0], kept[1], factor[1], kept[2], factor[2]).mean(
            axis=(1, 3, 5), dtype=np.float32
        )
    return small, reduced * factor


def _range(arrays: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Return the least and the largest value, leaving out one voxel in ten thousand at each end."""
    ends = np.array([np.percentile(array, (0.01, 99.99)) for array in arrays.values()])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    return low, max(high, low + 1e-9)


def _windows(first: np.ndarray, packed: _Packed, unit: str) -> dict[str, Any]:
    """Return the named windows, the first one shown at the start, and the range of the free one."""
    low, high = packed.offset, packed.high
    if unit == "HU":
        ends = [value for window in HU_WINDOWS.values() for value in window]
        return {"windows": HU_WINDOWS, "range": [min(low, *ends), max(high, *ends)]}
    named = {"Full": (0.0, 100.0), "Middle 98 %": (1.0, 99.0), "Upper half": (50.0, 100.0)}
    ranges = {label: np.percentile(first, ends).tolist() for label, ends in named.items()}
    windows = {label: (a, max(b, a + packed.scale)) for label, (a, b) in ranges.items()}
    return {"windows": windows, "range": [low, high]}


def _note(packed: _Packed, unit: str) -> str:
    """Return what the reader must know about the display."""
    reductions = []
    if packed.scale > 1 and unit == "HU":
        reductions.append(f"values in steps of {packed.scale:.0f} HU")
    if max(packed.reduced) > 1:
        reductions.append("neighbours averaged " + " x ".join(map(str, packed.reduced)) + " (z, y, x)")
    return f"To keep this file small the display shows {' and '.join(reductions)}." if reductions else ""
