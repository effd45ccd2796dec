"""Volumes that cannot be used, through the real command line: one clear line, status 2, nothing written."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from pydicom.dataset import FileDataset
from pydicom.uid import JPEGLSLossless, generate_uid

from tests.support.mistakes import assert_refused, call
from tests.support.recon.series import Change, thorax_like, write_series

VALUES = thorax_like((5, 16, 16))


def series(folder: Path, change: Change | None = None) -> Path:
    return write_series(folder / "series", VALUES, change=change)


def changed(slice_: int, **attributes: object) -> Callable[[Path], Path]:
    """Return a writer of a series one slice of which (-1: every slice) has other attributes; None removes
    one."""

    def change(i: int, data: FileDataset) -> None:
        for name, value in attributes.items():
            if slice_ not in (i, -1):
                continue
            if value is None:
                delattr(data, name)
            else:
                setattr(data, name, value)

    return lambda folder: series(folder, change)


def truncated_slice(folder: Path) -> Path:
    path = series(folder)
    file = path / "slice_003.dcm"
    file.write_bytes(file.read_bytes()[:-200])
    return path


def truncated_header(folder: Path) -> Path:
    path = series(folder)
    file = path / "slice_003.dcm"
    file.write_bytes(file.read_bytes()[:400])
    return path


def damaged_code_stream(folder: Path) -> Path:
    def change(i: int, data: FileDataset) -> None:
        data.file_meta.TransferSyntaxUID = JPEGLSLossless
        content = b"\xff\xd8\xff\xf7" + bytes(60)
        data.PixelData = b"\xfe\xff\x00\xe0" + bytes(4) + b"\xfe\xff\x00\xe0\x40\x00\x00\x00" + content
        data.PixelData += b"\xfe\xff\xdd\xe0" + bytes(4)
        data["PixelData"].VR, data["PixelData"].is_undefined_length = "OB", True

    return series(folder, change)


def missing_slice(folder: Path) -> Path:
    path = series(folder)
    (path / "slice_003.dcm").unlink()
    return path


def doubled_slice(folder: Path) -> Path:
    path = series(folder)
    (path / "again.dcm").write_bytes((path / "slice_003.dcm").read_bytes())
    return path


def no_slices(folder: Path) -> Path:
    (folder / "empty").mkdir()
    (folder / "empty" / "readme.txt").write_text("nothing")
    return folder / "empty"


def damaged_zip(folder: Path) -> Path:
    path = folder / "series.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in series(folder).iterdir():
            archive.write(file, file.name)
    content = bytearray(path.read_bytes())
    content[400:440] = bytes(40)
    path.write_bytes(content)
    return path


def array(values: np.ndarray, name: str = "volume.npy", yaml: str | None = None) -> Callable[[Path], Path]:
    """Return a writer of an array and, where given, its description."""

    def write(folder: Path) -> Path:
        path = folder / name
        np.save(path, values) if name.endswith(".npy") else tifffile.imwrite(path, values)
        if yaml is not None:
            path.with_suffix(".yaml").write_text(yaml)
        return path

    return write


def nifti(
    values: np.ndarray, affine: np.ndarray | None = None, keep: int | None = None
) -> Callable[[Path], Path]:
    """Return a writer of a NIfTI file of which the first ``keep`` bytes are kept."""

    def write(folder: Path) -> Path:
        path = folder / "volume.nii"
        file = nibabel.Nifti1Image(values, np.eye(4))
        file.header.set_sform(np.eye(4) if affine is None else affine, code=1)
        file.header.set_data_dtype(values.dtype)
        file.header.set_data_offset(352)
        path.write_bytes(file.header.binaryblock + bytes(4) + np.asfortranarray(values).tobytes("F"))
        path.write_bytes(path.read_bytes()[:keep])
        return path

    return write


def text(name: str, content: str | bytes) -> Callable[[Path], Path]:
    """Return a writer of a file with some content."""

    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


META = "NDims = 3\nDimSize = 4 4 4\nElementSpacing = 1 1 1\nElementType = MET_SHORT\nElementDataFile = "
HU = "unit: HU\nvoxel_mm: [2, 1, 1]\n"
WITH_NAN = np.where(np.arange(64).reshape(4, 4, 4) == 5, np.nan, 100.0)
BYTES = np.arange(64, dtype=np.uint8).reshape(4, 4, 4)

CASES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "missing file": (lambda folder: folder / "absent.nii.gz", "absent.nii.gz: does not exist"),
    "unknown kind": (text("volume.vol", "hello"), "unknown kind of file"),
    "empty folder": (no_slices, "found no DICOM slices"),
    "truncated pixels": (truncated_slice, "slice_003.dcm: pixels cannot be decoded"),
    "truncated header": (truncated_header, "choose one with --series UID"),
    "damaged code stream": (damaged_code_stream, "JPEG-LS Lossless"),
    "not DICOM": (text("slice.dcm", b"x" * 500), "slice.dcm: is not a DICOM file"),
    "damaged zip": (damaged_zip, "series.zip: the archive cannot be unpacked"),
    "mixed series": (changed(2, SeriesInstanceUID=generate_uid()), "choose one with --series UID"),
    "missing slice": (missing_slice, "found 5 mm between"),
    "doubled slice": (doubled_slice, "are at the same position"),
    "mixed sizes": (changed(2, Rows=8, PixelData=bytes(256)), "has (8, 16) rows and columns"),
    "mixed spacings": (changed(2, PixelSpacing=[1.0, 1.0]), "has PixelSpacing [1.0, 1.0]"),
    "mixed orientations": (
        changed(2, ImageOrientationPatient=[0, 1, 0, -1, 0, 0]),
        "different ImageOrientationPatient",
    ),
    "no position": (changed(2, ImagePositionPatient=None), "ImagePositionPatient: found None"),
    "other modality": (changed(-1, Modality="MR"), "found modality MR"),
    "no rescale": (changed(-1, RescaleSlope=None), "RescaleSlope and RescaleIntercept are missing"),
    "unit not HU": (changed(-1, RescaleType="OD"), "RescaleType: found 'OD', expected HU"),
    "scout": (changed(-1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), "is a localizer"),
    "8-bit picture": (changed(-1, BitsStored=8, HighBit=7), "is a picture"),
    "array without description": (array(VALUES), "state unit and voxel_mm"),
    "array of 4 axes": (array(np.zeros((1, 2, 3, 4)), yaml=HU), "found float64 values of shape (1, 2, 3, 4)"),
    "array of objects": (text("volume.npy", b"\x93NUMPY\x01\x00" + b"broken"), "is not a readable array"),
    "NaN voxels": (array(WITH_NAN, yaml=HU), "1 voxels are NaN or infinite"),
    "misspelt key": (
        array(VALUES, yaml="unit: HU\nvoxel: [2, 1, 1]\n"),
        "voxel: Extra inputs are not permitted",
    ),
    "unknown unit": (
        array(VALUES, yaml="unit: mm\nvoxel_mm: [2, 1, 1]\n"),
        "unit: Input should be 'HU' or '1/mm'",
    ),
    "half a range": (array(VALUES, yaml=HU + "value_range: [0, 1]\n"), "must be given together"),
    "range of a picture": (nifti(BYTES), "uint8 values from 0 to 63, which do not look like HU"),
    "range of minus one to one": (nifti(np.linspace(-1, 1, 64).reshape(4, 4, 4)), "do not look like HU"),
    "truncated NIfTI": (nifti(VALUES.astype(np.float32), keep=1000), "is not a readable NIfTI file"),
    "flat NIfTI affine": (nifti(VALUES, np.diag([1.0, 1, 0, 1])), "affine"),
    "MetaImage without data": (text("volume.mha", "NDims = 3\nDimSize = 4 4 4\n"), "no line ElementDataFile"),
    "truncated MetaImage": (
        text("volume.mha", META + "LOCAL\n" + "x" * 100),
        "found 100 bytes of values, expected 128",
    ),
    "MetaImage elsewhere": (
        text("volume.mhd", META + "../secret.raw\n"),
        "expected a file in the same folder",
    ),
    "MetaImage without a name": (text("volume.mhd", META + "\n"), "ElementDataFile: found ''"),
    "MetaImage of a name too long": (text("volume.mhd", META + "x" * 300 + "\n"), "does not exist beside"),
    "MetaImage of two axes": (
        text("volume.mha", META.replace("4 4 4", "4 4") + "LOCAL\n"),
        "DimSize: found '4 4'",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_volume_that_cannot_be_used(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write, told = CASES[case]
    out = tmp_path / "out" / "scan.h5"
    arguments = ["simulate", "scan", str(write(tmp_path)), "--views", "4", "--grid", "8", "--out", str(out)]
    answer = call(arguments, monkeypatch, capfd)
    assert_refused(answer, told=told, unwritten=out.parent)
    assert "SECRET" not in answer.err
