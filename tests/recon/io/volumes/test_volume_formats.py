"""NRRD, TIFF, Zarr and HDF5 volumes: round trips, other software's files, and what is not guessed."""

from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from priors.runtime.errors import InputError
from recon.data.volume import LPS_TO_RAS, Volume
from recon.io.volumes.registry import FORMATS, read_volume, write_volume
from tests.recon.io.volumes.test_volume_files import itk_image, turned_affine
from tests.support.recon.series import thorax_like

SHAPE = (4, 6, 5)
WRITTEN = [kind for kind in FORMATS if kind.write is not None and kind.name != "dicom"]
EVERY_FORMAT = pytest.mark.parametrize("kind", WRITTEN, ids=[kind.name for kind in WRITTEN])


@EVERY_FORMAT
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    unit=st.sampled_from(["HU", "1/mm"]),
)
def test_a_volume_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, kind, seed: int, spacing: tuple, shape: tuple, unit: str
) -> None:
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    affine = turned_affine(seed, spacing)
    path = tmp_path_factory.mktemp("round") / f"volume{kind.endings[0]}"
    write_volume(path, Volume(values, affine, unit))  # type: ignore[arg-type]
    image = read_volume(path)
    np.testing.assert_array_equal(image.values, values)
    # NIfTI stores the affine in float32, the others in float64 or as decimal words of full precision.
    atol = 1e-5 * np.abs(affine).max() if kind.name == "nifti" else 1e-10
    np.testing.assert_allclose(image.affine, affine, rtol=1e-6, atol=atol)
    assert image.unit == unit
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["volume.nrrd", "volume.nhdr"])
@pytest.mark.parametrize("compressed", [False, True])
def test_nrrd_written_by_simpleitk(tmp_path: Path, name: str, compressed: bool) -> None:
    values, affine = thorax_like(SHAPE), turned_affine(2, (0.5, 0.7, 2.0))
    sitk.WriteImage(itk_image(values, affine), str(tmp_path / name), compressed)
    image = read_volume(tmp_path / name)
    np.testing.assert_array_equal(image.values, values)
    np.testing.assert_allclose(image.affine, affine, atol=1e-9)


@pytest.mark.parametrize("name", ["volume.nrrd", "volume.mha"])
def test_written_files_are_where_simpleitk_sees_them(tmp_path: Path, name: str) -> None:
    values, affine = thorax_like(SHAPE).astype(np.float32), turned_affine(1, (0.5, 0.7, 2.0))
    write_volume(tmp_path / name, Volume(values, affine, "HU"))
    oracle = sitk.ReadImage(str(tmp_path / name))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(oracle), values)
    for index in ((0, 0, 0), (4, 5, 3), (2, 1, 3)):
        point = oracle.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(LPS_TO_RAS[:3, :3] @ point, (affine @ [*index, 1])[:3], atol=1e-6)


@pytest.mark.parametrize("space", ["right-anterior-superior", "left-anterior-superior", "LPS"])
def test_nrrd_spaces(tmp_path: Path, space: str) -> None:
    header = {"space": space, "space directions": np.diag([0.5, 0.7, 2.0]), "space origin": [1.0, 2.0, 3.0]}
    nrrd.write(str(tmp_path / "a.nrrd"), thorax_like(SHAPE), header, index_order="C")
    affine = read_volume(tmp_path / "a.nrrd").affine
    signs = {"right": [1, 1, 1], "left-a": [-1, 1, 1], "LPS": [-1, -1, 1]}
    sign = next(value for key, value in signs.items() if space.startswith(key))
    np.testing.assert_allclose(np.diag(affine)[:3], np.array(sign) * [0.5, 0.7, 2.0])
    np.testing.assert_allclose(affine[:3, 3], np.array(sign) * [1.0, 2.0, 3.0])


def test_nrrd_reads_no_file_elsewhere(tmp_path: Path) -> None:
    lines = (
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 2 2\nspacings: 1 1 1\nencoding: raw\nendian: little\n"
    )
    (tmp_path / "a.nhdr").write_text(lines + "data file: ../secret.raw\n")
    (tmp_path.parent / "secret.raw").write_bytes(bytes(16))
    with pytest.raises(InputError, match="expected a file in the same folder"):
        read_volume(tmp_path / "a.nhdr")


