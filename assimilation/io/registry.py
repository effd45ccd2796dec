"""Fields in any file that is understood, told by content: the list of readers is ``READERS``, one module each.

Files of datasets (NetCDF, Zarr, GRIB) are brought to one form by ``foreign.normalise``; the others are read by modules
that know the place and the unit of everything. All of them give a stream of frames.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from assimilation.fields.cf import describe
from assimilation.fields.fields import Fields
from assimilation.fields.streams import FieldStream
from assimilation.io import blocks
from assimilation.io.foreign import normalise
from assimilation.io.grib import is_grib, opened_grib
from assimilation.io.netcdf import HDF5, is_netcdf, is_zarr, opened_netcdf, opened_zarr, signature
from assimilation.io.radar.composites import is_radar, open_radar
from assimilation.io.radar.frame import DEFAULT_RELATION, RainRelation
from assimilation.io.radar.sevir import is_sevir, open_sevir
from priors.runtime.errors import InputError
from priors.runtime.files.hdf5_probe import check_hdf5
from priors.runtime.files.permissions import allow_nonsense
from priors.runtime.system.memory import available_bytes, human


@dataclass(frozen=True)
class Reader:
    """One kind of file.

    Attributes:
        kind: for messages.
        claims: whether a path looks like this kind, by signature, name or content.
        dataset: opens it as xarray decodes it, for kinds that are datasets.
        stream: opens it as frames, for the others.
    """

    kind: str
    claims: Callable[[Path], bool]
    dataset: Callable[[Path, str | None], AbstractContextManager[xr.Dataset]] | None = None
    stream: Callable[[Path, RainRelation], FieldStream] | None = None


READERS = (
    Reader("radar composite", is_radar, stream=open_radar),
    Reader("SEVIR", is_sevir, stream=lambda path, relation: open_sevir(path)),
    Reader("NetCDF", is_netcdf, dataset=opened_netcdf),
    Reader("Zarr", is_zarr, dataset=opened_zarr),
    Reader("GRIB", is_grib, dataset=opened_grib),
)
_KINDS = ", ".join(reader.kind for reader in READERS)


def reader_of(path: Path) -> Reader:
    """Return the reader of a file or folder.

    Raises:
        InputError: it does not exist, is empty or of an unknown kind.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: is neither a file nor a folder (a pipe or a device), expected {_KINDS}")
    if path.is_file() and signature(path).startswith(HDF5):
        check_hdf5(path)
    for reader in READERS:
        if reader.claims(path):
            return reader
    if not path.exists():
        raise InputError(f"{path}: does not exist, expected {_KINDS}")
    if path.is_dir():
        raise InputError(f"{path}: is a folder without known files, expected {_KINDS}")
    found = "is empty" if path.stat().st_size == 0 else "unknown kind of file"
    raise InputError(f"{path}: {found}, expected {_KINDS}")


def read_any_fields(
    path: Path,
    variable: str | None = None,
    *,
    lead: np.timedelta64 | None = None,
    rain: RainRelation = DEFAULT_RELATION,
) -> Fields:
    """Return the fields in a file or folder.

    Args:
        path: what to read.
        variable: keep this one only.
        lead: of forecasts from several starts, the lead to keep.
        rain: how reflectivity becomes rain.

    Raises:
        InputError: it does not exist, is damaged, of an unknown kind, holds no such fields, or they do not fit
            into memory.
    """
    with open_stream(path, variable, lead=lead, rain=rain) as stream:
        if stream.starts is not None:
            raise InputError(
                f"{path}: time: {stream.starts.size} starts by {stream.times.size} leads, whose lead times overlap; "
                "expected one lead (choose it with --lead HOURS)"
            )
        if stream.members > 1:
            raise InputError(f"{path}: found the dimension member ({stream.members}), expected single fields")
        size = 4 * stream.trajectories * stream.times.size * stream.frame_size
        if size > available_bytes():
            raise InputError(
                f"{path}: holds {human(size)} of fields but {human(available_bytes())} of memory are free"
            )
        return stream.fields()


@contextmanager
def open_stream(
    path: Path,
    variable: str | None = None,
    *,
    lead: np.timedelta64 | None = None,
    rain: RainRelation = DEFAULT_RELATION,
) -> Iterator[FieldStream]:
    """Yield the fields or the ensemble in a file or folder, to be read frame by frame inside the block.

    Forecasts from several starts by several leads are trajectories with ``starts``, unless a lead is chosen.

    Raises:
        InputError: see ``read_any_fields``.
    """
    path = Path(path)
    reader = reader_of(path)
    if reader.stream is not None:
        stream = _finite(_one_variable(reader.stream(path, rain), variable, path), path)
        yield stream if lead is None else stream.at_lead(lead, str(path))
        return
    with open_dataset(path, variable) as dataset:
        stream = _finite(blocks.stream(describe(dataset, str(path))), path)
        yield stream if lead is None else stream.at_lead(lead, str(path))


@contextmanager
def open_dataset(path: Path, variable: str | None = None) -> Iterator[xr.Dataset]:
    """Yield the normalised dataset in a file or Zarr folder.

    Raises:
        InputError: see ``read_any_fields``; or its kind is no dataset.
    """
    path = Path(path)
    reader = reader_of(path)
    if reader.dataset is None:
        raise InputError(f"{path}: found {reader.kind}, expected NetCDF, Zarr or GRIB")
    with reader.dataset(path, variable) as raw:
        dataset = normalise(raw, str(path))
        if variable is not None:
            if variable not in dataset.data_vars:
                names = ", ".join(map(str, dataset.data_vars))
                raise InputError(f"{path}: variable: found '{variable}', expected one of {names}")
            dataset = dataset[[variable]]
        yield dataset


def without_infinities(values: np.ndarray, source: str) -> np.ndarray:
    """Return values with NaN in the place of infinities, which are neither measured nor missing.

    Raises:
        InputError: there are some, and ``--force`` was not given.
    """
    infinite = np.isinf(values)
    if not infinite.any():
        return values
    allow_nonsense(
        f"{source}: {int(infinite.sum())} values are infinite, expected numbers, or NaN where missing"
    )
    return np.where(infinite, np.float32(np.nan), values)


def _finite(stream: FieldStream, path: Path) -> FieldStream:
    """Return a stream whose frames hold no infinite value."""
    return replace(
        stream,
        read=lambda trajectory, time: without_infinities(
            stream.read(trajectory, time), f"{path}: {np.datetime_as_string(stream.times[time], unit='s')}"
        ),
    )


def _one_variable(stream: FieldStream, variable: str | None, path: Path) -> FieldStream:
    """Return one variable of a stream, or all."""
    if variable is None:
        return stream
    names = [item.name for item in stream.variables]
    if variable not in names:
        raise InputError(f"{path}: variable: found '{variable}', expected {', '.join(names)}")
    place = names.index(variable)
    return replace(
        stream,
        variables=(stream.variables[place],),
        read=lambda trajectory, time: np.asarray(stream.read(trajectory, time)[:, [place]]),
    )
