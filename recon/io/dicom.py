"""CT slices in DICOM files: a folder, a zip archive or one file of one series, stacked by position.

Pixel (row i, column j) of a slice sits at

    P + j s_c c + i s_r r        in left-posterior-superior millimetres

with P = ImagePositionPatient, c and r the two halves of ImageOrientationPatient, s_r and s_c = PixelSpacing.
Slices are sorted by P along the normal c x r, never by file name or instance number. HU = RescaleSlope *
stored + RescaleIntercept.
Source: DICOM PS3.3 C.7.6.2, C.8.2.1. Messages carry file names and geometry, never a patient's name, number
or date.
"""

import io
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
from jaxtyping import Float32
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError

from priors.runtime.errors import InputError
from recon.io.dicom_geometry import Slice, stack_affine
from recon.io.image import Image

_CT = "1.2.840.10008.5.1.4.1.1.2"
_NOT_SLICES = ("DICOMDIR",)


def read_dicom(path: Path) -> Image:
    """Return the volume in HU of the one CT series in ``path`` (folder, zip archive or single file).

    Raises:
        InputError: no DICOM, more than one series, a missing or doubled slice, sizes or orientations that
            differ, not
            CT in HU, or pixels that cannot be decoded.
    """
    # pydicom's warnings quote the offending value, which may be a patient's name: they are not passed on.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        slices = [Slice(name, dataset) for name, dataset in _datasets(path)]
        if not slices:
            raise InputError(f"{path}: found no DICOM slices, expected one CT series")
        for item in slices:
            _check_ct(item)
        _check_one_series(path, slices)
        ordered, affine = stack_affine(path, slices)
        rows, columns = ordered[0].size
        values = np.empty((len(ordered), rows, columns), np.float32)
        for place, item in zip(values, ordered, strict=True):
            place[:] = _hounsfield(item)
    return Image(values, affine, "HU")


def is_dicom(head: bytes) -> bool:
    """Tell from the first 132 bytes whether a file is DICOM."""
    return head[128:132] == b"DICM"


def _datasets(path: Path) -> Iterator[tuple[str, FileDataset]]:
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file() and p.name not in _NOT_SLICES):
            yield from _dataset(file.name, file.read_bytes(), required=False)
    elif zipfile.is_zipfile(path):
        yield from _members(path)
    else:
        yield from _dataset(path.name, path.read_bytes(), required=True)


def _members(path: Path) -> Iterator[tuple[str, FileDataset]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in sorted(archive.infolist(), key=lambda info: info.filename):
                name = Path(member.filename).name
                if not member.is_dir() and name not in _NOT_SLICES:
                    yield from _dataset(name, archive.read(member), required=False)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
        raise InputError(f"{path}: the archive cannot be unpacked ({error})") from error


def _dataset(name: str, content: bytes, *, required: bool) -> Iterator[tuple[str, FileDataset]]:
    if not is_dicom(content[:132]) and not required:
        return
    try:
        dataset = pydicom.dcmread(io.BytesIO(content))
    except InvalidDicomError as error:
        raise InputError(f"{name}: is not a DICOM file (no DICM after 128 bytes)") from error
    except Exception as error:
        # A damaged file makes pydicom fail in many ways (EOFError, KeyError, struct.error, ...).
        raise InputError(f"{name}: is a damaged or truncated DICOM file ({type(error).__name__})") from error
    yield name, dataset


def _check_ct(item: Slice) -> None:
    data, name = item.dataset, item.name
    modality, kind = data.get("Modality"), data.get("SOPClassUID")
    if modality is None and kind is None:
        raise InputError(f"{name}: has neither Modality nor SOPClassUID; truncated DICOM file?")
    if modality != "CT" or (kind is not None and kind != _CT):
        found = f"{modality} ({getattr(kind, 'name', kind)})"
        raise InputError(f"{name}: found modality {found}, expected CT Image Storage")
    if "LOCALIZER" in (data.get("ImageType") or []):
        raise InputError(f"{name}: is a localizer (scout) image, expected axial slices")
    if "PixelData" not in data:
        raise InputError(f"{name}: has no PixelData; truncated DICOM file?")
    if data.get("SamplesPerPixel", 1) != 1 or data.get("BitsStored", 16) <= 8:
        found = f"{data.get('SamplesPerPixel', 1)} sample(s) of {data.get('BitsStored')} bits"
        raise InputError(
            f"{name}: found pixels of {found}, which is a picture, expected CT values of more than 8 bits"
        )
    if data.get("RescaleSlope") is None or data.get("RescaleIntercept") is None:
        raise InputError(
            f"{name}: RescaleSlope and RescaleIntercept are missing, so its values are not known to be HU"
        )
    if data.get("RescaleType", "HU") not in ("HU", "", None):
        raise InputError(f"{name}: RescaleType: found {data.RescaleType!r}, expected HU")
    if not np.isfinite(float(data.RescaleSlope)) or float(data.RescaleSlope) == 0:
        raise InputError(f"{name}: RescaleSlope: found {data.RescaleSlope}, expected a number that is not 0")


def _check_one_series(path: Path, slices: list[Slice]) -> None:
    members: dict[str, int] = {}
    for item in slices:
        uid = str(item.dataset.get("SeriesInstanceUID", ""))
        members[uid] = members.get(uid, 0) + 1
    if len(members) > 1:
        sizes = " and ".join(str(n) for n in sorted(members.values(), reverse=True))
        raise InputError(
            f"{path}: found {len(members)} series ({sizes} slices), expected one SeriesInstanceUID"
        )


def _hounsfield(item: Slice) -> Float32[np.ndarray, "y x"]:
    data: Dataset = item.dataset
    try:
        stored = data.pixel_array
    except Exception as error:
        # The decoders raise errors of their own; whatever it is, this slice has no usable pixels.
        syntax = getattr(data.file_meta.get("TransferSyntaxUID"), "name", "no transfer syntax")
        raise InputError(
            f"{item.name}: pixels cannot be decoded ({syntax}); damaged or truncated file?"
        ) from error
    if stored.shape != item.size:
        raise InputError(f"{item.name}: found pixels of shape {stored.shape}, expected {item.size}")
    return (stored * float(data.RescaleSlope) + float(data.RescaleIntercept)).astype(np.float32)
