"""Fields in any file that is understood: NetCDF (3 and 4), Zarr, GRIB, and folders of radar composites.

The format is told by content: signatures of HDF5, NetCDF-3 and GRIB, the metadata of Zarr, names of radar files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from assimilation.cf import describe
from assimilation.fields import Fields
from assimilation.io.blocks import stream as stream_of
from assimilation.io.foreign import normalise
from assimilation.io.grib import SIGNATURE, opened_grib
from assimilation.io.radar import is_radar_folder, open_radar_folder
from assimilation.streams import FieldStream
from priors.runtime.errors import InputError
from priors.runtime.memory import available_bytes, human

_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")
_KINDS = "NetCDF, Zarr, GRIB or a folder of radar composites"


def read_any_fields(path: Path, variable: str | None = None) -> Fields:
    """Return the fields in a file or folder.

    Args:
        path: what to read.
        variable: keep this one only.

    Raises:
        InputError: it does not exist, is damaged, of an unknown kind, holds no such fields, or they do not fit
            into memory.
    """
    with open_stream(path, variable) as stream:
        if stream.members > 1:
            raise InputError(f"{path}: found the dimension member ({stream.members}), expected single fields")
        size = (
            4
            * stream.trajectories
            * stream.times.size
            * len(stream.variables)
            * int(np.prod(stream.grid.shape))
        )
        if size > available_bytes():
            raise InputError(
                f"{path}: holds {human(size)} of fields but {human(available_bytes())} of memory are free"
            )
        return stream.fields()


@contextmanager
def open_stream(path: Path, variable: str | None = None) -> Iterator[FieldStream]:
    """Yield the fields or the ensemble in a file or folder, to be read frame by frame inside the block.

    Raises:
        InputError: see ``read_any_fields``.
    """
    path = Path(path)
    if is_radar_folder(path):
        stream = open_radar_folder(path)
        names = [item.name for item in stream.variables]
        if variable not in (None, *names):
            raise InputError(f"{path}: variable: found '{variable}', expected {', '.join(names)}")
        yield stream
        return
    with open_dataset(path, variable) as dataset:
        yield stream_of(describe(dataset, str(path)))


@contextmanager
def open_dataset(path: Path, variable: str | None = None) -> Iterator[xr.Dataset]:
    """Yield the normalised dataset in a file or Zarr folder.

    Raises:
        InputError: see ``read_any_fields``.
    """
    path = Path(path)
    with _raw(path, variable) as raw:
        dataset = normalise(raw, str(path))
        if variable is not None:
            if variable not in dataset.data_vars:
                names = ", ".join(map(str, dataset.data_vars))
                raise InputError(f"{path}: variable: found '{variable}', expected one of {names}")
            dataset = dataset[[variable]]
        yield dataset


@contextmanager
def _raw(path: Path, variable: str | None) -> Iterator[xr.Dataset]:
    """Yield the dataset as xarray decodes it."""
    if not path.exists():
        raise InputError(f"{path}: does not exist, expected {_KINDS}")
    if path.is_dir():
        if not any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zmetadata")):
            raise InputError(f"{path}: is a folder without known files, expected {_KINDS}")
        engine = "zarr"
    else:
        with path.open("rb") as stream:
            head = stream.read(8)
        if head.startswith(SIGNATURE):
            with opened_grib(path, variable) as dataset:
                yield dataset
            return
        engine = _engine(head, path)
    options: Any = {"consolidated": False} if engine == "zarr" else {}
    try:
        coded = xr.open_dataset(path, engine=engine, decode_times=False, **options)
        _check_calendar(coded, path)
        dataset = xr.decode_cf(coded)
    except InputError:
        raise
    except Exception as error:
        # Damaged files make h5py, zarr, scipy and xarray's decoding fail in many ways.
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"{path}: is damaged or truncated, not readable as {engine} ({reason})") from error
    with dataset:
        yield dataset


def _check_calendar(dataset: xr.Dataset, path: Path) -> None:
    """Refuse times that no civil calendar knows, before xarray asks for a library to decode them."""
    for name, item in dataset.variables.items():
        calendar = str(item.attrs.get("calendar", "standard")).lower()
        if calendar not in _CALENDARS:
            raise InputError(
                f"{path}: {name}: found the calendar {calendar}, expected times of the standard calendar"
            )


def _engine(head: bytes, path: Path) -> str:
    if not head:
        raise InputError(f"{path}: is empty, expected {_KINDS}")
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "h5netcdf"
    if head[:3] == b"CDF" and head[3] in (1, 2):
        return "scipy"
    raise InputError(f"{path}: unknown kind of file, expected {_KINDS}")
