"""What volume files state about lengths, directions and values is used or named; numbers by hand or by SimpleITK."""

from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile
import zarr

from priors.runtime.errors import InputError
from recon.data.volume import LPS_TO_RAS
from recon.io.volumes.format import ReadOptions
from recon.io.volumes.registry import read_volume
from tests.support.recon.series import thorax_like

VALUES = thorax_like((4, 6, 5)).astype(np.int16)
GAPS = ReadOptions(allow_gaps=True)


def warned(image: Any, *words: str) -> None:
    for word in words:
        assert any(word in sentence for sentence in image.warnings), image.warnings


# NIfTI


def nifti(path: Path, affine: np.ndarray, unit: str | None = "mm") -> Any:
    file = nibabel.Nifti1Image(VALUES.transpose(2, 1, 0), affine)
    file.header.set_xyzt_units(unit)
    nibabel.save(file, path)
    return file


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1.0), ("micron", 1e-3), ("meter", 1e3)])
def test_nifti_lengths_are_those_of_simpleitk(tmp_path: Path, unit: str, scale: float) -> None:
    affine = np.diag([-0.7 / scale, -0.6 / scale, 2.0 / scale, 1.0])
    affine[:3, 3] = [10 / scale, -20 / scale, 30 / scale]
    nifti(tmp_path / "a.nii", affine, unit)
    image, other = read_volume(tmp_path / "a.nii"), sitk.ReadImage(str(tmp_path / "a.nii"))
    # Headers hold float32.
    np.testing.assert_allclose(image.voxel_mm[::-1], other.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose((LPS_TO_RAS @ image.affine)[:3, 3], other.GetOrigin(), rtol=1e-6)
    assert image.warnings == ()


def with_header(file: Any, path: Path, change: Any) -> Path:
    """Write a file whose header alone is changed: nibabel brings the maps into agreement while it writes."""
    file.to_filename(path)
    header = nibabel.Nifti1Header.from_fileobj(path.open("rb"))
    change(header)
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])
    return path


def test_nifti_without_a_unit_is_told(tmp_path: Path) -> None:
    nifti(tmp_path / "a.nii", np.diag([-0.7, -0.7, 2, 1.0]), None)
    warned(read_volume(tmp_path / "a.nii"), "no unit of length")


@pytest.mark.parametrize(
    ("sform", "codes", "words"),
    [
        (np.diag([0.7, -0.7, 2, 1.0]), (2, 1), "disagree"),
        (np.diag([-0.7, -0.7, 2, 1.0]), (1, 1), None),
        (np.diag([-0.7, -0.7, 2, 1.0]), (0, 0), "qform_code and sform_code are 0"),
        (np.diag([-0.8, -0.8, 2, 1.0]), (1, 0), "pixdim"),
    ],
)
def test_nifti_maps_that_disagree_are_told(
    tmp_path: Path, sform: np.ndarray, codes: tuple[int, int], words: str | None
) -> None:
    def change(header: Any) -> None:
        header.set_sform(sform, codes[0])
        header.set_qform(np.diag([-0.7, -0.7, 2, 1.0]), codes[1], strip_shears=False)

    file = nifti(tmp_path / "b.nii", np.diag([-0.7, -0.7, 2, 1.0]))
    image = read_volume(with_header(file, tmp_path / "a.nii", change))
    assert image.warnings == () if words is None else any(words in word for word in image.warnings)


@pytest.mark.parametrize(("intent", "name"), [("label", "label"), ("z score", "z score")])
def test_nifti_intents_are_told(tmp_path: Path, intent: str, name: str) -> None:
    file = nifti(tmp_path / "b.nii", np.diag([-0.7, -0.7, 2, 1.0]))
    file.header.set_intent(intent)
    file.to_filename(tmp_path / "a.nii")
    warned(read_volume(tmp_path / "a.nii"), "intent_code", name)


def test_nifti_slope_and_intercept(tmp_path: Path) -> None:
    path = tmp_path / "a.nii"
    with_header(nifti(path, np.diag([-0.7, -0.7, 2, 1.0])), path, lambda head: head.set_slope_inter(0.5, -24))
    np.testing.assert_array_equal(read_volume(path).values, VALUES * 0.5 - 24)


# MetaImage


def metaimage(path: Path, body: bytes | None = None, **keys: str) -> Path:
    z, y, x = VALUES.shape
    header = {"ObjectType": "Image", "NDims": "3", "BinaryData": "True", "BinaryDataByteOrderMSB": "False"}
    header |= {"DimSize": f"{x} {y} {z}", "ElementType": "MET_SHORT", **keys, "ElementDataFile": "LOCAL"}
    text = "".join(f"{key} = {value}\n" for key, value in header.items())
    path.write_bytes(text.encode() + (VALUES.astype("<i2").tobytes() if body is None else body))
    return path


