"""The pages of a TIFF file as one array, whatever software wrote them: one write or one per page.

What counts as a slice is every page of the size and type of the first that is not a reduced copy. Other pages are an
error, reduced copies (thumbnails, pyramids) are passed over and told. ``Orientation`` turns pages so that row 0 is
the top and column 0 the left. Colour is refused; a description that promises more planes than there are is an error.
Source: TIFF 6.0, Adobe 1992; tifffile's reading of ImageJ, OME and its own files.
"""

import logging
import math
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from priors.runtime.errors import InputError
from priors.runtime.files.bounds import check_array, check_regular
from recon.io.volumes.tiff.description import described, warnings_of

ENDINGS = (".tif", ".tiff")
PACKED = 1100
"""The most that deflate compresses: a header that promises more than this many times the file is damaged."""

# What it says of a damaged file goes to standard error; the checks below are what decides.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


@dataclass(frozen=True, eq=False)
class Pages:
    """The pages of a file.

    Attributes:
        values: (y, x) or (z, y, x); more axes where the file has more.
        described: what the file says about itself, see ``recon.io.volumes.tiff.description``.
        planes: how many planes the file says it has, None where it does not say.
        warnings: what was passed over or may change a meaning.
    """

    values: np.ndarray
    described: Mapping[str, Any]
    planes: int | None = None
    warnings: tuple[str, ...] = ()


def load_tiff(path: Path) -> Pages:
    """Return the pages of a TIFF file and what it says about itself.

    Raises:
        InputError: damaged, a colour picture, or pages of different sizes or types.
    """
    check_chain(path)
    try:
        with tifffile.TiffFile(path, _multifile=False) as file:
            return _pages(path, file)
    except InputError:
        raise
    except Exception as error:
        # tifffile and its decoders fail on damaged files with errors of many kinds.
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"{path}: is not a readable array ({reason})") from error


def natural_order(folder: Path) -> list[Path]:
    """Return the TIFF files of a folder, by the numbers in their names.

    Raises:
        InputError: one is a pipe or a link to nothing.
    """
    files = natural_order_of(p for p in folder.iterdir() if p.name.lower().endswith(ENDINGS))
    check_regular(folder, files)
    return files


def natural_order_of(files: Iterable[Path]) -> list[Path]:
    """Return files by the numbers in their names: 2 before 10."""

    def key(file: Path) -> list[Any]:
        return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", file.name)]

    return sorted(files, key=key)


def _pages(path: Path, file: tifffile.TiffFile) -> Pages:
    first = file.pages.first
    # Without this, tifffile goes through whatever a damaged chain of pages leads to.
    if not first.dataoffsets or first.dtype is None or 0 in first.shape:
        raise InputError(f"{path}: is a damaged TIFF file: its first page has no values")
    told, planes = described(file), None
    series = list(file.series)
    if file.is_ome or file.is_imagej:
        planes = _stated_planes(told, series[0])
    if file.is_ome and any(page is None for page in series[0].pages):
        # Planes of an OME set that lie in other files: what is here is read page by page.
        values, passed = _by_page(path, [page for page in file.pages if page is not None]), 0
    else:
        values, passed = _joined_series(path, file, series)
    warnings = warnings_of(file, series[0].axes)
    if passed:
        warnings = (*warnings, f"{path.name}: passed over {passed} reduced copies (thumbnails) of its pages")
    return Pages(_oriented(first, values), told, planes, warnings)


def _joined_series(path: Path, file: tifffile.TiffFile, series: list[Any]) -> tuple[np.ndarray, int]:
    """Return the values of all series that hold slices, and the number of reduced copies passed over."""
    kept = [one for one in series if not is_reduced(one)] or series[:1]
    first, passed = kept[0], len(series) - len(kept)
    for one in kept:
        if "S" in one.axes:
            raise InputError(f"{path}: is a colour picture ({one.axes} {one.shape}), expected numbers")
        if one.shape[-2:] != first.shape[-2:] or one.dtype != first.dtype:
            found, wanted = (f"{each.dtype} {each.shape[-2:]}" for each in (one, first))
            raise InputError(f"{path}: holds pages of different kinds, {wanted} and {found}, expected one")
        _check_size(path, one.shape, one.dtype)
    if len(kept) == 1:
        return np.asarray(first.asarray()), passed
    if all(one.kind == "generic" for one in kept):
        # Grouped by compression and the like: the order of the slices is that of the pages.
        pages = sorted((page for one in kept for page in one.pages), key=lambda page: page.index)
        return _by_page(path, pages), passed
    return np.concatenate([one.asarray().reshape(-1, *first.shape[-2:]) for one in kept]), passed


def _by_page(path: Path, pages: list[Any]) -> np.ndarray:
    first = pages[0]
    _check_size(path, (len(pages), *first.shape), first.dtype)
    arrays = [np.asarray(page.asarray()) for page in pages]
    if len({(array.shape, array.dtype) for array in arrays}) > 1:
        raise InputError(f"{path}: holds pages of different sizes or types, expected one")
    return np.stack(arrays)


def _check_size(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> None:
    if is_packed_too_well(path, shape, dtype):
        raise InputError(f"{path}: is damaged: {shape} values are more than the file can hold")
    check_array(path, shape, dtype)


def is_packed_too_well(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> bool:
    """Tell whether a header promises more than a file of this size can hold."""
    return math.prod(shape) * dtype.itemsize > PACKED * path.stat().st_size


def is_reduced(series: Any) -> bool:
    """Tell whether a series holds reduced copies of others: thumbnails, pyramids."""
    return bool(getattr(series.keyframe, "is_reduced", False))


def _stated_planes(told: Mapping[str, Any], series: Any) -> int | None:
    if "ome" in told:
        sizes = [told["ome"].get(f"Size{axis}") for axis in "ZCT"]
        return math.prod(int(size) for size in sizes) if all(sizes) else None
    images = told.get("images")
    return int(images) if isinstance(images, (int, float)) and images > 0 else None


def _oriented(page: Any, values: np.ndarray) -> np.ndarray:
    """Return pages with row 0 at the top and column 0 at the left (tag 274, of which 1 is that)."""
    tag = page.tags.get(274)
    orientation = int(tag.value) if tag is not None else 1
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(-1, -2)
    if orientation in (3, 4, 7, 8):
        values = values[..., ::-1, :]
    if orientation in (2, 3, 6, 7):
        values = values[..., :, ::-1]
    return np.ascontiguousarray(values)


def check_chain(path: Path) -> None:
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
