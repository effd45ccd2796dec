"""What headers of CT slices state and is used, told or refused; truth by hand."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

from priors.runtime.errors import InputError
from recon.io.volumes.registry import ReadOptions, read_volume
from tests.support.recon.series import thorax_like, write_series

VALUES = thorax_like((5, 20, 18))
Told = Callable[[int, FileDataset], None]


def stating(**fields: Any) -> Told:
    """Set fields of every slice; a function is called with the number of the slice."""

    def change(i: int, data: FileDataset) -> None:
        for name, value in fields.items():
            setattr(data, name, value(i) if callable(value) else value)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (stating(), ()),
        (stating(RescaleType="HU"), ()),
        (stating(RescaleType="hu "), ()),
        (stating(RescaleType="US"), ("RescaleType is US",)),
        (stating(PhotometricInterpretation="MONOCHROME1"), ()),
        (stating(SpacingBetweenSlices=2.5), ()),
        (stating(SpacingBetweenSlices=-2.5), ()),
        (stating(SpacingBetweenSlices=1.0), ("SpacingBetweenSlices says 1 mm, positions 2.5 mm",)),
        (stating(GantryDetectorTilt=12), ("GantryDetectorTilt is 12 degrees",)),
        (stating(GantryDetectorTilt=0), ()),
        (stating(ConvolutionKernel="B30f"), ()),
        (stating(ConvolutionKernel=lambda i: "B30f" if i % 2 else "B70f"), ("ConvolutionKernel differs",)),
        (stating(KVP=lambda i: 80 if i % 2 else 140), ("KVP differs",)),
        (stating(FrameOfReferenceUID=lambda i: f"1.2.{i // 3}"), ("frame",)),
        (stating(LossyImageCompression="01"), ("ossy",)),
        (stating(AcquisitionNumber=lambda i: i // 2), ()),
        (stating(HighBit=11, BitsStored=12), ()),
        (stating(PixelPaddingValue=0), ()),
    ],
)
def test_values_stay_and_doubts_are_told(tmp_path: Path, change: Told, words: tuple[str, ...]) -> None:
    image = read_volume(write_series(tmp_path / "series", VALUES, change=change))
    np.testing.assert_array_equal(image.values, VALUES)
    assert image.voxel_mm == pytest.approx((2.5, 0.75, 0.5))
    assert bool(image.warnings) == bool(words), image.warnings
    for word in words:
        assert any(word in sentence for sentence in image.warnings), image.warnings


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (stating(RescaleSlope=0), "RescaleSlope: found 0"),
        (stating(RescaleType="OD"), "RescaleType: found 'OD', expected HU"),
        (stating(RescaleType="HU_MOD"), "RescaleType: found 'HU_MOD', expected HU"),
        (stating(ImagePositionPatient=lambda i: [0, 0, 2.5 * min(i, 3)]), "at the same position"),
        (stating(ImageOrientationPatient=lambda i: [1, 0, 0, 0, 1, 0] if i else [0, 1, 0, -1, 0, 0]), "Orientation"),
        (stating(PixelSpacing=lambda i: [0.75, 0.5] if i else [0.75, 0.6]), "PixelSpacing"),
        (stating(Modality="PT"), "modality PT"),
    ],
)  # fmt: skip
def test_what_is_no_stack_in_hu_is_refused(tmp_path: Path, change: Told, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_volume(write_series(tmp_path / "series", VALUES, change=change))


def test_a_missing_slice_is_interpolated_on_request_only(tmp_path: Path) -> None:
    ramp = (100 * np.arange(5)[:, None, None] + VALUES[:1]).astype(np.int16)
    folder = write_series(tmp_path / "series", ramp)
    (folder / "slice_003.dcm").unlink()
    with pytest.raises(InputError, match="--allow-gaps"):
        read_volume(folder)
    image = read_volume(folder, ReadOptions(allow_gaps=True))
    np.testing.assert_allclose(image.values, ramp, atol=1e-3)
    assert image.voxel_mm == pytest.approx((2.5, 0.75, 0.5))
    assert any("1 of 5 slices" in sentence for sentence in image.warnings)


def test_a_tilted_gantry_shears_without_a_word(tmp_path: Path) -> None:
    """Positions say it, and the tilt agrees: z advances by 2.5 mm, y by tan(13.5 degrees) of that."""
    change = stating(GantryDetectorTilt=13.5)
    image = read_volume(write_series(tmp_path / "series", VALUES, step=(0.0, 0.6, 2.5), change=change))
    np.testing.assert_allclose(image.affine[:3, 2], [0, -0.6, 2.5], atol=1e-9)
    assert image.warnings == ()


def test_padding_inside_the_body_is_told(tmp_path: Path) -> None:
    values = VALUES.copy()
    values[:, 9:11, 8:10] = 40
    change = stating(PixelPaddingValue=1064)
    image = read_volume(write_series(tmp_path / "series", values, change=change))
    assert any("adding" in sentence for sentence in image.warnings), image.warnings


def test_directory_records_are_passed_over_and_no_image(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", VALUES)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = (
        MediaStorageDirectoryStorage,
        generate_uid(),
    )
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    record = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    record.FileSetID, record.FileSetConsistencyFlag, record.DirectoryRecordSequence = "X", 0, []
    record.OffsetOfTheFirstDirectoryRecordOfTheRootDirectoryEntity = 0
    record.OffsetOfTheLastDirectoryRecordOfTheRootDirectoryEntity = 0
    for name in ("DIRFILE", "DICOMDIR"):
        record.save_as(folder / name, enforce_file_format=True)
    image = read_volume(folder)
    np.testing.assert_array_equal(image.values, VALUES)
    assert any("directory records" in s and "DIRFILE" in s for s in image.warnings), image.warnings
    with pytest.raises(InputError, match="is a DICOM directory"):
        read_volume(folder / "DICOMDIR")


def test_a_header_that_cannot_be_decoded_is_refused_in_a_line(tmp_path: Path) -> None:
    """As the fuzzer left it: the type of the element that tells directory records from images."""
    folder = write_series(tmp_path / "series", VALUES[:1])
    file = next(folder.iterdir())
    content = file.read_bytes()
    file.write_bytes(content.replace(b"\x02\x00\x02\x00UI", b"\x02\x00\x02\x00EI", 1))
    for path in (folder, file):
        with pytest.raises(InputError, match="damaged or truncated DICOM file"):
            read_volume(path)
