"""The volume file (HDF5), described for users in docs/formats/ct-files.md.

Attributes ``format`` = tomocast-volume, ``version`` = 1, ``unit``; data sets ``values`` float32 (z, y, x) and
``affine`` float64 4 x 4, index (x, y, z, 1) to right-anterior-superior mm.
"""

import io
from pathlib import Path

import h5py
import numpy as np

from priors.runtime.errors import InputError
from priors.runtime.files import bounds
from priors.runtime.files.writing import atomic
from recon.data.volume import Volume
from recon.io.scans.format import hdf5_holds
from recon.io.volumes.format import ReadOptions, VolumeFormat, WriteOptions
from recon.io.volumes.stated_unit import numbers_3d, self_described

KIND = "tomocast-volume"
VERSION = 1


def read_hdf5_volume(path: Path) -> Volume:
    """Return the volume in ``path``.

    Raises:
        InputError: another kind of HDF5 file, something missing, or damaged.
    """
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != KIND:
                keys = ", ".join(sorted(file)) or "nothing"
                raise InputError(
                    f"{path}: HDF5 file with {keys} inside, expected a volume written by tomocast"
                )
            if file.attrs.get("version") != VERSION:
                found = file.attrs.get("version")
                raise InputError(f"{path}: version: found {found}, expected {VERSION}")
            bounds.check_array(path, file["values"].shape, file["values"].dtype)
            values = np.asarray(file["values"])
            told = {"unit": file.attrs.get("unit"), "affine": np.asarray(file["affine"])}
    except InputError:
        raise
    except Exception as error:
        # HDF5 reports damage with errors of many kinds.
        raise InputError(
            f"{path}: is a damaged or incomplete volume file ({type(error).__name__})"
        ) from error
    return self_described(path, numbers_3d(path, values), told)


def write_hdf5_volume(path: Path, image: Volume) -> None:
    """Write ``image`` (.h5).

    Raises:
        InputError: the file cannot be written.
    """
    # Built in memory: HDF5 crashes the interpreter when the disk fills up under an open file.
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        file.attrs.update(format=KIND, version=VERSION, unit=image.unit)
        chunks = (1, *image.values.shape[1:])
        file.create_dataset("values", data=image.values, compression="gzip", shuffle=True, chunks=chunks)
        file["affine"] = image.affine
    with atomic(path) as temporary:
        temporary.write_bytes(memory.getbuffer())


def _claims(path: Path, head: bytes) -> bool:
    return hdf5_holds(path, head, lambda file: file.attrs.get("format") == KIND)


def _read(path: Path, options: ReadOptions) -> Volume:
    return read_hdf5_volume(path)


def _write(path: Path, image: Volume, options: WriteOptions) -> tuple[str, ...]:
    write_hdf5_volume(path, image)
    return ()


FORMAT = VolumeFormat("hdf5", "a tomocast volume (.h5)", (".h5", ".hdf5"), _claims, _read, _write)
