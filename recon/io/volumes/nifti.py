"""NIfTI (.nii, .nii.gz): read and written by nibabel; the affine is right-anterior-superior as ours.

Files written here are float32 with the affine as sform (and qform where it has no shear) and state their unit
in ``descrip``. Source: https://nifti.nimh.nih.gov/nifti-1
"""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.imageglobals import LoggingOutputSuppressor

from priors.runtime.errors import InputError
from priors.runtime.files import atomic
from recon.data.volume import Volume
from recon.io.volumes.format import ReadOptions, VolumeFormat, WriteOptions
from recon.io.volumes.stated_unit import DESCRIPTIONS, described_unit, with_unit

ENDINGS = (".nii.gz", ".nii")


def read_nifti(path: Path) -> Volume:
    """Return the one 3-D image in ``path``.

    Raises:
        InputError: damaged, not 3-D, or of unknown unit.
    """
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
    if values.ndim != 3 or values.dtype.kind not in "iuf" or 0 in values.shape:
        raise InputError(
            f"{path}: found {values.dtype} values of shape {values.shape}, expected one 3-D image"
        )
    return with_unit(path, values.transpose(2, 1, 0), affine, described_unit(description))


def write_nifti(path: Path, image: Volume) -> None:
    """Write ``image`` as NIfTI (.nii or .nii.gz).

    Raises:
        InputError: the name has another ending or the file cannot be written.
    """
    path = Path(path)
    if not path.name.endswith(ENDINGS):
        raise InputError(f"{path}: expected a name that ends in .nii or .nii.gz")
    file = nibabel.Nifti1Image(image.values.transpose(2, 1, 0), image.affine, dtype=np.float32)
    file.header.set_xyzt_units("mm")
    file.header["descrip"] = DESCRIPTIONS[image.unit].encode()
    file.set_sform(image.affine, code=1)
    # The qform has no shear: with one, only the sform is written, so that no reader prefers the wrong map.
    directions = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    rigid = np.allclose(directions.T @ directions, np.eye(3), atol=1e-5)
    file.set_qform(image.affine, code=1 if rigid else 0)
    with atomic(path) as temporary:
        nibabel.save(file, temporary)


def _claims(path: Path, head: bytes) -> bool:
    return path.name.lower().endswith(ENDINGS)


def _read(path: Path, options: ReadOptions) -> Volume:
    return read_nifti(path)


def _write(path: Path, image: Volume, options: WriteOptions) -> tuple[str, ...]:
    write_nifti(path, image)
    return ()


FORMAT = VolumeFormat("nifti", "NIfTI", ENDINGS, _claims, _read, _write)
