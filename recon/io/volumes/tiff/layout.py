"""Where the planes of a TIFF file lie, so that some can be read without the others."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from priors.runtime.errors import InputError
from recon.io.volumes.tiff.pages import check_chain, is_packed_too_well, is_reduced

UPRIGHT = 1
"""Orientation (tag 274) of pages with row 0 at the top and column 0 at the left."""


@dataclass(frozen=True)
class Layout:
    """Planes of one size and type.

    Attributes:
        shape: planes, rows, columns; a file of one plane has two numbers.
        dtype: of the numbers as they are stored.
        offset: byte at which they begin, one plane behind the other; None where every plane is decoded from a page.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int | None


def layout_of(path: Path) -> Layout | None:
    """Return where the planes of a file lie, None where it must be read whole, or is damaged."""
    try:
        check_chain(path)
        with tifffile.TiffFile(path, _multifile=False) as file:
            return _layout(path, file)
    except Exception:
        # What is wrong with it, reading it tells.
        return None


def _layout(path: Path, file: tifffile.TiffFile) -> Layout | None:
    first, series = file.pages.first, _only_series(file)
    if series is None or "S" in series.axes or series.ndim not in (2, 3) or 0 in series.shape:
        return None
    turned = first.tags.get(274)
    if turned is not None and int(turned.value) != UPRIGHT:
        return None
    kind = np.dtype(series.dtype)
    if is_packed_too_well(path, series.shape, kind):
        return None
    size = int(np.prod(series.shape)) * kind.itemsize
    if series.dataoffset is not None and series.dataoffset + size <= path.stat().st_size:
        return Layout(tuple(series.shape), kind.newbyteorder(file.byteorder), int(series.dataoffset))
    if series.ndim == 3 and len(series.pages) == series.shape[0]:
        return Layout(tuple(series.shape), kind, None)
    return None


def _only_series(file: tifffile.TiffFile) -> Any:
    """Return the one series of a file whose pages all lie in it, None of other files."""
    series = list(file.series)
    if len(series) != 1 or is_reduced(series[0]) or any(page is None for page in series[0].pages):
        return None
    return series[0]


def page_reader(path: Path) -> Callable[[int, int, slice], np.ndarray]:
    """Return what reads planes START to STOP of a file, of each some rows; see `layout_of`."""

    def read(start: int, stop: int, rows: slice) -> np.ndarray:
        try:
            with tifffile.TiffFile(path, _multifile=False) as file:
                pages: list[Any] = list(file.series[0].pages[start:stop])
                return np.stack([np.asarray(page.asarray())[rows] for page in pages])
        except Exception as error:
            # tifffile and its decoders fail on damaged files with errors of many kinds.
            reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
            raise InputError(f"{path.name}: is not a readable array ({reason})") from error

    return read