@pytest.mark.parametrize(
    ("keys", "xyz", "words"),
    [
        ({"ElementSpacing": "0.7 0.6 2"}, (0.7, 0.6, 2), ()),
        ({"ElementSize": "0.7 0.6 2"}, (0.7, 0.6, 2), ("ElementSize was taken",)),
        # The box of a voxel is not the distance of voxels, whichever is written last.
        ({"ElementSpacing": "0.7 0.6 2", "ElementSize": "0.7 0.6 1"}, (0.7, 0.6, 2), ()),
        ({"ElementSize": "0.7 0.6 1", "ElementSpacing": "0.7 0.6 2"}, (0.7, 0.6, 2), ()),
        ({"ElementSpacing": "7 6 20", "DistanceUnits": "um"}, (0.007, 0.006, 0.02), ("DistanceUnits",)),
        ({"ElementSpacing": "0.07 0.06 0.2", "DistanceUnits": "cm"}, (0.7, 0.6, 2), ("DistanceUnits",)),
        ({"ElementSpacing": "0.7 0.6 2", "DistanceUnits": "mm"}, (0.7, 0.6, 2), ()),
        ({"ElementSpacing": "0.7 0.6 2", "DistanceUnits": "?"}, (0.7, 0.6, 2), ()),
        ({"ElementSpacing": "0.7 0.6 2", "Modality": "MET_MOD_MR"}, (0.7, 0.6, 2), ("MET_MOD_MR",)),
        ({"ElementSpacing": "0.7 0.6 2", "AnatomicalOrientation": "RAI"}, (0.7, 0.6, 2), ()),
        ({"ElementSpacing": "0.7 0.6 2", "AnatomicalOrientation": "LPI"}, (0.7, 0.6, 2), ("LPI", "RAI")),
        ({"ElementSpacing": "0.7 0.6 2", "AnatomicalOrientation": "???"}, (0.7, 0.6, 2), ()),
    ],
)
def test_metaimage_lengths(
    tmp_path: Path, keys: dict[str, str], xyz: tuple[float, ...], words: tuple[str, ...]
) -> None:
    image = read_volume(metaimage(tmp_path / "a.mha", **keys))
    np.testing.assert_allclose(image.voxel_mm[::-1], xyz, rtol=1e-12)
    np.testing.assert_array_equal(image.values, VALUES)
    warned(image, *words)
    assert bool(image.warnings) == bool(words)


@pytest.mark.parametrize("first", ["Offset", "Position", "Origin"])
def test_metaimage_chooses_among_synonyms_as_simpleitk(tmp_path: Path, first: str) -> None:
    places = {"Offset": "1 2 3", "Position": "4 5 6", "Origin": "7 8 9"}
    others = {name: place for name, place in places.items() if name != first}
    keys = {first: places[first], **others, "ElementSpacing": "1 1 1"}
    path = metaimage(tmp_path / "a.mha", **keys)
    image = read_volume(path)
    expected = sitk.ReadImage(str(path)).GetOrigin()
    np.testing.assert_allclose((LPS_TO_RAS @ image.affine)[:3, 3], expected)


def test_metaimage_intensity_function(tmp_path: Path) -> None:
    keys = {"ElementToIntensityFunctionSlope": "2", "ElementToIntensityFunctionOffset": "-24"}
    image = read_volume(metaimage(tmp_path / "a.mha", ElementSpacing="1 1 1", **keys))
    np.testing.assert_array_equal(image.values, VALUES * 2.0 - 24)
    warned(image, "ElementToIntensityFunction")


@pytest.mark.parametrize("size", [-1, None])
def test_metaimage_whose_values_are_the_last_bytes(tmp_path: Path, size: int | None) -> None:
    path = metaimage(tmp_path / "a.mhd", b"", ElementSpacing="1 1 1")
    skipped = b"some vendor's header"
    (tmp_path / "a.raw").write_bytes(skipped + VALUES.astype("<i2").tobytes())
    text = path.read_text().replace("LOCAL", "a.raw")
    path.write_text(f"HeaderSize = {len(skipped) if size is None else size}\n{text}")
    np.testing.assert_array_equal(read_volume(path).values, VALUES)


def test_metaimage_of_text(tmp_path: Path) -> None:
    words = " ".join(map(str, VALUES.ravel())).encode()
    image = read_volume(metaimage(tmp_path / "a.mha", words, ElementSpacing="1 1 1", BinaryData="False"))
    np.testing.assert_array_equal(image.values, VALUES)


