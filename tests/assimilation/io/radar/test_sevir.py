"""SEVIR: one event of a file with its catalogue, in the documented layout."""

import h5py
import numpy as np
import pytest

from assimilation.inspect.files import inspect_file
from assimilation.io.radar.sevir import table
from assimilation.io.registry import open_stream, read_any_fields
from priors.runtime.errors import InputError
from tests.support.assimilation.sevir_file import FRAMES, SIDE, write_sevir


def test_bytes_become_kilograms_and_255_is_missing():
    values = table()
    assert values[[0, 5]].tolist() == [0, 0]
    np.testing.assert_allclose(values[[6, 18]], [4 / 90.66, 16 / 90.66], rtol=1e-6)
    np.testing.assert_allclose(
        values[[19, 254]], np.exp([(19 - 83.9) / 38.9, (254 - 83.9) / 38.9]), rtol=1e-6
    )
    assert np.isnan(values[255])
    # The branches meet within a step of the bytes, and the order of bytes is that of the values.
    assert (np.diff(values[5:255]) > 0).all()


def test_an_event_has_its_own_place_and_times(tmp_path):
    path, counts = write_sevir(tmp_path)
    found = read_any_fields(path / "S2")
    assert found.values.shape == (1, FRAMES, 1, SIDE, SIDE)
    np.testing.assert_array_equal(found.values[0, :, 0], table()[np.moveaxis(counts[1], -1, 0)])
    assert found.times[0] == np.datetime64("2019-06-02T20:20")
    assert (np.diff(found.times) == np.timedelta64(300, "s")).all()
    # Corner (1, -50) km and cells of 1 km; the catalogue's degrees have some fifteen digits.
    assert (found.grid.x[0], found.grid.y[0]) == pytest.approx((1.5, -49.5), abs=1e-6)
    assert found.variables[0].unit == "kg m-2"


def test_frames_are_read_one_by_one(tmp_path):
    path, counts = write_sevir(tmp_path, ("S9",))
    with open_stream(path) as stream:
        np.testing.assert_array_equal(stream.read(0, 3)[0, 0], table()[counts[0, :, :, 3]])
    assert inspect_file(path).facts["format"] == "SEVIR"


def damage(path, change):
    with h5py.File(path, "a") as file:
        change(file)


def test_what_cannot_be_used(tmp_path):
    path, _ = write_sevir(tmp_path)
    catalogue = tmp_path / "CATALOG.csv"
    whole = catalogue.read_text()
    with pytest.raises(InputError, match=r"found 2 events \(S1, S2\), expected one"):
        read_any_fields(path)
    with pytest.raises(InputError, match="no event 'S3'"):
        read_any_fields(path / "S3")
    for old, new, told in (
        ("-10:-5:0:5:10", "-10:-5:0:5", "found 4 times, expected 5 frames"),
        ("-10:-5:0:5:10", "10:5:0:-5:-10", "ascending minutes"),
        ("-10:-5:0:5:10", "a:b", "time that cannot be read"),
        (",proj,", ",projection,", "no column proj"),
        (",vil,", ",vis,", "no vil image of the event 'S1'"),
        ("+proj=laea", "+proj=none", "place that cannot be used"),
    ):
        catalogue.write_text(whole.replace(old, new))
        with pytest.raises(InputError, match=told):
            read_any_fields(path / "S1")
    catalogue.unlink()
    with pytest.raises(InputError, match=r"found no CATALOG\.csv"):
        read_any_fields(path / "S1")
    damage(path, lambda file: file.move("vil", "other") or file.create_dataset("vil", data=np.zeros(3)))
    with pytest.raises(InputError, match="vil: found the shape"):
        read_any_fields(path / "S1")
