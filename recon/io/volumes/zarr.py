"""Zarr (version 2 or 3): an array, or a group with OME-Zarr multiscales, of which the finest is read.

OME-Zarr (0.4 and 0.5) names the axes, in any order, and gives the scale of each data set; lengths become
millimetres. Of plain arrays the names of axes, scale_factor and add_offset are used. Translations are not. It knows no
unit of values and no patient: volumes written here carry both in the attribute ``tomocast``, others need a
description beside the store. Source: https://ngff.openmicroscopy.org/0.5
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from priors.runtime.errors import InputError
from priors.runtime.files.bounds import check_array, check_within
from priors.runtime.files.writing import atomic_folder
from priors.runtime.files.zarr_chunks import check_chunks, note_absent
from recon.data.volume import Volume
from recon.io.spelling import millimetres
from recon.io.volumes.arrays import described_array
from recon.io.volumes.format import ReadOptions, VolumeFormat, WriteOptions
from recon.io.volumes.stated_unit import numbers_3d, self_described

_MARKS = ("zarr.json", ".zarray", ".zgroup")
_UNUSED = (
    *("units", "unit", "resolution", "pixelResolution", "spacing", "voxel_size", "scale", "offset"),
    "missing_value",
)
_KEY = "tomocast"


@dataclass(frozen=True, eq=False)
class _Found:
    """The array to read, the names of its axes where known, its voxel size (z, y, x) in mm, and what is to be said."""

    array: zarr.Array
    axes: tuple[str, ...]
    voxel_mm: tuple[float, float, float] | None
    warnings: tuple[str, ...] = ()


def read_zarr(path: Path) -> Volume:
    """Return the volume in a Zarr store.

    Raises:
        InputError: damaged, several arrays without multiscales, not 3-D, or unit or voxel size not stated.
    """
    try:
        store = zarr.open(str(path), mode="r")
        attributes = dict(store.attrs)
        found = _finest(path, store, attributes)
        check_within(path, path.rglob("*"))
        check_chunks(path)
        check_array(path, found.array.shape, found.array.dtype)
        told = (*found.warnings, *_empty_chunks(found.array))
        values, turned = _in_order(np.asarray(found.array[...]), found.axes)
        scaled, said = _packed(values, dict(found.array.attrs))
    except InputError as error:
        raise InputError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except Exception as error:
        # zarr's codecs and metadata fail on damaged stores with errors of many kinds.
        raise InputError(f"{path}: is not a readable Zarr store ({type(error).__name__})") from error
    own = attributes.get(_KEY)
    if own is not None:
        return self_described(path, numbers_3d(path, values), own)
    values, scaled = numbers_3d(path, values), numbers_3d(path, scaled)
    told = (*told, *turned, *said)
    return described_array(path, values, found.voxel_mm, calibrated=scaled, warnings=told)


def _in_order(values: np.ndarray, axes: tuple[str, ...]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return values in the order (z, y, x) where axes are named otherwise, without leading axes of length 1."""
    told: list[str] = []
    if len(axes) == values.ndim:
        other = [k for k, name in enumerate(axes) if name not in ("z", "y", "x")]
        if len(other) < len(axes) and any(values.shape[k] > 1 for k in other):
            told.append(
                f"the axes are {', '.join(axes)}: one that is not z, y or x was taken for a direction"
            )
        order = [axes.index(name) for name in "zyx" if name in axes]
        if not told and order != sorted(order):
            rest = [k for k in range(len(axes)) if k not in order]
            values = values.transpose(*rest, *order)
            told.append(f"stored in the order {', '.join(axes)}, read in the order z, y, x")
    while values.ndim > 3 and values.shape[0] == 1:
        values = values[0]
    return values, tuple(told)


