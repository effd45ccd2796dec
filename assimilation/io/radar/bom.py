"""Rainfields accumulations of the Australian Bureau of Meteorology: NetCDF, kg m-2 over ten minutes.

Packed values a little below zero are rounding of the packing and mean no rain. The file tells time and grid.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from assimilation.fields.grid import Grid
from assimilation.fields.units import affine
from assimilation.io.foreign import proj_in_km
from assimilation.io.radar.frame import Frame, holds
from priors.runtime.errors import InputError
from priors.runtime.files.hdf5_probe import check_hdf5

_HOUR = np.timedelta64(3600, "s")


def is_bom(path: Path) -> bool:
    """Tell whether a file holds what these accumulations hold, whatever its name."""
    return holds(path, "precipitation", "proj", "start_time", "valid_time", "y", "x")


def read_bom(path: Path) -> Frame:
    """Return one file's rain rate.

    Raises:
        InputError: the file is damaged, lacks what these files hold, or states another unit.
    """
    check_hdf5(path)
    try:
        with h5py.File(path, "r") as file:
            amount = _amount(file["precipitation"], path)
            start, end = (_time(file[name]) for name in ("start_time", "valid_time"))
            y, x = (_axis(file[name], path) for name in ("y", "x"))
            projection = _projection(
                tuple(sorted((key, _plain(value)) for key, value in file["proj"].attrs.items()))
            )
    except (OSError, KeyError, ValueError, RuntimeError, IndexError) as error:
        raise InputError(f"{path}: is not a readable accumulation of the Bureau of Meteorology") from error
    hours = float((end - start) / _HOUR)
    if not hours > 0:
        raise InputError(f"{path}: found an accumulation over {hours:g} h, expected a positive time")
    order = np.argsort(y)
    rate = np.clip(amount[order], 0, None) / np.float32(hours)
    return Frame(rate, end.astype("datetime64[ns]"), Grid(y[order], x, "plane", "km", projection=projection))


def _amount(dataset: h5py.Dataset, path: Path) -> np.ndarray:
    """Return kg m-2 (mm), NaN where missing."""
    packed, packing = dataset[()], dataset.attrs
    scale, offset = (
        float(np.ravel(packing.get(key, fallback))[0])
        for key, fallback in (("scale_factor", 1), ("add_offset", 0))
    )
    # Rainfields files are in kg m-2; some do not say so.
    unit = _plain(packing.get("units", "kg m-2"))
    to_mm, _ = affine(unit, "mm", label=f"{path}: precipitation")
    amount = (packed.astype(np.float32) * np.float32(scale) + np.float32(offset)) * np.float32(to_mm)
    for key in ("_FillValue", "missing_value"):
        amount[np.isin(packed, packing.get(key, []))] = np.nan
    return np.asarray(amount, np.float32)


def _axis(dataset: h5py.Dataset, path: Path) -> np.ndarray:
    """Return coordinates in km."""
    scale, _ = affine(_plain(dataset.attrs["units"]), "km", label=f"{path}: grid")
    return np.asarray(dataset[()], np.float64) * scale


def _time(dataset: h5py.Dataset) -> np.datetime64:
    """Return a time stored as seconds since 1970."""
    unit = _plain(dataset.attrs["units"])
    if not unit.startswith("seconds since 1970-01-01"):
        raise ValueError(f"found time in {unit}")
    return np.datetime64(int(dataset[()]), "s")


def _plain(value: Any) -> Any:
    """Return an attribute as text, number or tuple of numbers."""
    if isinstance(value, bytes):
        return value.decode()
    array = np.ravel(value)
    return array[0].item() if array.size == 1 else tuple(array.tolist())


@lru_cache(maxsize=8)
def _projection(mapping: tuple[tuple[str, Any], ...]) -> str:
    """Return the PROJ text; the files of a folder share it, and reading it takes longer than an image."""
    return proj_in_km(dict(mapping), "proj")
