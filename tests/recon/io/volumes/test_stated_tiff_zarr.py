"""What TIFF and Zarr files state about lengths, axes and values is used or named; numbers by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from priors.runtime.errors import InputError
from recon.io.volumes.format import ReadOptions
from recon.io.volumes.registry import read_volume
from tests.support.recon.series import thorax_like

VALUES = thorax_like((4, 6, 5)).astype(np.int16)
GAPS = ReadOptions(allow_gaps=True)


def warned(image: Any, *words: str) -> None:
    for word in words:
        assert any(word in sentence for sentence in image.warnings), image.warnings


# TIFF

SIDECAR = "unit: HU\nvoxel_mm: [2.0, 0.6, 0.7]\n"


def tiff(path: Path, text: str = SIDECAR, **told: Any) -> Path:
    tifffile.imwrite(path, VALUES, **{"photometric": "minisblack", **told})
    path.with_suffix(".yaml").write_text(text)
    return path


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("shaped", [True, False])
def test_tiff_pages_written_one_by_one(
    tmp_path: Path, compression: str | None, mixed: bool, shaped: bool
) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif", shaped=shaped) as writer:
        for k, page in enumerate(VALUES):
            writer.write(page, compression=compression if not mixed or k % 2 else "lzma")
    (tmp_path / "a.yaml").write_text(SIDECAR)
    image = read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.values, VALUES)


def test_tiff_stacks_written_one_by_one(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for part in (VALUES[:3], VALUES[3:]):
            writer.write(part, photometric="minisblack")
    (tmp_path / "a.yaml").write_text(SIDECAR)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").values, VALUES)


def test_tiff_thumbnails_are_passed_over(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif", shaped=False) as writer:
        for page in VALUES:
            writer.write(page)
        writer.write(VALUES[0, ::2, ::2], subfiletype=1)
    (tmp_path / "a.yaml").write_text(SIDECAR)
    image = read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.values, VALUES)
    warned(image, "thumbnails")


def test_tiff_pages_of_two_sizes_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif", shaped=False) as writer:
        writer.write(VALUES[0])
        writer.write(VALUES[0, :3])
    (tmp_path / "a.yaml").write_text(SIDECAR)
    with pytest.raises(InputError, match="different kinds"):
        read_volume(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("orientation", "back"),
    [
        (1, lambda v: v),
        (2, lambda v: v[..., ::-1]),
        (3, lambda v: v[..., ::-1, ::-1]),
        (4, lambda v: v[:, ::-1]),
    ],
)
def test_tiff_orientation_turns_pages(tmp_path: Path, orientation: int, back: Any) -> None:
    path = tiff(tmp_path / "a.tif", extratags=[(274, "H", 1, orientation, True)])
    np.testing.assert_array_equal(read_volume(path).values, back(VALUES))


@pytest.mark.parametrize(
    ("unit", "zunit", "zyx"),
    [
        ("mm", None, (2, 0.6, 0.7)),
        ("micron", None, (2e-3, 6e-4, 7e-4)),
        ("\\u00B5m", None, (2e-3, 6e-4, 7e-4)),
        ("inch", None, (50.8, 15.24, 17.78)),
        ("cm", "mm", (2, 6, 7)),
    ],
)
def test_tiff_lengths_of_imagej(tmp_path: Path, unit: str, zunit: str | None, zyx: tuple[float, ...]) -> None:
    metadata = {"axes": "ZYX", "spacing": 2.0, "unit": unit} | ({"zunit": zunit} if zunit else {})
    path = tiff(
        tmp_path / "a.tif", "unit: HU\n", imagej=True, resolution=(1 / 0.7, 1 / 0.6), metadata=metadata
    )
    # Resolutions are ratios of 32-bit integers.
    np.testing.assert_allclose(read_volume(path).voxel_mm, zyx, rtol=1e-5)


def test_tiff_calibration_of_imagej(tmp_path: Path) -> None:
    """ImageJ keeps signed numbers as unsigned ones with c0 = -32768."""
    stored = (VALUES.astype(np.int32) + 32768).astype(np.uint16)
    metadata = {"axes": "ZYX", "cf": 0, "c0": -32768.0, "c1": 1.0, "vunit": "HU", "spacing": 1, "unit": "mm"}
    tifffile.imwrite(tmp_path / "a.tif", stored, imagej=True, metadata=metadata, resolution=(1, 1))
    (tmp_path / "a.yaml").write_text(SIDECAR)
    image = read_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.values, VALUES)
    warned(image, "calibration is used", "a.yaml others")
    # A range of stored values in the description is about what is stored.
    (tmp_path / "a.yaml").write_text(SIDECAR + "value_range: [32768, 32769]\nunit_range: [0, 1]\n")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").values, VALUES)


@pytest.mark.parametrize(
    ("unit", "size", "mm"),
    [("mm", 0.5, 0.5), ("µm", 500, 0.5), ("nm", 5e5, 0.5), ("cm", 0.05, 0.5), (None, 500, 0.5)],
)
def test_tiff_lengths_of_ome(tmp_path: Path, unit: str | None, size: float, mm: float) -> None:
    metadata: dict[str, Any] = {"axes": "ZYX"}
    for axis in "XYZ":
        metadata[f"PhysicalSize{axis}"] = size
        if unit:
            metadata[f"PhysicalSize{axis}Unit"] = unit
    tifffile.imwrite(tmp_path / "a.ome.tif", VALUES, metadata=metadata)
    (tmp_path / "a.ome.yaml").write_text("unit: HU\n")
    np.testing.assert_allclose(read_volume(tmp_path / "a.ome.tif").voxel_mm, mm, rtol=1e-9)


def test_tiff_with_fewer_planes_than_its_description_says(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif", shaped=False) as writer:
        for k, page in enumerate(VALUES):
            words = "ImageJ=1.54\nimages=6\nslices=6\nunit=mm\nspacing=2.0\n"
            writer.write(page, description=words if k == 0 else None, metadata=None)
    (tmp_path / "a.yaml").write_text(SIDECAR)
    with pytest.raises(InputError, match="4 planes of the 6"):
        read_volume(tmp_path / "a.tif")
    warned(read_volume(tmp_path / "a.tif", GAPS), "4 planes of the 6")


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"photometric": "miniswhite"}, "MINISWHITE"),
        ({"extratags": [(42113, "s", 0, "-9999", True)]}, "GDAL_NODATA"),
        ({"resolution": (100.0, 100.0), "resolutionunit": "CENTIMETER"}, "0.1 x 0.1 mm"),
        ({"resolution": (300.0, 300.0), "resolutionunit": "INCH"}, None),
    ],
)
def test_tiff_statements_that_are_not_used_are_told(
    tmp_path: Path, told: dict[str, Any], words: str | None
) -> None:
    image = read_volume(tiff(tmp_path / "a.tif", **told))
    assert image.warnings == () if words is None else any(words in each for each in image.warnings)


def test_tiff_channels_taken_for_slices_are_told(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", imagej=True, metadata={"axes": "CYX"})
    warned(read_volume(path), "channels")


@pytest.mark.parametrize("step", [1, 10])
def test_tiff_folders_with_a_number_left_out(tmp_path: Path, step: int) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    ramp = np.arange(6)[:, None, None] * 100 + VALUES[:1]
    for k, page in enumerate(ramp.astype(np.int16)):
        if k != 2:
            tifffile.imwrite(folder / f"scan07_{k * step:04d}.tif", page)
    (tmp_path / "pages.yaml").write_text(SIDECAR)
    with pytest.raises(InputError, match=rf"missing \({2 * step}\)"):
        read_volume(folder)
    image = read_volume(folder, GAPS)
    np.testing.assert_allclose(image.values, ramp)
    warned(image, "1 of 6 slices")


# Zarr


def ome_zarr(
    path: Path, axes: list[dict[str, str]], transforms: list[dict[str, Any]], order: str = "zyx"
) -> Path:
    group = zarr.create_group(str(path))
    values = VALUES.transpose(["zyx".index(name) for name in order])
    group.create_array("0", data=values)
    level = {"path": "0", "coordinateTransformations": transforms}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}
    path.with_suffix(".yaml").write_text("unit: HU\n")
    return path


def space(order: str, unit: str) -> list[dict[str, str]]:
    return [{"name": name, "type": "space", "unit": unit} for name in order]


@pytest.mark.parametrize(
    ("order", "unit", "mm"),
    [
        ("zyx", "millimeter", 1.0),
        ("zyx", "micrometer", 1e-3),
        ("zyx", "meter", 1e3),
        ("zyx", "angstrom", 1e-7),
        ("zyx", "inch", 25.4),
        ("xyz", "millimeter", 1.0),
        ("yxz", "micrometer", 1e-3),
    ],
)
def test_zarr_axes_and_units(tmp_path: Path, order: str, unit: str, mm: float) -> None:
    sizes = {"z": 2.0, "y": 0.6, "x": 0.7}
    scale = [{"type": "scale", "scale": [sizes[name] for name in order]}]
    image = read_volume(ome_zarr(tmp_path / "a.zarr", space(order, unit), scale, order))
    np.testing.assert_array_equal(image.values, VALUES)
    np.testing.assert_allclose(image.voxel_mm, (2 * mm, 0.6 * mm, 0.7 * mm))


def test_zarr_translations_are_told_and_other_transforms_refused(tmp_path: Path) -> None:
    scale, move = (
        {"type": "scale", "scale": [2.0, 0.6, 0.7]},
        {"type": "translation", "translation": [1.0, 2, 3]},
    )
    warned(read_volume(ome_zarr(tmp_path / "a.zarr", space("zyx", "mm"), [scale, move])), "translation")
    for k, other in enumerate(({"type": "scale", "path": "s"}, {"type": "rotation", "rotation": []})):
        with pytest.raises(InputError, match="coordinateTransformations"):
            read_volume(ome_zarr(tmp_path / f"b{k}.zarr", space("zyx", "mm"), [other]))


def test_zarr_finest_level_wins_wherever_it_stands(tmp_path: Path) -> None:
    group = zarr.create_group(str(tmp_path / "a.zarr"))
    group.create_array("small", data=VALUES[::2, ::2, ::2])
    group.create_array("large", data=VALUES)
    levels = [
        {"path": name, "coordinateTransformations": [{"type": "scale", "scale": [size] * 3}]}
        for name, size in (("small", 2.0), ("large", 1.0))
    ]
    group.attrs["ome"] = {"multiscales": [{"axes": space("zyx", "millimeter"), "datasets": levels}]}
    (tmp_path / "a.yaml").write_text("unit: HU\n")
    image = read_volume(tmp_path / "a.zarr")
    np.testing.assert_array_equal(image.values, VALUES)
    assert image.voxel_mm == (1, 1, 1)
    warned(image, "large")


def test_zarr_plain_arrays(tmp_path: Path) -> None:
    """Names of axes, packing and chunks that were never written."""
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=(5, 6, 4), chunks=(1, 6, 4), dtype="i2", fill_value=0,
        dimension_names=("x", "y", "z"),
    )  # fmt: skip
    array[:4] = VALUES.transpose(2, 1, 0)[:4]
    array.attrs.update(scale_factor=2.0, add_offset=-24.0, resolution=[1, 1, 1])
    (tmp_path / "a.yaml").write_text(SIDECAR)
    image = read_volume(tmp_path / "a.zarr")
    np.testing.assert_array_equal(image.values[..., :4], VALUES[..., :4] * 2.0 - 24)
    warned(image, "scale_factor", "order x, y, z", "1 of 5 chunks", "resolution")
