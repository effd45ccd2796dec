"""TIFF stacks: one file of many pages, or a folder of one page per slice in the order of the numbers in its names.

TIFF states neither the unit of its values nor, as a rule, where voxels are. Voxel sizes are taken from ImageJ's
``spacing`` with XResolution and YResolution, or from OME's PhysicalSizeX, Y and Z; the resolution of a plain TIFF
is about printing and is not used. The unit must be in a description beside the file, except for stacks written
here, which carry unit and affine as JSON in ImageJ's ``Info``.
"""

import json
import logging
import math
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from jaxtyping import Shaped

from priors.runtime.errors import InputError
from priors.runtime.files import atomic
from recon.data.volume import Volume
from recon.io.volumes.arrays import described_array
from recon.io.volumes.format import ReadOptions, VolumeFormat, WriteOptions
from recon.io.volumes.stated_unit import numbers_3d, self_described

ENDINGS = (".tif", ".tiff")
_MM = {"mm": 1.0, "millimeter": 1.0, "cm": 10.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "nm": 1e-6, "m": 1e3}
_KEY = "tomocast"
PACKED = 1100
"""The most that deflate compresses: a header that promises more than this many times the file is damaged."""


# What it says of a damaged file goes to standard error; the checks below are what decides.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def read_tiff(path: Path) -> Volume:
    """Return the volume in a TIFF file or in a folder of pages.

    Raises:
        InputError: damaged, a colour picture, pages of different sizes, or unit or voxel size not stated.
    """
    files = natural_order(path) if path.is_dir() else [path]
    first, described = load_tiff(files[0])
    voxel_mm = _voxel_mm(described)
    if len(files) == 1:
        own = described.get(_KEY)
        if own is not None:
            return self_described(path, _shaped(path, first, own), own)
        values = numbers_3d(path, first)
    else:
        values = numbers_3d(path, np.stack([_page(file, first) for file in files]))
    return described_array(path, values, voxel_mm)


def natural_order(folder: Path) -> list[Path]:
    """Return the TIFF files of a folder, by the numbers in their names."""
    return natural_order_of(p for p in folder.iterdir() if p.name.lower().endswith(ENDINGS))


def natural_order_of(files: Iterable[Path]) -> list[Path]:
    """Return files by the numbers in their names: 2 before 10."""

    def key(file: Path) -> list[Any]:
        return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", file.name)]

    return sorted(files, key=key)


def load_tiff(path: Path) -> tuple[np.ndarray, Mapping[str, Any]]:
    """Return the array of a TIFF file and what it says about itself.

    Raises:
        InputError: damaged, or a colour picture.
    """
    _check_chain(path)
    try:
        with tifffile.TiffFile(path) as file:
            first = file.pages.first
            # Without this, tifffile goes through whatever a damaged chain of pages leads to.
            if not first.dataoffsets or first.dtype is None or 0 in first.shape:
                raise InputError(f"{path}: is a damaged TIFF file: its first page has no values")
            series = file.series[0]
            if "S" in series.axes:
                raise InputError(
                    f"{path}: is a colour picture ({series.axes} {series.shape}), expected numbers"
                )
            if math.prod(series.shape) * series.dtype.itemsize > PACKED * path.stat().st_size:
                raise InputError(f"{path}: is damaged: {series.shape} values are more than the file can hold")
            return np.asarray(series.asarray()), _description(file)
    except InputError:
        raise
    except Exception as error:
        # tifffile and its decoders fail on damaged files with errors of many kinds.
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"{path}: is not a readable array ({reason})") from error


def _check_chain(path: Path) -> None:
    """Refuse a chain of pages that comes back to itself, which tifffile would follow for ever.

    Raises:
        InputError: it does.
    """
    with path.open("rb") as file:
        head = file.read(16).ljust(16, b"\0")
        order = "<" if head[:2] == b"II" else ">"
        # BigTIFF counts tags and pages in eight bytes, with its first offset behind four more.
        big = struct.unpack(f"{order}H", head[2:4])[0] == 43
        count, place, tag, first = ("Q", "Q", 20, 8) if big else ("H", "I", 12, 4)
        (offset,) = struct.unpack_from(f"{order}{place}", head, first)
        seen: set[int] = set()
        while offset and offset < path.stat().st_size:
            if offset in seen:
                raise InputError(f"{path}: is a damaged TIFF file: its pages come back to byte {offset}")
            seen.add(offset)
            try:
                file.seek(offset)
                (tags,) = struct.unpack(f"{order}{count}", file.read(struct.calcsize(count)))
                file.seek(tag * tags, 1)
                (offset,) = struct.unpack(f"{order}{place}", file.read(struct.calcsize(place)))
            except (OSError, OverflowError, ValueError, struct.error):
                # A chain that ends in the middle is for tifffile to tell.
                return


