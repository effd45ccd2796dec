"""How datasets lie on disk: NetCDF-4 files and Zarr folders, opened, created and replaced as a whole.

One horizontal field of one time, member and trajectory is one chunk, so reading one time reads nothing else.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from assimilation.fields import cf
from assimilation.fields.grid import Variable
from priors.runtime.errors import InputError
from priors.runtime.files import hdf5_probe, temporary
from priors.runtime.files.bounds import check_within
from priors.runtime.files.hdf5_sink import hdf5_sink
from priors.runtime.files.writing import atomic, replace_folder
from priors.runtime.files.zarr_chunks import check_chunks, note_absent

WRITER = "tomocast_archive"
"""Attribute of every archive written here; its value counts the layout's versions."""
_OWN = re.compile(r"([^/]+/)?zarr\.json|[^/]+/c(/\d+)*")
_ENDINGS = (".nc", ".zarr")
_TIME_UNITS = (("seconds", 1_000_000_000), ("milliseconds", 1_000_000), ("microseconds", 1000))


def check_path(path: Path) -> Path:
    """Return the path of an archive to write.

    Raises:
        InputError: the ending is neither .nc nor .zarr.
    """
    path = Path(path)
    if path.suffix not in _ENDINGS:
        raise InputError(f"{path}: expected a name that ends in .nc or .zarr")
    return path


@contextmanager
def created(
    path: Path, variables: tuple[Variable, ...], shape: tuple[int, ...], *, dims: Any
) -> Iterator[list[Any]]:
    """Yield empty arrays, one per variable, in a NetCDF file that holds the coordinates."""
    import h5netcdf

    with hdf5_sink(path) as sink, h5netcdf.File(sink, "a") as file:
        arrays = []
        for item in variables:
            chunks = (*(1,) * (len(shape) - 2), *shape[-2:])
            options = {"chunks": chunks, "compression": "gzip", "compression_opts": 1, "shuffle": True}
            array = file.create_variable(item.name, dims, "float32", fillvalue=np.float32(np.nan), **options)
            array.attrs.update(cf.variable_attributes(item, mapped=cf.MAPPING in file.variables))
            arrays.append(array)
        yield arrays


def check_hdf5(path: Path) -> None:
    """Open and close a file, since h5netcdf prints a traceback when it lets go of one that h5py could not open.

    Raises:
        OSError: h5py cannot open it.
        InputError: the HDF5 library does not survive reading it, or it refers to other files without permission.
    """
    import h5py

    hdf5_probe.check_hdf5(path)
    with h5py.File(path, "r"):
        pass


def ordered(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset with its variables by name.

    A Zarr group without consolidated metadata has no order: its arrays are listed concurrently, in the order in
    which their answers happen to arrive, and the first variable of one run would be the second of the next.
    """
    names = sorted(map(str, dataset.data_vars))
    in_order = dataset[names].assign_attrs(dataset.attrs)
    in_order.set_close(dataset.close)
    return in_order


@contextmanager
def opened(path: Path) -> Iterator[xr.Dataset]:
    """Yield the dataset in a NetCDF file or Zarr folder."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: does not exist, expected NetCDF or a Zarr folder")
    try:
        if path.is_dir():
            check_within(path, path.rglob("*"))
            check_chunks(path)
            dataset = ordered(xr.open_dataset(path, engine="zarr", consolidated=False, decode_times=False))
        else:
            check_hdf5(path)
            dataset = xr.open_dataset(path, engine="h5netcdf", decode_times=False)
    except InputError:
        raise
    except Exception as error:
        # Damaged files make h5py, zarr and xarray's decoding fail in many ways (OSError, KeyError, Overflow, ...).
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"{path}: is not readable as NetCDF-4 or Zarr ({reason})") from error
    with dataset:
        yield dataset


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name for a file or folder that replaces ``path`` when the block ends well.

    Raises:
        InputError: it cannot be written, or a folder of that name holds what tomocast did not write.
    """
    if path.suffix != ".zarr":
        with atomic(path) as partial:
            yield partial
        return
    check_replaceable(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = temporary.fresh(path.parent, ".zarr")
        try:
            fresh.mkdir()
            yield fresh
            replace_folder(fresh, path)
        finally:
            temporary.forget(fresh)
    except OSError as error:
        raise InputError(f"{path}: could not be written ({error.strerror or error})") from error


def check_replaceable(path: Path) -> None:
    """Check that a Zarr folder to be written does not take the place of a folder that is not ours.

    Raises:
        InputError: it does.
    """
    if not path.is_dir() or path.is_symlink():
        if os.path.lexists(path):
            raise InputError(
                f"{path}: is no folder, expected a new name or a Zarr folder that tomocast wrote"
            )
        return
    names = [item.relative_to(path).as_posix() for item in path.rglob("*") if not item.is_dir()]
    foreign = [name for name in names if not _OWN.fullmatch(name)]
    if foreign or (names and not _written_here(path)):
        what = f"holds {foreign[0]}" if foreign else "was not written by tomocast"
        raise InputError(f"{path}: {what}; it will not be replaced: remove it, or choose another name")


def _written_here(path: Path) -> bool:
    try:
        tree = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
        return WRITER in tree["attributes"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def save(dataset: xr.Dataset, path: Path, encoding: dict[str, dict[str, Any]]) -> None:
    """Write a dataset in the format its name says; coordinates have no fill value, as CF asks."""
    whole = {str(name): {"_FillValue": None} for name in dataset.coords}
    for name, told in encoding.items():
        whole[name] = {**whole.get(name, {}), **told}
    if path.suffix == ".zarr":
        dataset.to_zarr(path, mode="w", encoding=whole, consolidated=False)
        note_absent(path)
    else:
        with hdf5_sink(path) as sink:
            dataset.to_netcdf(sink, engine="h5netcdf", encoding=whole)


def compression(path: Path, chunks: tuple[int, ...]) -> dict[str, Any]:
    """Return how a data variable is stored: one field per chunk, so that one time is one read."""
    if path.suffix == ".zarr":
        return {"chunks": chunks}
    return {"chunksizes": chunks, "zlib": True, "complevel": 1, "shuffle": True}


def time_encoding(times: np.ndarray) -> dict[str, Any]:
    """Return the CF encoding of times that loses nothing down to a microsecond."""
    steps = (times - times[0]).astype("timedelta64[ns]").astype("int64")
    unit = next((name for name, size in _TIME_UNITS if not (steps % size).any()), "nanoseconds")
    first = np.datetime_as_string(
        times[0], unit="s" if times[0] == times[0].astype("datetime64[s]") else "ns"
    )
    size = dict(_TIME_UNITS).get(unit, 1)
    # Integers of eight bytes came to CF in version 1.9 only.
    dtype = "int32" if steps[-1] // size < 2**31 else "int64"
    return {"units": f"{unit} since {first.replace('T', ' ')}", "dtype": dtype, "calendar": "standard"}
