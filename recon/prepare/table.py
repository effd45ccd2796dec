"""Slices that are arrays already: ``NAME.npy`` or ``NAME.npy.xz`` of HU (slice, y, x), listed in ``MANIFEST.csv``.

The table has the columns ``path``, ``split`` and ``pixel_mm``, and may have ``dz_mm``.
"""

import csv
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16

from priors.runtime.errors import InputError
from priors.runtime.files import bounds
from recon.prepare.split import Split

NAME = "MANIFEST.csv"


@dataclass(frozen=True)
class Listed:
    """A row of the table; ``title`` is its path below the table's folder."""

    title: str
    split: Split
    pixel_mm: float
    dz_mm: float | None
    path: Path

    def read(self) -> Int16[np.ndarray, "z y x"]:
        """Return the slices.

        Raises:
            InputError: the file cannot be read or is not int16 HU.
        """
        return _read_slices(self.path)


def listed(source: Path) -> Iterator[Listed]:
    """Yield the rows of the table in ``source``.

    Raises:
        InputError: a row lacks a column or holds something else.
    """
    with (source / NAME).open(newline="") as stream:
        for row in csv.DictReader(stream):
            _check_row(source / NAME, row)
            dz = row.get("dz_mm")
            split: Split = "train" if row["split"] == "train" else "validation"
            yield Listed(
                row["path"], split, float(row["pixel_mm"]), float(dz) if dz else None, source / row["path"]
            )


def _check_row(table: Path, row: dict[str, Any]) -> None:
    lacking = [key for key in ("path", "split", "pixel_mm") if not row.get(key)]
    if lacking:
        raise InputError(f"{table}: a row has no {lacking[0]}; expected path, split and pixel_mm")
    for key in ("pixel_mm", "dz_mm"):
        if row.get(key) and not _number(row[key]) > 0:
            raise InputError(f"{table}: {row['path']}: found {key} {row[key]!r}, expected a positive number")
    if row["split"] not in ("train", "validation"):
        raise InputError(
            f"{table}: {row['path']}: found split {row['split']!r}, expected train or validation"
        )


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return -1.0


def _read_slices(path: Path) -> Int16[np.ndarray, "z y x"]:
    try:
        with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as stream:
            array: np.ndarray = bounds.read_npy(stream, path)
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise InputError(f"{path}: cannot be read as NumPy slices ({error})") from error
    if array.ndim != 3 or array.dtype != np.int16 or array.size == 0:
        raise InputError(f"{path}: expected int16 HU (slice, y, x), found {array.dtype} {array.shape}")
    if array.min() < -3100 or array.max() < 100:
        raise InputError(
            f"{path}: expected int16 HU (slice, y, x), found values from {array.min()} to {array.max()}"
        )
    return array
