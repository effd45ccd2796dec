"""Volumes in files: DICOM series, NIfTI, MetaImage and arrays in; NIfTI out.

The format is told by content where it has a signature, else by its ending. Only DICOM states its unit; NIfTI
written here does too (in ``descrip``). Any other file is taken as HU only if its values look like a CT in HU,
otherwise a description beside it must say what they are (see ``recon.io.sidecar``): a value range is never
guessed.
"""

import zipfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from jaxtyping import Float32, Float64, Shaped
from nibabel.imageglobals import LoggingOutputSuppressor

from priors.runtime.errors import InputError
from priors.runtime.files import atomic
from recon.io.arrays import read_array
from recon.io.dicom import is_dicom, read_dicom
from recon.io.image import Image, Unit, check_affine
from recon.io.metaimage import read_metaimage
from recon.io.sidecar import read_sidecar, sidecar_path

_DESCRIPTIONS: dict[Unit, bytes] = {"HU": b"attenuation in HU", "1/mm": b"attenuation in 1/mm"}
_KINDS = "a DICOM series (folder, .zip or file), NIfTI, MetaImage, .npy, .npz or TIFF"


def read_volume(path: Path) -> Image:
    """Return the volume in ``path``: values (z, y, x), affine and unit.

    Raises:
        InputError: the file does not exist, is damaged, or its unit or geometry is not known.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: does not exist, expected {_KINDS}")
    image = _read(path)
    if not np.isfinite(image.values).all():
        bad = int((~np.isfinite(image.values)).sum())
        raise InputError(f"{path}: {bad} voxels are NaN or infinite, expected finite values")
    return image


def _read(path: Path) -> Image:
    name = path.name.lower()
    if path.is_dir() or (zipfile.is_zipfile(path) and not name.endswith(".npz")):
        return read_dicom(path)
    with path.open("rb") as file:
        head = file.read(132)
    if is_dicom(head) or name.endswith(".dcm"):
        return read_dicom(path)
    if name.endswith((".npy", ".npz", ".tif", ".tiff")):
        return read_array(path)
    if name.endswith((".mha", ".mhd")):
        values, affine = read_metaimage(path)
        return _with_unit(path, values, affine, "")
    if name.endswith((".nii", ".nii.gz")):
        return _read_nifti(path)
    raise InputError(f"{path}: unknown kind of file, expected {_KINDS}")


def _read_nifti(path: Path) -> Image:
    try:
        # nibabel prints its repairs of a damaged header; the checks below are what decides.
        with LoggingOutputSuppressor():
            file: Any = nibabel.load(path)
        values = np.asanyarray(file.dataobj)
        affine = np.array(file.affine, np.float64)
        description = bytes(file.header["descrip"].item()).rstrip(b"\0").decode("ascii", "replace")
    except Exception as error:
        # A damaged header makes nibabel and numpy fail in many ways (HeaderData, Overflow, EOF, zlib, ...).
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise InputError(f"{path}: is not a readable NIfTI file ({reason})") from error
    values = values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values
    if values.ndim != 3 or values.dtype.kind not in "iuf":
        raise InputError(
            f"{path}: found {values.dtype} values of shape {values.shape}, expected one 3-D image"
        )
    return _with_unit(path, values.transpose(2, 1, 0), affine, description)


def _with_unit(
    path: Path, values: Shaped[np.ndarray, "z y x"], affine: Float64[np.ndarray, "4 4"], description: str
) -> Image:
    check_affine(affine, f"{path}: affine")
    sidecar = read_sidecar(path)
    if sidecar is not None:
        return Image(np.ascontiguousarray(sidecar.scaled(values)), affine, sidecar.unit)
    real = np.ascontiguousarray(values, dtype=np.float32)
    for unit, text in _DESCRIPTIONS.items():
        if description == text.decode():
            return Image(real, affine, unit)
    _check_looks_like_hu(path, real, values.dtype)
    return Image(real, affine, "HU")


def _check_looks_like_hu(path: Path, values: Float32[np.ndarray, "z y x"], stored: np.dtype) -> None:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if stored.itemsize == 1 or low > -200 or high - low < 500 or low < -32768 or high > 65535:
        raise InputError(
            f"{path}: found {stored} values from {low:.5g} to {high:.5g}, which do not look like HU; say "
            f"what they are in {sidecar_path(path).name} beside it (keys unit, value_range, unit_range)"
        )


def write_nifti(path: Path, image: Image) -> None:
    """Write ``image`` as NIfTI (.nii or .nii.gz): float32, affine as sform and qform, unit in ``descrip``.

    Raises:
        InputError: the name has another ending or the file cannot be written.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"{path}: expected a name that ends in .nii or .nii.gz")
    file = nibabel.Nifti1Image(image.values.transpose(2, 1, 0), image.affine, dtype=np.float32)
    file.header.set_xyzt_units("mm")
    file.header["descrip"] = _DESCRIPTIONS[image.unit]
    file.set_sform(image.affine, code=1)
    # The qform has no shear: with one, only the sform is written, so that no reader prefers the wrong map.
    directions = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    rigid = np.allclose(directions.T @ directions, np.eye(3), atol=1e-5)
    file.set_qform(image.affine, code=1 if rigid else 0)
    with atomic(path) as temporary:
        nibabel.save(file, temporary)
