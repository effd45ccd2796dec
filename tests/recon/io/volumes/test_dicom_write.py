"""The DICOM series written here: an independent validator, and SimpleITK, which must see the same place."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage

from priors.runtime.errors import InputError
from recon.data.volume import LPS_TO_RAS, Volume
from recon.io.volumes.registry import ReadOptions, WriteOptions, read_volume, write_nifti, write_volume
from tests.support.recon.series import thorax_like, write_series

REUSE = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def rotation(seed: int) -> np.ndarray:
    """Return a random proper rotation."""
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return np.asarray(turn * np.sign(np.linalg.det(turn)))


def placed(seed: int, spacing: tuple[float, float, float], *, mirrored: bool = False) -> np.ndarray:
    """Return an oblique affine; ``mirrored`` makes index axes left-handed."""
    affine = np.eye(4)
    affine[:3, :3] = rotation(seed) * spacing
    affine[:3, 3] = np.random.default_rng(seed).uniform(-300, 300, 3)
    if mirrored:
        affine[:3, 2] *= -1
    return affine


def in_simpleitk(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


@REUSE
@given(
    seed=st.integers(0, 1000),
    spacing=st.tuples(*[st.floats(0.2, 5)] * 3),
    shape=st.tuples(st.integers(2, 5), st.integers(2, 7), st.integers(2, 7)),
    mirrored=st.booleans(),
)
def test_dicom_and_nifti_overlay_voxel_for_voxel(
    tmp_path_factory: pytest.TempPathFactory, seed: int, spacing: tuple, shape: tuple, mirrored: bool
) -> None:
    folder = tmp_path_factory.mktemp("overlay")
    values = np.random.default_rng(seed).integers(-1024, 3000, shape).astype(np.float32)
    image = Volume(values, placed(seed, spacing, mirrored=mirrored), "HU")
    write_nifti(folder / "volume.nii", image)
    write_volume(folder / "series", image, name="dicom")
    nifti, dicom = sitk.ReadImage(str(folder / "volume.nii")), in_simpleitk(folder / "series")
    # DICOM sorts slices along the normal, so that left-handed indices come back with z reversed.
    flipped = np.linalg.det(image.affine[:3, :3]) < 0
    z = shape[0] - 1
    for index in np.ndindex(*shape[::-1]):
        theirs = (*index[:2], z - index[2]) if flipped else index
        point, other = nifti.TransformIndexToPhysicalPoint(index), dicom.TransformIndexToPhysicalPoint(theirs)
        # NIfTI keeps its affine in float32 of up to 300 mm: 24 bits are 2e-5 mm, summed over a few terms.
        np.testing.assert_allclose(point, other, atol=2e-4)
        meant = LPS_TO_RAS @ image.affine @ np.array([*index, 1.0])
        np.testing.assert_allclose(point, meant[:3], atol=2e-4)
        assert nifti[index] == dicom[theirs]


@REUSE
@given(seed=st.integers(0, 1000), spacing=st.tuples(*[st.floats(0.2, 5)] * 3), tilt=st.floats(-0.4, 0.4))
def test_a_series_written_and_read_again(
    tmp_path_factory: pytest.TempPathFactory, seed: int, spacing: tuple, tilt: float
) -> None:
    folder = tmp_path_factory.mktemp("round")
    affine = placed(seed, spacing)
    # A tilted gantry: slices are shifted along their columns.
    affine[:3, 2] += tilt * affine[:3, 1]
    values = np.random.default_rng(seed).uniform(-1024, 3000, (4, 5, 6)).astype(np.float32)
    write_volume(folder / "series", Volume(values, affine, "HU"), name="dicom")
    again = read_volume(folder / "series")
    np.testing.assert_array_equal(again.values, np.rint(values))
    # Decimal strings of 16 characters keep 10 digits of a coordinate of hundreds of mm.
    np.testing.assert_allclose(again.affine, affine, atol=1e-6)


def test_values_that_do_not_fit_are_clipped_and_told(tmp_path: Path) -> None:
    values = np.array([[[-3000.0, -1024.0], [70000.0, 12.4]]], np.float32)
    remarks = write_volume(tmp_path / "out", Volume(values, np.eye(4), "HU"), name="dicom")
    assert any("2 of 4 voxels" in remark for remark in remarks)
    np.testing.assert_array_equal(read_volume(tmp_path / "out").values, [[[-1024, -1024], [64511, 12]]])


@pytest.mark.parametrize("keep", [False, True])
def test_what_is_kept_of_a_reference(tmp_path: Path, keep: bool) -> None:
    def change(i: int, data: pydicom.FileDataset) -> None:
        data.FrameOfReferenceUID, data.PatientPosition = "1.2.3", "HFS"

    reference = write_series(tmp_path / "reference", thorax_like((3, 8, 8)), change=change)
    original = pydicom.dcmread(reference / "slice_001.dcm")
    write_volume(tmp_path / "out", read_volume(reference), WriteOptions(reference, keep), name="dicom")
    written = [pydicom.dcmread(file) for file in sorted((tmp_path / "out").iterdir())]
    first = written[0]
    assert first.StudyInstanceUID == original.StudyInstanceUID
    assert first.FrameOfReferenceUID == "1.2.3"
    assert first.PatientPosition == "HFS"
    assert first.SeriesInstanceUID != original.SeriesInstanceUID
    assert len({data.SOPInstanceUID for data in written}) == 3
    assert len({data.SeriesInstanceUID for data in written}) == 1
    assert list(first.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert (first.RescaleSlope, first.RescaleIntercept) == (1, -1024)
    assert "Not for diagnostic use" in first.ImageComments
    content = b"".join(file.read_bytes() for file in (tmp_path / "out").iterdir())
    assert (b"SECRET" in content) == keep
    assert (b"20200131" in content) == keep
    assert str(first.PatientName) == ("SECRET^NAME" if keep else "ANONYMOUS^")


def test_a_volume_dicom_cannot_store_is_refused(tmp_path: Path) -> None:
    values, sheared = np.zeros((2, 3, 4), np.float32), np.eye(4)
    sheared[0, 1] = 0.3
    for image, options, told in (
        (Volume(values, np.eye(4), "1/mm"), WriteOptions(), "expected HU"),
        (Volume(values, sheared, "HU"), WriteOptions(), "not at right angles"),
        (Volume(values, np.eye(4), "HU"), WriteOptions(None, True), "needs a reference"),
        (Volume(values, np.eye(4), "HU"), WriteOptions(tmp_path / "absent"), "does not exist"),
    ):
        with pytest.raises(InputError, match=told):
            write_volume(tmp_path / "out", image, options, name="dicom")
        assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "other").touch()
    with pytest.raises(InputError, match="exists already"):
        write_volume(tmp_path / "out", Volume(values, np.eye(4), "HU"), name="dicom")
    assert not list(tmp_path.glob(".partial-*"))


@pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed"
)
@pytest.mark.parametrize("with_reference", [False, True])
def test_dciodvfy_finds_a_valid_ct_image(tmp_path: Path, with_reference: bool) -> None:
    def change(i: int, data: pydicom.FileDataset) -> None:
        data.FrameOfReferenceUID, data.PatientPosition = "1.2.3", "HFS"

    reference = write_series(tmp_path / "reference", thorax_like((3, 8, 8)), change=change)
    options = WriteOptions(reference, True) if with_reference else WriteOptions()
    write_volume(tmp_path / "out", read_volume(reference), options, name="dicom")
    for file in sorted((tmp_path / "out").iterdir()):
        done = subprocess.run(["dciodvfy", str(file)], capture_output=True, text=True, timeout=60)
        lines = (done.stdout + done.stderr).splitlines()
        assert not [line for line in lines if line.startswith("Error")]
        assert "CTImage" in lines
        assert done.returncode == 0
        assert pydicom.dcmread(file).SOPClassUID == CTImageStorage


def test_the_written_series_is_chosen_among_others(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    values = thorax_like((3, 8, 8))
    write_series(folder / "a", values)
    write_volume(folder / "b", Volume(values[:2].astype(np.float32), np.eye(4), "HU"), name="dicom")
    uid = str(pydicom.dcmread(next((folder / "b").iterdir())).SeriesInstanceUID)
    with pytest.raises(InputError, match=f"found 2 series: .*3 CT files of 8 x 8.*{uid}.*--series"):
        read_volume(folder)
    for name in (uid, uid[-12:]):
        assert read_volume(folder, ReadOptions(name)).values.shape == (2, 8, 8)
    with pytest.raises(InputError, match=r"found 0 that end in '77\.77'"):
        read_volume(folder, ReadOptions("77.77"))
