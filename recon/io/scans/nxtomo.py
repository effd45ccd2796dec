"""NeXus NXtomo: parallel-beam radiographs, their fields among them, told apart by ``image_key``.

``instrument/detector/data`` (frame, row, column) and ``image_key`` (0 radiograph, 1 flat, 2 dark, 3 not to be used),
``sample/rotation_angle`` per frame in degrees unless its ``units`` say otherwise, ``x_pixel_size`` and ``y_pixel_size``
in metres unless theirs do. The rotation axis is not recorded: it is found (see ``recon.preprocess.centre_search``).
Source: https://manual.nexusformat.org/classes/applications/NXtomo.html
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float64

from priors.runtime.errors import InputError
from recon.data.scan import Scan
from recon.io.scans.data_exchange import parallel_data, size_mm, text_of
from recon.io.scans.format import ScanFormat, hdf5_holds
from recon.preprocess.radiographs import flat_correct

_RADIOGRAPH, _FLAT, _DARK = 0, 1, 2


def read_nxtomo(path: Path) -> Scan:
    """Return the scan of the one NXtomo entry in ``path``; reconstructions are in 1/mm.

    Raises:
        InputError: none or several entries, something missing, or frames that are not what they should be.
    """
    try:
        with h5py.File(path, "r") as file:
            return _read(_entry(file))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:
        # HDF5 reports damage with errors of many kinds.
        raise InputError(f"{path}: is a damaged or truncated HDF5 file ({type(error).__name__})") from error


def _read(entry: h5py.Group) -> Scan:
    detector = entry["instrument/detector"]
    data, key = (_dataset(detector, name) for name in ("data", "image_key"))
    if data.ndim != 3:
        raise InputError(f"instrument/detector/data: found shape {data.shape}, expected (frame, row, column)")
    angles = _dataset(entry, "sample/rotation_angle")
    degrees = np.asarray(angles[()], np.float64).ravel()
    if text_of(angles.attrs.get("units", "degree")).lower().startswith("rad"):
        degrees = np.rad2deg(degrees)
    keys = np.asarray(key[()]).ravel()
    if not len(keys) == len(degrees) == len(data):
        found = f"{len(data)} frames, {len(keys)} image keys and {len(degrees)} angles"
        raise InputError(f"found {found}, expected as many of each")
    frames = [_frames(data, keys == wanted) for wanted in (_RADIOGRAPH, _DARK, _FLAT)]
    for name, kept in zip(("radiographs (0)", "dark fields (2)", "flat fields (1)"), frames, strict=True):
        if not len(kept):
            raise InputError(f"image_key: found no {name}, expected some")
    pixel = _pixel_mm(detector)
    return parallel_data(flat_correct(*frames), degrees[keys == _RADIOGRAPH], pixel, "NeXus NXtomo")


def _frames(data: h5py.Dataset, wanted: np.ndarray) -> Float64[np.ndarray, "f r c"]:
    return np.asarray(data[np.flatnonzero(wanted)], np.float64)


def _pixel_mm(detector: h5py.Group) -> float | None:
    sizes = [size_mm(detector, name, "m") for name in ("x_pixel_size", "y_pixel_size")]
    known = [size for size in sizes if size is not None]
    if len(known) == 2 and abs(known[0] - known[1]) > 1e-3 * known[0]:
        raise InputError(f"x_pixel_size and y_pixel_size: found {known} mm, expected square pixels")
    return known[0] if known else None


def _entry(file: h5py.File) -> h5py.Group:
    entries = _entries(file)
    if len(entries) != 1:
        names = ", ".join(group.name for group in entries) or "none"
        raise InputError(f"found the NXtomo entries {names}, expected one")
    return entries[0]


def _entries(file: h5py.File) -> list[h5py.Group]:
    """Return the groups that say they are NXtomo, or hold what one holds, at most two levels down."""
    groups = [item for item in file.values() if isinstance(item, h5py.Group)]
    groups += [item for group in groups for item in group.values() if isinstance(item, h5py.Group)]
    return [group for group in groups if "instrument/detector/image_key" in group and "sample" in group]


def _dataset(group: Any, name: str) -> h5py.Dataset:
    found = group.get(name)
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{name}: is missing")
    return found


def _claims(path: Path, head: bytes) -> bool:
    return hdf5_holds(path, head, lambda file: bool(_entries(file)))


FORMAT = ScanFormat("NeXus NXtomo (.nx, .h5)", _claims, read_nxtomo)