def _packed(values: np.ndarray, attributes: Mapping[str, Any]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return values after scale_factor and add_offset, and which statements about values or lengths are not used."""
    told: list[str] = []
    slope, offset = (
        float(attributes.get(key, usual)) for key, usual in (("scale_factor", 1), ("add_offset", 0))
    )
    if (slope, offset) != (1.0, 0.0):
        if not (math.isfinite(slope) and math.isfinite(offset) and slope != 0):
            raise InputError(
                f"scale_factor and add_offset: found {slope} and {offset}, expected finite numbers"
            )
        values = values * slope + offset
        told.append(
            f"scale_factor and add_offset are used: values are {slope:g} times the stored plus {offset:g}"
        )
    unused = [key for key in attributes if key in _UNUSED]
    if unused:
        told.append(f"attributes that are not used: {', '.join(unused)}")
    return values, tuple(told)


def _empty_chunks(array: zarr.Array) -> tuple[str, ...]:
    """Return how many chunks are not stored: they read as the fill value."""
    stored, every = array.nchunks_initialized, array.nchunks
    if stored >= every:
        return ()
    return (
        f"{every - stored} of {every} chunks are not stored and read as the fill value {array.fill_value}",
    )


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
        note_absent(folder)


def _finest(path: Path, store: Any, attributes: Mapping[str, Any]) -> _Found:
    """Return the array to read and what the metadata state about it."""
    if isinstance(store, zarr.Array):
        return _Found(store, _named(store), None)
    told = attributes.get("ome", attributes).get("multiscales")
    if told:
        sizes = [math.prod(store[level["path"]].shape) for level in told[0]["datasets"]]
        finest = int(np.argmax(sizes))
        level = told[0]["datasets"][finest]
        warnings = [] if finest == 0 else [f"the first data set is not the finest: read {level['path']}"]
        if len(told) > 1:
            warnings.append(f"passed over {len(told) - 1} more multiscales of the store")
        voxel, said = _voxel_mm(told[0], level)
        axes = tuple(
            str(axis["name"] if isinstance(axis, dict) else axis) for axis in told[0].get("axes", ())
        )
        return _Found(store[level["path"]], axes, voxel, (*warnings, *said))
    arrays = dict(store.arrays())
    if len(arrays) != 1:
        names = ", ".join(sorted(arrays)[:8]) or "nothing"
        raise InputError(f"{path}: holds {names}, expected one array or OME-Zarr multiscales")
    only = next(iter(arrays.values()))
    return _Found(only, _named(only), None)


def _named(array: zarr.Array) -> tuple[str, ...]:
    """Return the names of the axes of a plain array: Zarr 3 keeps them, xarray writes them as an attribute."""
    names: Any = (
        getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    )
    return tuple(str(name) for name in names)


def _voxel_mm(
    multiscale: Mapping[str, Any], level: Mapping[str, Any]
) -> tuple[tuple[float, float, float] | None, tuple[str, ...]]:
    """Return the voxel size (z, y, x) that scales and units state, and what they leave open."""
    axes, told = multiscale.get("axes", ()), []
    scale = np.ones(len(axes))
    for transform in (
        *level.get("coordinateTransformations", ()),
        *multiscale.get("coordinateTransformations", ()),
    ):
        if transform["type"] == "scale" and "scale" in transform:
            scale = scale * np.asarray(transform["scale"], np.float64)
        elif transform["type"] == "translation":
            told.append(
                "coordinateTransformations: the translation is not used, the volume is about its middle"
            )
        elif transform["type"] != "identity":
            kind = f"{str(transform['type'])[:20]!r} with {', '.join(sorted(transform))[:60]}"
            raise InputError(f"coordinateTransformations: found {kind}, expected a scale of numbers")
    found: dict[str, float] = {}
    for axis, step in zip(axes, scale, strict=True):
        unit = str(axis.get("unit") or "") if isinstance(axis, dict) else ""
        size = millimetres(unit) if unit else None
        if isinstance(axis, dict) and axis.get("name") in ("z", "y", "x"):
            if size is None:
                told.append(
                    f"axes: {axis['name']} has {'the unit ' + unit[:20] if unit else 'no unit'}: not a length"
                )
            else:
                found[axis["name"]] = float(step) * size
    if len(found) != 3 or not all(math.isfinite(d) and d > 0 for d in found.values()):
        return None, tuple(told)
    return (found["z"], found["y"], found["x"]), tuple(told)


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
