"""What NIfTI, MetaImage and NRRD files state of lengths, axes and values is used or named; by hand or by SimpleITK."""

from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

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
