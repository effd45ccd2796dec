"""NIfTI (.nii, .nii.gz): read and written by nibabel; the affine is right-anterior-superior as ours.

What is used: dim, datatype, pixdim, qform and sform with their codes (the sform first, as nibabel does), scl_slope and
scl_inter, the unit of length in xyzt_units (the affine becomes millimetres), and descrip of files written here. What
changes a meaning and cannot be used is told: codes of 0, maps that disagree, an intent.

Files written here are float32 with the affine as sform (and qform where it has no shear) and state their unit
in ``descrip``. Source: https://nifti.nimh.nih.gov/nifti-1
"""

import itertools
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from jaxtyping import Float64
from nibabel.imageglobals import LoggingOutputSuppressor

from priors.runtime.errors import InputError
from priors.runtime.files.bounds import check_array
from priors.runtime.files.writing import atomic
from recon.data.volume import Unit, Volume
from recon.io.spelling import millimetres
from recon.io.volumes.format import ReadOptions, VolumeFormat, WriteOptions
from recon.io.volumes.stated_unit import DESCRIPTIONS, described_unit, with_unit

ENDINGS = (".nii.gz", ".nii")
_NOTED = 0.01
"""Share of a voxel by which two maps of the same file may differ without a word: headers hold float32."""


def read_nifti(path: Path) -> Volume:
    """Return the one 3-D image in ``path``.

    Raises:
        InputError: damaged, not 3-D, or of unknown unit.
    """
    try:
        # nibabel prints its repairs of a damaged header; the checks below are what decides.
        with LoggingOutputSuppressor():
            file: Any = nibabel.load(path)
        # Scaled values are float64.
        check_array(path, file.shape, np.float64)
        values = np.asanyarray(file.dataobj)
        affine, told = _millimetres(file.header, np.array(file.affine, np.float64))
        told = (*told, *_warnings(file.header, values.shape))
        description = bytes(file.header["descrip"].item()).rstrip(b"\0").decode("ascii", "replace")
    except InputError:
        raise
    except Exception as error:
        # A damaged header makes nibabel and numpy fail in many ways (HeaderData, Overflow, EOF, zlib, ...).
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise InputError(f"{path}: is not a readable NIfTI file ({reason})") from error
    values = values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values
    if values.ndim != 3 or values.dtype.kind not in "iuf" or 0 in values.shape:
        raise InputError(
            f"{path}: found {values.dtype} values of shape {values.shape}, expected one 3-D image"
        )
    return with_unit(path, values.transpose(2, 1, 0), affine, described_unit(description), warnings=told)


def _millimetres(
    header: Any, affine: Float64[np.ndarray, "4 4"]
) -> tuple[Float64[np.ndarray, "4 4"], tuple[str, ...]]:
    """Return the affine in millimetres and what is to be said about its unit."""
    code = int(header["xyzt_units"]) & 7
    unit = {1: "metre", 2: "millimetre", 3: "micrometre"}.get(code)
    if unit is None:
        found = "no unit of length" if code == 0 else f"a unit of length of unknown code {code}"
        return affine, (f"xyzt_units: states {found}; millimetres were taken",)
    scale = millimetres(unit)
    assert scale is not None
    affine[:3] *= scale
    return affine, ()


def _warnings(header: Any, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return what is odd about the maps and the meaning of a file."""
    found = []
    (sform, with_s), (qform, with_q) = header.get_sform(coded=True), header.get_qform(coded=True)
    if not with_s and not with_q:
        found.append(
            "qform_code and sform_code are 0: where the patient is, and which side is left, is not stated"
        )
    elif with_s and with_q and qform is not None:
        away = _apart(sform, qform, shape)
        if away > _NOTED:
            found.append(
                f"sform (code {int(with_s)}) and qform (code {int(with_q)}) disagree by up to {away:.3g} voxels; the "
                "sform was taken, other software (ITK, Slicer) may take the qform"
            )
    sizes = np.abs(np.array(header.get_zooms()[:3], np.float64))
    lengths = np.linalg.norm(header.get_best_affine()[:3, :3], axis=0)
    if len(sizes) == 3 and (abs(lengths - sizes) > _NOTED * lengths).any():
        found.append(
            f"pixdim {np.round(sizes, 6).tolist()} disagrees with the voxel sizes of the map, "
            f"{np.round(lengths, 6).tolist()}; the map was taken"
        )
    intent = int(header["intent_code"])
    if intent not in (0, 1001):
        name = (
            nibabel.nifti1.intent_codes.label[intent]
            if intent in nibabel.nifti1.intent_codes.code
            else intent
        )
        found.append(f"intent_code {intent} ({name}) says that the values are no attenuation")
    return tuple(found)


def _apart(one: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return the largest distance of a corner's two places, in voxels."""
    corners = np.array(list(itertools.product(*[(0, n - 1) for n in shape[:3]])), np.float64).T
    away = (one - other)[:3, :3] @ corners + (one - other)[:3, 3:]
    smallest = np.linalg.norm(one[:3, :3], axis=0).min()
    return float(np.linalg.norm(away, axis=0).max() / max(smallest, 1e-30))


def write_nifti(path: Path, image: Volume, *, note: str = "") -> None:
    """Write ``image`` as NIfTI (.nii or .nii.gz), with a note of at most 23 letters in the header's ``aux_file``.

    Raises:
        InputError: the name has another ending or the file cannot be written.
    """
    path = Path(path)
    if not path.name.endswith(ENDINGS):
        raise InputError(f"{path}: expected a name that ends in .nii or .nii.gz")
    file = nibabel.Nifti1Image(image.values.transpose(2, 1, 0), image.affine, dtype=np.float32)
    describe(file.header, image.affine, image.unit)
    file.header["aux_file"] = note.encode()
    with atomic(path) as temporary:
        nibabel.save(file, temporary)


def describe(header: Any, affine: Float64[np.ndarray, "4 4"], unit: Unit) -> None:
    """State unit and place in a header."""
    header.set_xyzt_units("mm")
    header["descrip"] = DESCRIPTIONS[unit].encode()
    header.set_sform(affine, code=1)
    # The qform has no shear: with one, only the sform is written, so that no reader prefers the wrong map.
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    rigid = np.allclose(directions.T @ directions, np.eye(3), atol=1e-5)
    header.set_qform(affine, code=1 if rigid else 0)


def _claims(path: Path, head: bytes) -> bool:
    return path.name.lower().endswith(ENDINGS)


def _read(path: Path, options: ReadOptions) -> Volume:
    return read_nifti(path)


def _write(path: Path, image: Volume, options: WriteOptions) -> tuple[str, ...]:
    write_nifti(path, image)
    return ()


FORMAT = VolumeFormat("nifti", "NIfTI", ENDINGS, _claims, _read, _write)