def test_metaimage_big_endian_by_either_name(tmp_path: Path) -> None:
    body = VALUES.astype(">i2").tobytes()
    for key in ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"):
        keys = {"ElementSpacing": "1 1 1", "BinaryDataByteOrderMSB": "True"}
        path = metaimage(tmp_path / "a.mha", body, **keys)
        path.write_bytes(path.read_bytes().replace(b"BinaryDataByteOrderMSB", key.encode()))
        np.testing.assert_array_equal(read_volume(path).values, VALUES)


@pytest.mark.parametrize("turn", ["RAI", "LPS", "SRA", "PIR"])
def test_metaimage_of_simpleitk_contradicts_nothing(tmp_path: Path, turn: str) -> None:
    stack = sitk.GetImageFromArray(VALUES)
    stack.SetSpacing([0.7, 0.6, 2.0])
    sitk.WriteImage(sitk.DICOMOrient(stack, turn), str(tmp_path / "a.mha"))
    assert read_volume(tmp_path / "a.mha").warnings == ()


# NRRD

LPS = {"space": "left-posterior-superior", "space directions": np.diag([0.7, 0.6, 2.0])}


@pytest.mark.parametrize(
    ("fields", "xyz", "words"),
    [
        (LPS, (0.7, 0.6, 2), ()),
        (LPS | {"space units": ["mm", "mm", "mm"]}, (0.7, 0.6, 2), ()),
        (LPS | {"space units": ["um", "um", "um"]}, (7e-4, 6e-4, 2e-3), ()),
        (LPS | {"space units": ["m", "m", "m"]}, (700, 600, 2000), ()),
        (LPS | {"space units": ["microns", "micrometre", "mu"]}, (7e-4, 6e-4, 2e-3), ()),
        ({"spacings": [0.7, 0.6, 2]}, (0.7, 0.6, 2), ("space",)),
        ({"spacings": [7, 6, 0.02], "units": ["um", "um", "mm"]}, (7e-3, 6e-3, 0.02), ("space",)),
        ({"axis mins": [0, 0, 0], "axis maxs": [5, 12, 8]}, (1, 2, 2), ("space",)),
        (
            {"axis mins": [0] * 3, "axis maxs": [4, 10, 6], "centerings": ["node"] * 3},
            (1, 2, 2),
            ("space",),
        ),
        (LPS | {"space": "scanner-xyz"}, (0.7, 0.6, 2), ("scanner-xyz",)),
        (LPS | {"kinds": ["domain", "domain", "list"]}, (0.7, 0.6, 2), ("list",)),
        (LPS | {"kinds": ["space", "space", "space"]}, (0.7, 0.6, 2), ()),
        (LPS | {"sample units": "HU"}, (0.7, 0.6, 2), ()),
        (LPS | {"sample units": "g/cm3"}, (0.7, 0.6, 2), ("g/cm3",)),
        (LPS | {"old min": -1.0, "old max": 1.0}, (0.7, 0.6, 2), ("quantised",)),
    ],
)
def test_nrrd_lengths(
    tmp_path: Path, fields: dict[str, Any], xyz: tuple[float, ...], words: tuple[str, ...]
) -> None:
    nrrd.write(str(tmp_path / "a.nrrd"), VALUES, fields, index_order="C")
    image = read_volume(tmp_path / "a.nrrd")
    np.testing.assert_allclose(image.voxel_mm[::-1], xyz, rtol=1e-12)
    warned(image, *words)
    assert bool(image.warnings) == bool(words)


def test_nrrd_scales_the_origin_with_the_unit(tmp_path: Path) -> None:
    fields = LPS | {"space units": ["um"] * 3, "space origin": [100.0, 200.0, 300.0]}
    nrrd.write(str(tmp_path / "a.nrrd"), VALUES, fields, index_order="C")
    np.testing.assert_allclose(read_volume(tmp_path / "a.nrrd").affine[:3, 3], [-0.1, -0.2, 0.3])


@pytest.mark.parametrize(
    "fields", [LPS | {"space": "3D-left-handed"}, LPS | {"space units": ["s", "mm", "mm"]}]
)
def test_nrrd_that_is_no_space_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    nrrd.write(str(tmp_path / "a.nrrd"), VALUES, fields, index_order="C")
    with pytest.raises(InputError, match="space"):
        read_volume(tmp_path / "a.nrrd")


def test_nrrd_sample_units_state_attenuation(tmp_path: Path) -> None:
    values = np.full((3, 4, 5), 0.02, np.float32)
    nrrd.write(str(tmp_path / "a.nrrd"), values, LPS | {"sample units": "1/mm"}, index_order="C")
    assert read_volume(tmp_path / "a.nrrd").unit == "1/mm"


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
