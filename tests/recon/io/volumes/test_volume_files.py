"""Volume files: round trips, and MetaImage and NIfTI against SimpleITK."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.data.volume import LPS_TO_RAS, Volume, grid_affine
from recon.io.volumes.registry import read_volume, write_nifti
from tests.support.recon.series import thorax_like

SHAPE = (4, 6, 5)
REUSE = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def turned_affine(seed: int, spacing: tuple[float, float, float]) -> np.ndarray:
    generator = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = turn * spacing
    affine[:3, 3] = generator.uniform(-300, 300, 3)
    return affine


def itk_image(values: np.ndarray, affine: np.ndarray) -> sitk.Image:
    """Return a SimpleITK image with the RAS affine."""
    image = sitk.GetImageFromArray(values)
    lps = LPS_TO_RAS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing([float(s) for s in spacing])
    image.SetDirection([float(d) for d in (lps[:3, :3] / spacing).ravel()])
    image.SetOrigin([float(o) for o in lps[:3, 3]])
    return image


@REUSE
@given(
    seed=st.integers(0, 1000),
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    unit=st.sampled_from(["HU", "1/mm"]),
)
def test_nifti_round_trip(tmp_path: Path, seed: int, spacing: tuple, shape: tuple, unit: str) -> None:
    generator = np.random.default_rng(seed)
    values = generator.normal(size=shape).astype(np.float32)
    affine = turned_affine(seed, spacing)
    path = tmp_path / "volume.nii.gz"
    write_nifti(path, Volume(values, affine, unit))  # type: ignore[arg-type]
    image = read_volume(path)
    np.testing.assert_array_equal(image.values, values)
    # NIfTI stores the affine in float32.
    np.testing.assert_allclose(image.affine, affine, rtol=1e-6, atol=1e-5 * np.abs(affine).max())
    assert image.unit == unit
    assert [p.name for p in tmp_path.iterdir()] == ["volume.nii.gz"]


@REUSE
@given(seed=st.integers(0, 1000), spacing=st.tuples(*[st.floats(0.2, 5)] * 3))
def test_nifti_is_where_simpleitk_sees_it(tmp_path: Path, seed: int, spacing: tuple) -> None:
    """Oblique and mirrored axes, written here and there."""
    values, affine = thorax_like(SHAPE).astype(np.float32), turned_affine(seed, spacing)
    write_nifti(tmp_path / "volume.nii", Volume(values, affine, "HU"))
    oracle = sitk.ReadImage(str(tmp_path / "volume.nii"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(oracle), values)
    for index in ((0, 0, 0), (4, 5, 3), (2, 1, 3)):
        point = oracle.TransformIndexToPhysicalPoint(index)
        # Both keep float32 of up to 300 mm in the file: 24 bits are 2e-5 mm, summed over a few terms.
        np.testing.assert_allclose(LPS_TO_RAS[:3, :3] @ point, (affine @ [*index, 1])[:3], atol=2e-4)
    sitk.WriteImage(itk_image(values, affine), str(tmp_path / "theirs.nii"))
    image = read_volume(tmp_path / "theirs.nii")
    np.testing.assert_array_equal(image.values, values)
    np.testing.assert_allclose(image.affine, affine, atol=2e-4)


def test_a_sheared_affine_survives(tmp_path: Path) -> None:
    affine = np.diag([-0.5, -0.7, 2.0, 1.0])
    affine[1, 2] = 0.4
    write_nifti(tmp_path / "volume.nii", Volume(np.zeros(SHAPE, np.float32), affine, "HU"))
    np.testing.assert_allclose(read_volume(tmp_path / "volume.nii").affine, affine, atol=1e-6)


@pytest.mark.parametrize("name", ["volume.mha", "volume.mhd"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.int32])
def test_metaimage_written_by_simpleitk(tmp_path: Path, name: str, compressed: bool, dtype: type) -> None:
    values, affine = thorax_like(SHAPE).astype(dtype), turned_affine(2, (0.5, 0.7, 2.0))
    sitk.WriteImage(itk_image(values, affine), str(tmp_path / name), compressed)
    image = read_volume(tmp_path / name)
    np.testing.assert_array_equal(image.values, values)
    # The header stores decimal numbers of about six digits.
    np.testing.assert_allclose(image.affine, affine, atol=1e-3)


def test_metaimage_in_big_endian_order(tmp_path: Path) -> None:
    values = thorax_like(SHAPE)
    header = "NDims = 3\nDimSize = 5 6 4\nElementSpacing = 1 2 3\nBinaryDataByteOrderMSB = True\n"
    header += "ElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (tmp_path / "big.mha").write_bytes(header.encode() + values.astype(">i2").tobytes())
    image = read_volume(tmp_path / "big.mha")
    np.testing.assert_array_equal(image.values, values)
    assert image.voxel_mm == (3.0, 2.0, 1.0)


def test_numpy_archive_describes_itself(tmp_path: Path) -> None:
    values = thorax_like(SHAPE)
    np.savez(tmp_path / "a.npz", values=values, unit="HU", voxel_mm=[2.0, 0.7, 0.5])
    image = read_volume(tmp_path / "a.npz")
    np.testing.assert_array_equal(image.values, values)
    assert image.voxel_mm == pytest.approx((2.0, 0.7, 0.5))
    # The middle of the array is the origin.
    np.testing.assert_allclose(image.affine @ [2.0, 2.5, 1.5, 1], [0, 0, 0, 1], atol=1e-12)
    affine = turned_affine(5, (1, 2, 3))
    np.savez(tmp_path / "b.npz", values=values / 1e5, unit="1/mm", affine=affine)
    image = read_volume(tmp_path / "b.npz")
    np.testing.assert_array_equal(image.affine, affine)
    assert image.unit == "1/mm"


@pytest.mark.parametrize("ending", [".npy", ".tif"])
def test_a_description_beside_an_array_maps_its_range(tmp_path: Path, ending: str) -> None:
    stored = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    path = tmp_path / f"scaled{ending}"
    np.save(path, stored) if ending == ".npy" else tifffile.imwrite(path, stored, photometric="minisblack")
    (tmp_path / "scaled.yaml").write_text(
        "unit: HU\nvoxel_mm: [2, 1, 1]\nvalue_range: [-1, 1]\nunit_range: [-1000, 2000]\n"
    )
    image = read_volume(path)
    np.testing.assert_allclose(image.values, stored * 1500 + 500, atol=1e-3)
    assert image.voxel_mm == (2.0, 1.0, 1.0)


def test_grid_affine_puts_voxels_where_the_grid_says() -> None:
    image = Volume(np.zeros((4, 6, 5), np.float32), turned_affine(7, (0.5, 0.7, 2.0)), "HU")
    grid = image.grid
    affine = grid_affine(grid)
    x, y, z, _ = affine @ [4, 2, 3, 1]
    found = [grid.coordinates(axis)[index] for axis, index in ((2, 4), (1, 2), (0, 3))]
    np.testing.assert_allclose([x, y, z], found)