def _shaped(path: Path, values: np.ndarray, own: Any) -> Shaped[np.ndarray, "z y x"]:
    shape = own.get("shape") if isinstance(own, dict) else None
    fits = isinstance(shape, list) and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)
    if shape is None or not fits or math.prod(shape) != values.size:
        raise InputError(f"{path}: found {values.size} values, expected those of shape {str(shape)[:40]}")
    return numbers_3d(path, values.reshape(shape))


def _page(file: Path, first: np.ndarray) -> Shaped[np.ndarray, "y x"]:
    page, _ = load_tiff(file)
    if page.ndim != 2 or page.shape != first.shape or page.dtype != first.dtype:
        found, wanted = f"{page.dtype} {page.shape}", f"{first.dtype} {first.shape}"
        raise InputError(f"{file}: found {found}, expected one page like the others: {wanted}")
    return page


def _description(file: tifffile.TiffFile) -> dict[str, Any]:
    found: dict[str, Any] = {}
    page = file.pages.first
    if file.is_imagej:
        found.update(file.imagej_metadata or {})
        for name in ("XResolution", "YResolution"):
            tag = page.tags.get(name)
            if tag is not None:
                numerator, denominator = tag.value
                found[name] = numerator / denominator if denominator else 0.0
        if isinstance(found.get("Info"), str) and found["Info"].startswith(f'{{"{_KEY}"'):
            found[_KEY] = json.loads(found["Info"])[_KEY]
    elif file.is_ome:
        sizes = dict(re.findall(r'PhysicalSize(X|Y|Z|XUnit|YUnit|ZUnit)="([^"]*)"', file.ome_metadata or ""))
        found["ome"] = sizes
    return found


def _voxel_mm(described: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Return the voxel size (z, y, x) in mm that ImageJ or OME state, None where they do not."""
    try:
        if "ome" in described:
            sizes = described["ome"]
            found = [float(sizes[a]) * _MM[sizes.get(f"{a}Unit", "µm")] for a in "ZYX"]
        else:
            scale = _MM[str(described["unit"]).replace("\\u00B5", "µ")]
            steps = (described["spacing"], 1 / described["YResolution"], 1 / described["XResolution"])
            found = [float(step) * scale for step in steps]
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    z, y, x = found
    return (z, y, x) if all(math.isfinite(d) and d > 0 for d in found) else None


def write_tiff(path: Path, image: Volume) -> None:
    """Write ``image`` in float32 as a stack that ImageJ opens with its voxel size (.tif).

    Raises:
        InputError: the name has another ending or the file cannot be written.
    """
    if not path.name.lower().endswith(ENDINGS):
        raise InputError(f"{path}: expected a name that ends in .tif or .tiff")
    # ImageJ has no axis of length one: the shape is kept beside it.
    told = {"unit": image.unit, "affine": image.affine.tolist(), "shape": image.values.shape}
    z, y, x = image.voxel_mm
    metadata = {"axes": "ZYX", "spacing": z, "unit": "mm", "Info": json.dumps({_KEY: told})}
    with atomic(path) as temporary:
        tifffile.imwrite(temporary, image.values, imagej=True, resolution=(1 / x, 1 / y), metadata=metadata)


def _claims(path: Path, head: bytes) -> bool:
    if path.is_dir():
        files = [p for p in path.iterdir() if p.is_file() and p.suffix.lower() not in (".yaml", ".txt")]
        return bool(files) and all(p.name.lower().endswith(ENDINGS) for p in files)
    return path.name.lower().endswith(ENDINGS)


def _read(path: Path, options: ReadOptions) -> Volume:
    return read_tiff(path)


def _write(path: Path, image: Volume, options: WriteOptions) -> tuple[str, ...]:
    write_tiff(path, image)
    return ()


FORMAT = VolumeFormat("tiff", "a TIFF stack (file or folder)", ENDINGS, _claims, _read, _write)
