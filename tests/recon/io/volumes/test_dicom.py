"""DICOM series against the values written and against SimpleITK."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileDataset

from priors.runtime.errors import InputError
from recon.data.volume import LPS_TO_RAS
from recon.io.volumes.dicom.stack import read_dicom
from recon.io.volumes.registry import read_volume
from tests.support.recon.series import thorax_like, write_series

SHAPE = (5, 12, 10)


def oblique(seed: int, step_mm: float) -> tuple[list[float], list[float]]:
    """Return row and column cosines of a turned slice, and the step along its normal."""
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    return [*turn[0], *turn[1]], list(step_mm * turn[2])


def itk_affine(image: sitk.Image) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.asarray(LPS_TO_RAS @ affine)


def test_a_series_keeps_values_and_order_whatever_its_names(tmp_path: Path) -> None:
    values = thorax_like(SHAPE)
    image = read_volume(write_series(tmp_path / "series", values))
    np.testing.assert_array_equal(image.values, values)
    assert image.unit == "HU"
    assert image.voxel_mm == pytest.approx((2.5, 0.75, 0.5))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.none() | st.integers(0, 1000),
    spacing=st.tuples(st.floats(0.2, 5), st.floats(0.2, 5)),
    step_mm=st.floats(0.3, 5),
)
def test_affine_and_values_equal_those_of_simpleitk(
    tmp_path_factory: pytest.TempPathFactory, seed: int | None, spacing: tuple[float, float], step_mm: float
) -> None:
    """Axial and oblique slices, read in the order of their places."""
    axial = [1.0, 0, 0, 0, 1, 0], [0.0, 0, step_mm]
    orientation, step = axial if seed is None else oblique(seed, step_mm)
    folder = write_series(
        tmp_path_factory.mktemp("turned") / "series",
        thorax_like(SHAPE),
        orientation=orientation,
        step=step,
        spacing=spacing,
    )
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    oracle = reader.Execute()
    image = read_volume(folder)
    np.testing.assert_array_equal(image.values, sitk.GetArrayFromImage(oracle))
    # Positions are stored as decimal strings of at most 16 characters.
    np.testing.assert_allclose(image.affine, itk_affine(oracle), atol=1e-6)


def test_a_tilted_gantry_gives_a_sheared_affine(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "tilt", thorax_like(SHAPE), step=(0.0, 0.6, 2.5))
    affine = read_volume(folder).affine
    np.testing.assert_allclose(affine[:3, 2], [0.0, -0.6, 2.5], atol=1e-9)


def test_zip_folder_and_single_file_agree(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", thorax_like(SHAPE))
    (folder / "notes.txt").write_text("not a slice")
    packed = tmp_path / "series.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_BZIP2) as archive:
        for file in folder.iterdir():
            archive.write(file, f"inner/{file.name}")
    whole, unpacked = read_volume(folder), read_volume(packed)
    np.testing.assert_array_equal(whole.values, unpacked.values)
    np.testing.assert_array_equal(whole.affine, unpacked.affine)
    first = read_volume(folder / "slice_005.dcm")
    np.testing.assert_array_equal(first.values[0], whole.values[0])
    assert first.voxel_mm == pytest.approx(whole.voxel_mm)


def test_slope_and_intercept_are_applied_per_slice(tmp_path: Path) -> None:
    def change(i: int, data: FileDataset) -> None:
        data.RescaleSlope, data.RescaleIntercept = 2, -1024 - i

    values = thorax_like(SHAPE)
    image = read_volume(write_series(tmp_path / "series", values, change=change))
    expected = 2 * (values.astype(int) + 1024) - 1024 - np.arange(5)[:, None, None]
    np.testing.assert_array_equal(image.values, expected)


def test_messages_never_name_the_patient(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    def change(i: int, data: FileDataset) -> None:
        data.PatientName = "SECRET^NAME^" + "X" * 80
        data.PatientBirthDate = "SECRET"
        data.RescaleType = "OD"

    folder = write_series(tmp_path / "series", thorax_like(SHAPE), change=change)
    before = len(recwarn)
    with pytest.raises(InputError) as caught:
        read_dicom(folder)
    told = str(caught.value) + "".join(str(w.message) for w in list(recwarn)[before:])
    assert "SECRET" not in told
    assert "20200131" not in told
    assert "RescaleType" in told
