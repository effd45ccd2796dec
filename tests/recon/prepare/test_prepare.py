"""Preparing CT slices: what training reads is what was on disk, and bad tables are one clear line."""

import io
import lzma

import numpy as np
import pytest

from priors.runtime.errors import InputError
from priors.training.slices.data import PreparedArrays
from recon.prepare.settings import SliceSettings
from recon.prepare.slices import prepare_slices

HEADER = "path,split,pixel_mm\n"


def source(tmp_path, rows="train/a.npy.xz,train,1.5\nvalidation/b.npy,validation,1.2\n"):
    folder = tmp_path / "slices"
    values = np.random.default_rng(0).integers(-1024, 1500, (3, 16, 16)).astype(np.int16)
    for name in ("train", "validation"):
        (folder / name).mkdir(parents=True)
    stream = io.BytesIO()
    np.save(stream, values)
    (folder / "train" / "a.npy.xz").write_bytes(lzma.compress(stream.getvalue()))
    np.save(folder / "validation" / "b.npy", values + 1)
    (folder / "MANIFEST.csv").write_text(HEADER + rows)
    return folder, values


def test_prepared_slices_are_the_slices(tmp_path):
    folder, values = source(tmp_path)
    report = prepare_slices(folder, tmp_path / "out", SliceSettings(licence="CC-BY-4.0", phantoms=2))
    assert [item["split"] for item in report.series] == ["train", "validation", "train"]
    train = PreparedArrays.load(tmp_path / "out", "train")
    np.testing.assert_array_equal(train.arrays[0], values)
    assert train.arrays[1].shape == (2, 256, 256)
    assert train.series[0].pixel_mm == 1.5
    held_out = PreparedArrays.load(tmp_path / "out", "validation")
    np.testing.assert_array_equal(held_out.arrays[0], values + 1)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("train/a.npy.xz,test,1.5\n", "found split 'test'"),
        ("train/a.npy.xz,train,-1\n", "pixel_mm '-1'"),
        ("train/a.npy.xz,train\n", "a row has no pixel_mm"),
        ("train/absent.npy,train,1\n", "absent.npy: cannot be read"),
    ],
)
def test_a_bad_table_is_refused(tmp_path, rows, told):
    folder, _ = source(tmp_path, rows)
    with pytest.raises(InputError, match=told):
        prepare_slices(folder, tmp_path / "out", SliceSettings(licence="CC0"))
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_table_or_a_series_is_refused(tmp_path):
    with pytest.raises(InputError, match="found no CT series"):
        prepare_slices(tmp_path, tmp_path / "out", SliceSettings(licence="CC0"))


def test_files_of_one_name_in_two_splits_stay_two(tmp_path):
    # Before, both were written to p1.npy: the held-out slices were trained on.
    folder, values = source(tmp_path, "train/p1.npy,train,1.5\nvalidation/p1.npy,validation,1.5\n")
    np.save(folder / "train" / "p1.npy", values)
    np.save(folder / "validation" / "p1.npy", values[::-1] + 7)
    prepare_slices(folder, tmp_path / "out", SliceSettings(licence="CC0"))
    for split, expected in (("train", values), ("validation", values[::-1] + 7)):
        found = PreparedArrays.load(tmp_path / "out", split)
        np.testing.assert_array_equal(found.arrays[0], expected)


def test_the_same_slice_in_both_splits_is_refused(tmp_path):
    folder, values = source(tmp_path)
    other = values + 1
    other[2] = values[0]
    np.save(folder / "validation" / "b.npy", other)
    with pytest.raises(InputError, match=r"validation/b\.npy: slice 2 .* is also in train/a\.npy\.xz"):
        prepare_slices(folder, tmp_path / "out", SliceSettings(licence="CC0"))
    assert not (tmp_path / "out").exists()