def test_a_folder_of_tiff_pages_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    values = thorax_like((12, 6, 5))
    folder = tmp_path / "pages"
    folder.mkdir()
    for k, page in enumerate(values):
        tifffile.imwrite(folder / f"slice_{k}.tif", page)
    with pytest.raises(InputError, match="unknown unit; state unit and voxel_mm"):
        read_volume(folder)
    (tmp_path / "pages.yaml").write_text("unit: HU\nvoxel_mm: [2, 0.5, 0.5]\n")
    np.testing.assert_array_equal(read_volume(folder).values, values)
    tifffile.imwrite(folder / "slice_12.tif", values[0, :3])
    with pytest.raises(InputError, match=r"slice_12\.tif: found .* expected one page like the others"):
        read_volume(folder)


@pytest.mark.parametrize("software", ["imagej", "ome"])
def test_voxel_sizes_of_other_software(tmp_path: Path, software: str) -> None:
    path, values = tmp_path / "stack.tif", thorax_like(SHAPE).astype(np.float32)
    if software == "imagej":
        metadata = {"spacing": 20.0, "unit": "um", "axes": "ZYX"}
        tifffile.imwrite(path, values, imagej=True, resolution=(1 / 5, 1 / 7), metadata=metadata)
    else:
        sizes = {"PhysicalSizeX": 5.0, "PhysicalSizeY": 7.0, "PhysicalSizeZ": 20.0}
        units = {f"PhysicalSize{a}Unit": "µm" for a in "XYZ"}
        tifffile.imwrite(path, values, ome=True, metadata={"axes": "ZYX", **sizes, **units})
    with pytest.raises(InputError, match=r"unknown unit; state unit in stack\.yaml"):
        read_volume(path)
    path.with_suffix(".yaml").write_text("unit: HU\n")
    image = read_volume(path)
    np.testing.assert_array_equal(image.values, values)
    assert image.voxel_mm == pytest.approx((0.02, 0.007, 0.005), rel=1e-5)


@pytest.mark.parametrize("big", [False, True])
def test_pages_that_come_back_to_themselves(tmp_path: Path, big: bool) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=big) as writer:
        for page in thorax_like(SHAPE):
            writer.write(page, contiguous=False, metadata=None)
    with tifffile.TiffFile(path) as file:
        pages, kind = list(file.pages), file.tiff
        last, first = pages[-1], pages[0].offset  # type: ignore[union-attr]
        tags = len(last.tags)  # type: ignore[union-attr]
    content = bytearray(path.read_bytes())
    end = last.offset + kind.tagnosize + tags * kind.tagsize
    assert content[end : end + kind.offsetsize] == bytes(kind.offsetsize)
    content[end : end + kind.offsetsize] = first.to_bytes(kind.offsetsize, "little")
    (tmp_path / "a.yaml").write_text("unit: HU\nvoxel_mm: [2, 1, 1]\n")
    np.testing.assert_array_equal(read_volume(path).values, thorax_like(SHAPE))
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"its pages come back to byte {first}"):
        read_volume(path)


def test_a_colour_picture_is_no_volume(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 9, 3), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match="colour picture"):
        read_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr_of_other_software(tmp_path: Path, version: int) -> None:
    """Version 0.4 on Zarr 2 with a time and a channel axis, and 0.5 on Zarr 3, in micrometres."""
    values = thorax_like(SHAPE)
    group = zarr.create_group(str(tmp_path / "a.zarr"), zarr_format=version)  # type: ignore[arg-type]
    space = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    extra = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}] if version == 2 else []
    scale = {"type": "scale", "scale": [1.0] * len(extra) + [20.0, 7.0, 5.0]}
    told = [{"axes": extra + space, "datasets": [{"path": "0", "coordinateTransformations": [scale]}]}]
    stored = values.reshape((1,) * len(extra) + SHAPE)
    group.create_array("0", data=stored)
    group.attrs.update({"multiscales": told} if version == 2 else {"ome": {"multiscales": told}})
    with pytest.raises(InputError, match=r"unknown unit; state unit in a\.yaml"):
        read_volume(tmp_path / "a.zarr")
    (tmp_path / "a.yaml").write_text("unit: HU\n")
    image = read_volume(tmp_path / "a.zarr")
    np.testing.assert_array_equal(image.values, values)
    assert image.voxel_mm == pytest.approx((0.02, 0.007, 0.005))


def test_a_name_without_a_known_ending(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a name that ends in one of \.nii\.gz, \.mha"):
        write_volume(tmp_path / "volume.vol", Volume(np.zeros(SHAPE, np.float32), np.eye(4), "HU"))
    with pytest.raises(InputError, match="found 'nift', expected one of nifti"):
        write_volume(tmp_path / "v", Volume(np.zeros(SHAPE, np.float32), np.eye(4), "HU"), name="nift")
