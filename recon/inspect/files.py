"""What a CT file is: picks the module of ``recon.inspect`` (scan, radiographs, volume) that describes its kind."""

from pathlib import Path

import h5py

from priors.runtime.errors import InputError
from priors.runtime.files.hdf5_probe import is_sound
from priors.runtime.inspection import Inspection
from recon.inspect import radiographs as inspect_radiographs
from recon.inspect import scan as inspect_scan
from recon.inspect import volume as inspect_volume
from recon.io.scans.format import HEAD, is_hdf5

_TOMOGRAPHY = {
    *(
        "tomography",
        "tomo",
        "projections",
        "projection",
        "proj",
        "radiographs",
        "frames",
        "sinogram",
        "sinograms",
    ),
    *("dark", "darks", "flat", "flats", "white", "data_white", "data_dark", "rotation_angle", "theta"),
    *("entry", "exchange", "image_key"),
}
"""Names by which an HDF5 file of an unknown kind is told to be one of tomography."""


def claims(path: Path) -> bool:
    """Tell, from names and signatures, whether a path is a CT volume or scan rather than anything else."""
    return any(kind.claims(path) for kind in (inspect_scan, inspect_radiographs, inspect_volume)) or _frames(
        path
    )


def _frames(path: Path) -> bool:
    """Tell whether an HDF5 file of no known kind is one of tomography by its names rather than NetCDF or radar."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        if not is_hdf5(stream.read(HEAD)):
            return False
    if not is_sound(path):
        return False
    try:
        with h5py.File(path, "r") as file:
            if any(key in file.attrs for key in ("_NCProperties", "Conventions", "conventions")):
                return False
            if {"what", "where", "how", "geographic", "overview", "image1"} & set(file):
                return False
            for name in file:
                # A link to nothing is named by the reader of scans.
                if isinstance(file.get(name, getlink=True), h5py.ExternalLink):
                    return True
            names: set[str] = set()
            file.visit(lambda name: names.update(str(name).lower().split("/")))
            return bool(names & _TOMOGRAPHY)
    except Exception:
        # Whatever is wrong with it, its reader tells.
        return False


def inspect_file(path: Path) -> Inspection:
    """Describe a CT volume or scan.

    Raises:
        InputError: it is damaged, or must be refused; the message says why.
    """
    if inspect_scan.claims(path) or (not inspect_volume.claims(path) and _frames(path)):
        return inspect_scan.inspect_file(path)
    # A folder of TIFF radiographs could also be a stack of slices: the more particular kind is asked first.
    if inspect_radiographs.claims(path):
        return inspect_radiographs.inspect_file(path)
    return inspect_volume.inspect_file(path)


def draw(path: Path, png: Path) -> None:
    """Draw the scanner of a scan.

    Raises:
        InputError: it is no scan, or cannot be read.
    """
    if not inspect_scan.claims(path):
        raise InputError(f"{path}: is no scan with a geometry, so there is no scanner to draw")
    inspect_scan.draw(path, png)
