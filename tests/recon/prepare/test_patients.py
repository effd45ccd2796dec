"""Folders of DICOM and NIfTI: patients are found and kept on one side, and what is not CT in HU is refused."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from priors.runtime.errors import InputError
from priors.training.slices.data import PreparedArrays
from recon.prepare.settings import SliceSettings
from recon.prepare.slices import prepare_slices
from recon.prepare.split import split_patients
from tests.support.recon.series import thorax_like, write_series

LICENCE = {"licence": "internal use only"}


def patient(folder: Path, name: str, *, seed: int, shape=(9, 16, 16), pixel=0.8, scout: bool = False) -> None:
    """Write a series of one patient."""

    def change(i, data):
        data.PatientID = name
        if scout:
            data.ImageType = ["DERIVED", "LOCALIZER"]

    values = thorax_like(shape, seed=seed)
    write_series(folder, values, spacing=(pixel, pixel), step=(0.0, 0.0, 2.0), change=change)


def hospital(folder: Path) -> Path:
    """Three patients: two of DICOM, the first with two series in two folders, one NIfTI volume; and a scout."""
    patient(folder / "a" / "first", "Mueller^A", seed=1, shape=(9, 24, 24))
    patient(folder / "b", "Mueller^A", seed=2, shape=(9, 24, 24))
    patient(folder / "c", "Smith^B", seed=3, shape=(10, 24, 24), pixel=0.7)
    patient(folder / "c" / "scout", "Smith^B", seed=4, shape=(1, 24, 24), scout=True)
    values = thorax_like((12, 24, 24), seed=5)
    # Right-anterior-superior on disk, as many tools write it: rows and columns run the other way than in DICOM.
    affine = np.diag([0.9, 0.9, 2.5, 1.0])
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0)[::-1, ::-1], affine), folder / "third.nii.gz")
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_patients_are_found_and_no_name_is_written(tmp_path):
    source, out = hospital(tmp_path / "in"), tmp_path / "out"
    report = prepare_slices(source, out, SliceSettings(**LICENCE, validation=0.34, seed=1))
    assert sorted(row["slices"] for row in report.series) == [9, 9, 10, 12]
    assert "1 series that are scouts" in report.text()
    owners = {row["slices"]: (row["source"], row["split"]) for row in report.series}
    # Both series of nine slices are of one patient, so they share number and split.
    assert len({row["source"] for row in report.series}) == 3
    assert len(set(owners.values())) == 3
    assert {row["split"] for row in report.series} == {"train", "validation"}
    text = (out / "manifest.yaml").read_text()
    assert "Mueller" not in text
    assert str(tmp_path) not in text
    assert text.count("internal use only") == 4
    assert {item.suffix for item in out.iterdir()} == {".npy", ".yaml"}


def test_the_slices_are_the_values_and_nifti_lies_as_dicom_does(tmp_path):
    prepare_slices(hospital(tmp_path / "in"), tmp_path / "out", SliceSettings(**LICENCE, hold_out=("third",)))
    held = PreparedArrays.load(tmp_path / "out", "validation")
    np.testing.assert_array_equal(held.arrays[0], thorax_like((12, 24, 24), seed=5))
    assert (held.series[0].pixel_mm, held.series[0].dz_mm) == pytest.approx((0.9, 2.5))
    train = PreparedArrays.load(tmp_path / "out", "train")
    nine = next(a for a, s in zip(train.arrays, train.series, strict=True) if len(a) == 10)
    np.testing.assert_array_equal(nine, thorax_like((10, 24, 24), seed=3))


def test_slices_become_block_means(tmp_path):
    prepare_slices(
        hospital(tmp_path / "in"), tmp_path / "out", SliceSettings(**LICENCE, hold_out=("third",), reduce=2)
    )
    held = PreparedArrays.load(tmp_path / "out", "validation")
    values = thorax_like((12, 24, 24), seed=5).reshape(12, 12, 2, 12, 2).astype(np.float64)
    # Rounded to whole HU.
    assert np.abs(held.arrays[0] - values.mean((2, 4))).max() <= 0.5 + 1e-3
    assert held.series[0].pixel_mm == pytest.approx(1.8)


def test_a_range_of_spacings_leaves_series_out_by_number(tmp_path):
    report = prepare_slices(
        hospital(tmp_path / "in"), tmp_path / "out", SliceSettings(**LICENCE, pixel_mm=(0.75, 1.0), seed=3)
    )
    assert [row["slices"] for row in report.series].count(10) == 0
    assert any("pixels of 0.7 mm, expected 0.75 to 1 mm" in sentence for sentence in report.left_out)
    assert "Smith" not in report.text()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hold_out": ("nobody",)}, "hold_out: found no patient called 'nobody'"),
        ({"hold_out": ("third", "Mueller^A", "Smith^B")}, "holds out every patient"),
        ({"min_slices": 11, "hold_out": ("third",)}, "found no usable slices for train"),
    ],
)
def test_a_split_that_cannot_be_is_refused(tmp_path, change, told):
    source = hospital(tmp_path / "in")
    with pytest.raises(InputError, match=told):
        prepare_slices(source, tmp_path / "out", SliceSettings(**LICENCE, **change))
    assert not (tmp_path / "out").exists()


def test_one_patient_cannot_be_split_unless_folders_tell_them_apart(tmp_path):
    for name, seed in (("p1", 1), ("p2", 2)):
        patient(tmp_path / "in" / name, "ANONYMOUS", seed=seed)
    with pytest.raises(InputError, match=r"found 1, expected two at least.*--patients folders"):
        prepare_slices(tmp_path / "in", tmp_path / "out", SliceSettings(**LICENCE))
    report = prepare_slices(tmp_path / "in", tmp_path / "out", SliceSettings(**LICENCE, patients="folders"))
    assert len(report.series) == 2


def test_a_copy_of_a_patient_under_another_name_is_refused(tmp_path):
    patient(tmp_path / "in" / "a", "A", seed=1)
    patient(tmp_path / "in" / "b", "B", seed=1)
    with pytest.raises(InputError, match=r"slice 0 of the .* split is also in"):
        prepare_slices(tmp_path / "in", tmp_path / "out", SliceSettings(**LICENCE))


def test_values_that_are_not_hu_are_refused(tmp_path):
    def forget_intercept(i, data):
        data.PatientID, data.RescaleIntercept = "D", 0

    source = hospital(tmp_path / "in")
    write_series(source / "d", thorax_like((9, 16, 16), seed=6), spacing=(1.0, 1.0), change=forget_intercept)
    with pytest.raises(InputError, match="is the intercept missing"):
        prepare_slices(source, tmp_path / "out", SliceSettings(**LICENCE))
    report = prepare_slices(source, tmp_path / "out", SliceSettings(**LICENCE, skip_unreadable=True))
    assert len(report.series) == 4
    assert any("intercept" in sentence for sentence in report.left_out)


def test_a_mask_beside_the_volumes_is_refused(tmp_path):
    source = hospital(tmp_path / "in")
    mask = (thorax_like((12, 24, 24), seed=6) > 0).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(mask, np.diag([1.0, 1, 2, 1])), source / "mask.nii.gz")
    with pytest.raises(InputError, match=r"mask\.nii\.gz: .* do not look like HU"):
        prepare_slices(source, tmp_path / "out", SliceSettings(**LICENCE))


def test_a_missing_slice_stops_or_is_left_out(tmp_path):
    source = hospital(tmp_path / "in")
    sorted((source / "b").glob("*"))[4].unlink()
    with pytest.raises(InputError, match="is a slice missing"):
        prepare_slices(source, tmp_path / "out", SliceSettings(**LICENCE))
    report = prepare_slices(source, tmp_path / "out", SliceSettings(**LICENCE, skip_unreadable=True))
    assert len(report.series) == 3


def test_zip_archives_are_looked_into(tmp_path):
    for name, seed in (("p1", 1), ("p2", 2)):
        patient(tmp_path / name, name, seed=seed)
        shutil.make_archive(str(tmp_path / "in" / name), "zip", tmp_path / name)
    report = prepare_slices(tmp_path / "in", tmp_path / "out", SliceSettings(**LICENCE))
    assert sorted(row["slices"] for row in report.series) == [9, 9]


@settings(deadline=None, max_examples=50)
@given(
    st.sets(st.text(min_size=1, max_size=8), min_size=2, max_size=30),
    st.integers(0, 99),
    st.floats(0.01, 0.99),
)
def test_every_split_has_both_sides_and_is_stable(patients, seed, share):
    split = split_patients(sorted(patients), share=share, hold_out=(), seed=seed)
    assert set(split.values()) == {"train", "validation"}
    assert split == split_patients(sorted(patients, reverse=True), share=share, hold_out=(), seed=seed)
    held = sum(value == "validation" for value in split.values())
    assert abs(held - share * len(patients)) <= 1
