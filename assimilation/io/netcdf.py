"""NetCDF 3 and 4 files and Zarr folders (formats 2 and 3): opened by xarray, decoded by ``foreign.missing``."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr

from assimilation.fields.calendars import civil
from assimilation.fields.times import unrounded
from assimilation.io.classic import check_classic
from assimilation.io.foreign.missing import decoded, looks_like_a_code
from assimilation.io.store import check_hdf5, ordered
from priors.runtime.errors import InputError
from priors.runtime.files.bounds import check_within
from priors.runtime.files.zarr_chunks import check_chunks

HDF5 = b"\x89HDF\r\n\x1a\n"
CLASSIC = (b"CDF\x01", b"CDF\x02")
_ZARR = ("zarr.json", ".zgroup", ".zmetadata")


def is_netcdf(path: Path) -> bool:
    """Tell whether a file begins as NetCDF."""
    return path.is_file() and signature(path).startswith((HDF5, *CLASSIC))


def is_zarr(path: Path) -> bool:
    """Tell whether a folder is a Zarr group."""
    return path.is_dir() and any((path / name).exists() for name in _ZARR)


def signature(path: Path) -> bytes:
    """Return the first eight bytes of a file."""
    with path.open("rb") as stream:
        return stream.read(8)


@contextmanager
def opened_netcdf(path: Path, variable: str | None = None) -> Iterator[xr.Dataset]:
    """Yield the dataset in a NetCDF file.

    Raises:
        InputError: it is damaged, or its times cannot be used.
    """
    engine = "h5netcdf" if signature(path).startswith(HDF5) else "scipy"
    if engine == "scipy":
        check_classic(path)
    with _opened(path, engine, {}) as dataset:
        yield dataset


@contextmanager
def opened_zarr(path: Path, variable: str | None = None) -> Iterator[xr.Dataset]:
    """Yield the dataset in a Zarr folder.

    Raises:
        InputError: it is damaged, or its times cannot be used.
    """
    check_within(path, path.rglob("*"))
    check_chunks(path)
    with _opened(path, "zarr", {"consolidated": False}) as dataset:
        yield dataset


@contextmanager
def _opened(path: Path, engine: str, options: dict[str, Any]) -> Iterator[xr.Dataset]:
    try:
        if engine == "h5netcdf":
            check_hdf5(path)
        coded = xr.open_dataset(path, engine=engine, decode_cf=False, **options)
        if engine == "zarr":
            coded = ordered(_with_fill_values(coded, path))
        coded = _with_since(coded)
        values = decoded(coded, str(path), defaults=engine != "zarr")
        ours = civil(values, str(path))
        dataset = unrounded(ours, xr.decode_cf(ours), str(path))
        dataset.set_close(coded.close)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        # Damaged files make h5py, zarr, scipy and xarray's decoding fail in many ways.
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        if "decode time units" in reason:
            raise InputError(
                f"{path}: time: {reason.split('. Try')[0]}; expected seconds to days since"
            ) from error
        raise InputError(f"{path}: is damaged or truncated, not readable as {engine} ({reason})") from error
    with dataset:
        yield dataset


def _with_fill_values(dataset: xr.Dataset, path: Path) -> xr.Dataset:
    """Leave those of Zarr 2's fill values that mean missing: xarray takes all of them (pydata/xarray#5475)."""
    import zarr

    group = zarr.open_group(path, mode="r", use_consolidated=False)
    if group.metadata.zarr_format != 2:
        return _with_codes(dataset, group)
    for name in map(str, dataset.variables):
        array = group.get(name)
        attributes = dataset[name].attrs
        if array is None or "_FillValue" not in attributes:
            continue
        if "_FillValue" in array.attrs:
            attributes["_FillValue"] = array.attrs["_FillValue"]
        elif not looks_like_a_code(attributes["_FillValue"]):
            del attributes["_FillValue"]
    return dataset


def _with_codes(dataset: xr.Dataset, group: Any) -> xr.Dataset:
    """Take a fill value of Zarr 3 that looks like a code for a missing value, where a variable states none."""
    for name in map(str, dataset.variables):
        array = group.get(name)
        stated = getattr(getattr(array, "metadata", None), "fill_value", None)
        if "_FillValue" not in dataset[name].attrs and looks_like_a_code(stated):
            dataset[name].attrs["_FillValue"] = stated
    return dataset


def _with_since(dataset: xr.Dataset) -> xr.Dataset:
    """Spell the units of times as xarray knows them: ``Hours Since`` is ``hours since``."""
    for item in dataset.variables.values():
        unit = item.attrs.get("units")
        if not isinstance(unit, str) or " since " in unit:
            continue
        found = re.match(r"\s*([A-Za-z]+)\s+since\s", unit, re.IGNORECASE)
        if found is not None:
            item.attrs["units"] = f"{found[1].lower()} since {unit[found.end() :]}"
    return dataset
