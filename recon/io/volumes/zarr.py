"""Zarr (version 2 or 3): an array, or a group with OME-Zarr multiscales, of which the finest is read.

OME-Zarr (0.4 and 0.5) names the axes and gives the scale of each data set; lengths become millimetres. It knows no
unit of values and no patient: volumes written here carry both in the attribute ``tomocast``, others need a
description beside the store. Source: https://ngff.openmicroscopy.org/0.5
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from priors.runtime.errors import InputError
from priors.runtime.files import atomic_folder
from recon.data.volume import Volume
from recon.io.volumes.arrays import described_array
from recon.io.volumes.format import ReadOptions, VolumeFormat, WriteOptions
from recon.io.volumes.stated_unit import numbers_3d, self_described

_MARKS = ("zarr.json", ".zarray", ".zgroup")
_MM = {"millimeter": 1.0, "centimeter": 10.0, "meter": 1e3, "micrometer": 1e-3, "nanometer": 1e-6}
_KEY = "tomocast"
_LARGEST = 2**36
"""Bytes of the largest array that is read: a damaged shape must not ask for more memory than exists."""


def read_zarr(path: Path) -> Volume:
    """Return the volume in a Zarr store.

    Raises:
        InputError: damaged, several arrays without multiscales, not 3-D, or unit or voxel size not stated.
    """
    try:
        store = zarr.open(str(path), mode="r")
        attributes = dict(store.attrs)
        array, voxel_mm = _finest(path, store, attributes)
        if array.nbytes > _LARGEST:
            raise InputError(f"{path}: found an array of {array.shape}, more than can be read at once")
        values = np.asarray(array[...])
    except InputError:
        raise
    except Exception as error:
        # zarr's codecs and metadata fail on damaged stores with errors of many kinds.
        raise InputError(f"{path}: is not a readable Zarr store ({type(error).__name__})") from error
    while values.ndim > 3 and values.shape[0] == 1:
        values = values[0]
    values = numbers_3d(path, values)
    own = attributes.get(_KEY)
    return described_array(path, values, voxel_mm) if own is None else self_described(path, values, own)


def write_zarr(path: Path, image: Volume) -> None:
    """Write ``image`` in float32 as an OME-Zarr 0.5 group (.zarr), one chunk per slice.

    Raises:
        InputError: the folder exists or cannot be written.
    """
    axes = [{"name": name, "type": "space", "unit": "millimeter"} for name in "zyx"]
    scale = {"type": "scale", "scale": list(image.voxel_mm)}
    level = {"path": "0", "coordinateTransformations": [scale]}
    multiscales: Any = [{"name": "volume", "axes": axes, "datasets": [level]}]
    with atomic_folder(path) as folder:
        group = zarr.create_group(str(folder), zarr_format=3)
        group.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
        group.attrs[_KEY] = {"unit": image.unit, "affine": image.affine.tolist()}
        chunks = (1, *image.values.shape[1:])
        array = group.create_array(
            "0", shape=image.values.shape, dtype="float32", chunks=chunks, dimension_names=("z", "y", "x")
        )
        array[...] = image.values


def _finest(
    path: Path, store: Any, attributes: Mapping[str, Any]
) -> tuple[zarr.Array, tuple[float, float, float] | None]:
    """Return the array to read and its voxel size (z, y, x) in mm where the metadata states it."""
    if isinstance(store, zarr.Array):
        return store, None
    told = attributes.get("ome", attributes).get("multiscales")
    if told:
        level = told[0]["datasets"][0]
        return store[level["path"]], _voxel_mm(told[0], level)
    arrays = dict(store.arrays())
    if len(arrays) != 1:
        names = ", ".join(sorted(arrays)[:8]) or "nothing"
        raise InputError(f"{path}: holds {names}, expected one array or OME-Zarr multiscales")
    return next(iter(arrays.values())), None


def _voxel_mm(multiscale: Mapping[str, Any], level: Mapping[str, Any]) -> tuple[float, float, float] | None:
    scale = np.ones(len(multiscale["axes"]))
    for transform in (
        *level.get("coordinateTransformations", ()),
        *multiscale.get("coordinateTransformations", ()),
    ):
        if transform["type"] == "scale":
            scale = scale * np.asarray(transform["scale"], np.float64)
    found = [
        float(step) * _MM[axis["unit"]]
        for axis, step in zip(multiscale["axes"], scale, strict=True)
        if axis.get("type") == "space" and axis.get("unit") in _MM
    ]
    if len(found) != 3 or not all(math.isfinite(d) and d > 0 for d in found):
        return None
    z, y, x = found
    return z, y, x


def _claims(path: Path, head: bytes) -> bool:
    """Claim stores of one array or of multiscales: archives of fields have an array per variable and coordinate."""
    if not (path.is_dir() and any((path / mark).is_file() for mark in _MARKS)):
        return False
    try:
        store = zarr.open(str(path), mode="r")
        if isinstance(store, zarr.Array):
            return True
        told: Any = dict(store.attrs)
        return _KEY in told or "multiscales" in told.get("ome", told) or len(list(store.arrays())) == 1
    except Exception:
        # Whatever is wrong with it, it is a store and its reader tells.
        return True


def _read(path: Path, options: ReadOptions) -> Volume:
    return read_zarr(path)


def _write(path: Path, image: Volume, options: WriteOptions) -> tuple[str, ...]:
    write_zarr(path, image)
    return ()


FORMAT = VolumeFormat("zarr", "Zarr", (".zarr",), _claims, _read, _write)
