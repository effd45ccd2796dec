"""DICOM beyond plain slices: compressed syntaxes, multi-frame files, padding, other series beside the CT."""

from pathlib import Path

import gdcm
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import FileDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, MRImageStorage, RLELossless

from benchmarks.fuzz.ct_samples import compress
from priors.runtime.errors import InputError
from recon.io.volumes.registry import read_volume
from tests.support.recon.multiframe import write_multiframe
from tests.support.recon.series import thorax_like, write_series

VALUES = thorax_like((4, 16, 12))
SYNTAXES = {
    "JPEG lossless": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "JPEG-LS": gdcm.TransferSyntax.JPEGLSLossless,
    "JPEG 2000": gdcm.TransferSyntax.JPEG2000Lossless,
}


@pytest.mark.parametrize("name", [*SYNTAXES, "RLE", "deflated"])
def test_lossless_syntaxes_keep_every_value(tmp_path: Path, name: str) -> None:
    folder = write_series(tmp_path / "series", VALUES)
    for file in folder.iterdir():
        if name in SYNTAXES:
            compress(file, SYNTAXES[name])
            continue
        data = pydicom.dcmread(file)
        if name == "RLE":
            data.compress(RLELossless)
        else:
            data.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        data.save_as(file)
    np.testing.assert_array_equal(read_volume(folder).values, VALUES)


@pytest.mark.parametrize("name", SYNTAXES)
@pytest.mark.parametrize("bits", [12, 16])
def test_signed_numbers_survive_compression(tmp_path: Path, name: str, bits: int) -> None:
    def change(i: int, data: FileDataset) -> None:
        data.PixelRepresentation, data.RescaleIntercept = 1, 0
        data.BitsStored, data.HighBit = bits, bits - 1
        stored = np.clip(VALUES[i], -1024, 2047).astype("<i2").view("<u2")
        data.PixelData = (stored & np.uint16(2**bits - 1)).tobytes()

    folder = write_series(tmp_path / "series", VALUES, change=change)
    np.testing.assert_array_equal(read_volume(folder).values, VALUES)
    for file in folder.iterdir():
        compress(file, SYNTAXES[name])
    np.testing.assert_array_equal(read_volume(folder).values, VALUES)


def test_a_code_stream_that_ends_gdcm_is_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", VALUES)
    for file in folder.iterdir():
        compress(file, SYNTAXES["JPEG 2000"])
    content = file.read_bytes()
    # The number of components and what follows, as case 446 of the fuzzer with seed 0 left it.
    place = content.index(b"\xff\x4f\xff\x51") + 41
    file.write_bytes(content[:place] + content[place + 63 :])
    with pytest.raises(InputError, match="pixels cannot be decoded"):
        read_volume(folder)


def test_frames_of_one_file_are_sorted_and_scaled(tmp_path: Path) -> None:
    path = write_multiframe(tmp_path / "a.dcm", VALUES, order=[2, 0, 3, 1], slopes=[1.0, 2.0, 1.0, 1.0])
    image = read_volume(path)
    expected = VALUES.astype(np.float64)
    # The frame of slice 0 keeps every second value only.
    expected[0] = np.rint((expected[0] + 1024) / 2) * 2 - 1024
    np.testing.assert_array_equal(image.values, expected)
    assert image.voxel_mm == pytest.approx((2.5, 0.75, 0.5))


def test_frames_are_where_simpleitk_sees_them(tmp_path: Path) -> None:
    path = write_multiframe(tmp_path / "a.dcm", VALUES)
    oracle, image = sitk.ReadImage(str(path)), read_volume(path)
    np.testing.assert_array_equal(image.values, sitk.GetArrayFromImage(oracle))
    np.testing.assert_allclose(np.diag(image.affine)[:3] * [-1, -1, 1], oracle.GetSpacing())


def test_a_gap_between_frames_is_told(tmp_path: Path) -> None:
    def change(data: FileDataset) -> None:
        frame = data.PerFrameFunctionalGroupsSequence[3]
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 10]

    with pytest.raises(InputError, match=r"frame 3 and a\.dcm frame 4"):
        read_volume(write_multiframe(tmp_path / "a.dcm", VALUES, change=change))


def test_frames_without_descriptions_are_refused(tmp_path: Path) -> None:
    def change(data: FileDataset) -> None:
        del data.PerFrameFunctionalGroupsSequence[0]

    with pytest.raises(InputError, match="found 3 descriptions for 4 frames"):
        read_volume(write_multiframe(tmp_path / "a.dcm", VALUES, change=change))


@pytest.mark.parametrize("limit", [None, 3003])
def test_declared_padding_counts_as_air(tmp_path: Path, limit: int | None) -> None:
    values = VALUES.copy()
    values[:, :2, :2] = 1976
    values[:, 2:4, :2] = 1978

    def change(i: int, data: FileDataset) -> None:
        data.PixelPaddingValue = 3000
        if limit is not None:
            data.PixelPaddingRangeLimit = limit

    found = read_volume(write_series(tmp_path / "series", values, change=change)).values
    assert (found[:, :2, :2] == -1024).all()
    assert (found[:, 2:4, :2] == (1978 if limit is None else -1024)).all()
    np.testing.assert_array_equal(found[:, 4:], values[:, 4:])


def test_bits_above_the_stored_ones_are_no_value(tmp_path: Path) -> None:
    def change(i: int, data: FileDataset) -> None:
        pixels = np.frombuffer(data.PixelData, "<u2") | 0x8000
        data.PixelData = pixels.tobytes()

    np.testing.assert_array_equal(
        read_volume(write_series(tmp_path / "a", VALUES, change=change)).values, VALUES
    )


def test_scouts_and_other_modalities_beside_the_series_are_left_out(tmp_path: Path) -> None:
    def scout(i: int, data: FileDataset) -> None:
        data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    def magnetic(i: int, data: FileDataset) -> None:
        data.Modality, data.SOPClassUID = "MR", MRImageStorage

    write_series(tmp_path / "study" / "a", VALUES)
    write_series(tmp_path / "study" / "b", VALUES[:1], change=scout)
    write_series(tmp_path / "study" / "c", VALUES, change=magnetic)
    image = read_volume(tmp_path / "study")
    np.testing.assert_array_equal(image.values, VALUES)
    assert "left out 2 other series" in image.warnings[0]
