"""What a TIFF file says about itself: lengths, calibration of its values, and what may change their meaning.

Lengths come from ImageJ (``spacing``, ``unit`` with XResolution and YResolution, ``yunit``, ``zunit``) or from OME
(PhysicalSizeX, Y, Z and their units, micrometres by default). ImageJ's calibration function is used where it is a
straight line, c0 + c1 v: signed numbers are stored so. The resolution of a plain TIFF is about printing: it is used
for nothing, and told where it contradicts the description beside the file.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tifffile

from recon.io.spelling import millimetres

KEY = "tomocast"
STRAIGHT_LINE, NO_FUNCTION = 0, (20, 21)
_RESOLUTION_MM = {2: 25.4, 3: 10.0}
_PRINTERS = (72, 75, 96, 100, 120, 150, 200, 300, 400, 600, 1200)


def described(file: tifffile.TiffFile) -> dict[str, Any]:
    """Return what a file says: ImageJ's keys, ``ome``, ``pixel_mm`` of a plain resolution, our own under ``KEY``."""
    statements: dict[str, Any] = {}
    page = file.pages.first
    steps = [_resolution(page.tags.get(name)) for name in ("YResolution", "XResolution")]
    if file.is_imagej:
        statements.update(file.imagej_metadata or {})
        statements.update(
            {name: step for name, step in zip(("YResolution", "XResolution"), steps, strict=True)}
        )
        if isinstance(statements.get("Info"), str) and statements["Info"].startswith(f'{{"{KEY}"'):
            statements[KEY] = json.loads(statements["Info"])[KEY]
    elif file.is_ome:
        # Of the first image: others would be other series.
        first = (file.ome_metadata or "").split("</Pixels>")[0]
        statements["ome"] = dict(re.findall(r'\b(PhysicalSize[XYZ](?:Unit)?|Size[XYZCT])="([^"]*)"', first))
    else:
        unit = page.tags.get("ResolutionUnit")
        scale = _RESOLUTION_MM.get(2 if unit is None else int(unit.value))
        if scale is not None and all(step and math.isfinite(step) for step in steps):
            dots = [25.4 / (scale / step) for step in steps if step]
            if not all(any(abs(dot - usual) < 0.5 for usual in _PRINTERS) for dot in dots):
                statements["pixel_mm"] = tuple(scale / step for step in steps if step)
    return statements


def voxel_mm(stated: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Return the voxel size (z, y, x) in mm that ImageJ or OME state, None where they do not."""
    try:
        if "ome" in stated:
            sizes = stated["ome"]
            sizes_mm = [
                float(sizes[f"PhysicalSize{a}"]) * _mm(sizes.get(f"PhysicalSize{a}Unit", "µm")) for a in "ZYX"
            ]
        else:
            unit = str(stated["unit"])
            units = [str(stated.get("zunit", unit)), str(stated.get("yunit", unit)), unit]
            steps = (stated["spacing"], 1 / stated["YResolution"], 1 / stated["XResolution"])
            sizes_mm = [float(step) * _mm(each) for step, each in zip(steps, units, strict=True)]
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    z, y, x = sizes_mm
    return (z, y, x) if all(math.isfinite(d) and d > 0 for d in sizes_mm) else None


def calibrated(values: np.ndarray, stated: Mapping[str, Any]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return values after ImageJ's calibration function, and what is to be said about it."""
    function = stated.get("cf")
    if function is None or function in NO_FUNCTION:
        return values, ()
    unit = str(stated.get("vunit", "")).strip('"')[:40]
    if function != STRAIGHT_LINE:
        return values, (f"ImageJ's calibration function {function} is not a straight line and is not used",)
    try:
        start, slope = float(stated["c0"]), float(stated["c1"])
    except (KeyError, TypeError, ValueError):
        return values, ("ImageJ's calibration lacks its coefficients and is not used",)
    if not (math.isfinite(start) and math.isfinite(slope) and slope != 0):
        return values, (f"ImageJ's calibration {start} + {slope} v is not used",)
    if (start, slope) == (0.0, 1.0):
        return values, ()
    line = f"{start:g} + {slope:g} times the stored number" + (f" ({unit})" if unit else "")
    return values * slope + start, (f"ImageJ's calibration is used: values are {line}",)


def warnings_of(file: tifffile.TiffFile, axes: str) -> tuple[str, ...]:
    """Return what a file says that changes the meaning of its values or axes and is not used."""
    page, sentences = file.pages.first, []
    photometric = getattr(page.photometric, "name", str(page.photometric))
    if photometric in ("MINISWHITE", "PALETTE"):
        sentences.append(f"PhotometricInterpretation is {photometric}: stored numbers are taken as they are")
    other = sorted(set(axes) & set("TC"))
    if other and any(n > 1 for n, axis in zip(file.series[0].shape, axes, strict=True) if axis in other):
        names = " and ".join({"T": "time", "C": "channels"}[axis] for axis in other)
        sentences.append(f"an axis of the file is {names}, not z: it was taken for the slices")
    for tag, name in ((42112, "GDAL_METADATA"), (42113, "GDAL_NODATA")):
        if tag in page.tags:
            sentences.append(f"{name} is not used: {str(page.tags[tag].value)[:40]!r}")
    return tuple(sentences)


def _mm(unit: str) -> float:
    length = millimetres(unit)
    if length is None:
        raise ValueError(unit)
    return length


def _resolution(tag: Any) -> float | None:
    if tag is None:
        return None
    numerator, denominator = tag.value
    return numerator / denominator if denominator else None
