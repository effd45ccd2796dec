"""Volumes in files: every format, listed once, and how one is chosen.

The format is recognised by content where it has a signature, else by its ending; the first in the list that claims a
file reads it. Only DICOM states its unit; files written here do too. Any other file is taken as HU only if its
values look like a CT in HU, otherwise a description beside it must say what they are (see
``recon.io.volumes.sidecar``): a value range is never guessed.
"""

from pathlib import Path

import numpy as np

from priors.runtime.errors import InputError
from recon.data.volume import Volume, save_with
from recon.io.scans.format import HEAD, is_hdf5
from recon.io.volumes import arrays, metaimage, nifti, nrrd
from recon.io.volumes import hdf5 as hdf5_volume
from recon.io.volumes import zarr as zarr_volume
from recon.io.volumes.dicom import stack as dicom
from recon.io.volumes.format import ReadOptions, VolumeFormat, WriteOptions
from recon.io.volumes.nifti.file import write_nifti
from recon.io.volumes.tiff import stack as tiff

__all__ = [
    "FORMATS",
    "ReadOptions",
    "WriteOptions",
    "format_of",
    "read_volume",
    "write_nifti",
    "write_volume",
]

# A Zarr store and a folder of TIFF pages are folders too: DICOM, which takes any other, comes after them.
FORMATS: tuple[VolumeFormat, ...] = (
    nifti.FORMAT,
    metaimage.FORMAT,
    nrrd.FORMAT,
    arrays.FORMAT,
    zarr_volume.FORMAT,
    tiff.FORMAT,
    hdf5_volume.FORMAT,
    dicom.FORMAT,
)
_KINDS = ", ".join(entry.title for entry in FORMATS)


def read_volume(path: Path, options: ReadOptions = ReadOptions()) -> Volume:  # noqa: B008 (frozen)
    """Return the volume in ``path``: values (z, y, x), affine and unit.

    Raises:
        InputError: the file does not exist, is damaged, or its unit or geometry is not known.
    """
    path = Path(path)
    kind = format_of(path)
    if options.series is not None and kind is not dicom.FORMAT:
        raise InputError(f"{path}: series: {kind.title} holds one volume; a series is chosen in DICOM only")
    image = kind.read(path, options)
    # A sum shows NaN and infinity without a mask of the volume.
    if not all(np.isfinite(plane.sum(dtype=np.float64)) for plane in image.values):
        bad = int((~np.isfinite(image.values)).sum())
        raise InputError(f"{path}: {bad} voxels are NaN or infinite, expected finite values")
    return image


def format_of(path: Path) -> VolumeFormat:
    """Return the format that claims ``path``.

    Raises:
        InputError: it does not exist, or none does.
    """
    if not path.exists():
        raise InputError(f"{path}: does not exist, expected {_KINDS}")
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: is neither a file nor a folder (a pipe or a device), expected {_KINDS}")
    head = b""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(HEAD)
    for kind in FORMATS:
        if kind.claims(path, head):
            return kind
    if path.is_file() and is_hdf5(head):
        raise InputError(
            f"{path}: is an HDF5 file of another kind, expected a volume written by tomocast (.h5)"
        )
    raise InputError(f"{path}: unknown kind of file, expected {_KINDS}")


def write_volume(
    path: Path,
    image: Volume,
    options: WriteOptions = WriteOptions(),  # noqa: B008 (frozen)
    *,
    name: str | None = None,
) -> tuple[str, ...]:
    """Write ``image`` in the format called ``name``, or the one its ending says; return remarks for a person.

    Raises:
        InputError: no format is known by that name or ending, or the file cannot be written.
    """
    path = Path(path)
    kind = writer(path, name)
    if kind is not dicom.FORMAT and options != WriteOptions():
        raise InputError(f"{path}: a reference and patient data belong to DICOM only, found {kind.title}")
    assert kind.write is not None
    return kind.write(path, image, options)


def writer(path: Path, name: str | None) -> VolumeFormat:
    """Return the format to write.

    Raises:
        InputError: no format is known by that name or ending.
    """
    offered = [kind for kind in FORMATS if kind.write is not None]
    if name is not None:
        for kind in offered:
            if kind.name == name:
                return kind
        names = ", ".join(kind.name for kind in offered)
        raise InputError(f"format: found '{name}', expected one of {names}")
    for kind in offered:
        if kind.named(path):
            return kind
    endings = ", ".join(kind.endings[0] for kind in offered if kind.endings)
    raise InputError(f"{path}: expected a name that ends in one of {endings}, or --format dicom for a folder")


save_with(write_volume)
