"""ODIM composites: values, times and places of files written as the specification says."""

import numpy as np
import pyproj
import pytest

from assimilation.io.radar.odim import is_odim, read_odim
from assimilation.io.registry import read_any_fields, reader_of
from priors.runtime.errors import InputError
from tests.support.assimilation.odim_file import PROJDEF, SHAPE, attributes, some_counts, write_odim


def test_reflectivity_becomes_rain_and_the_marks_keep_their_meaning(tmp_path):
    counts = some_counts()
    write_odim(tmp_path / "a.h5", counts)
    found = read_any_fields(tmp_path / "a.h5")
    rate = found.values[0, 0, 0]
    assert np.isnan(rate[-1]).all()  # the first row is the northernmost
    assert (rate[-2] == 0).all()
    dbz = -32 + 0.5 * counts[2:].astype(float)
    np.testing.assert_allclose(rate[::-1][2:], (10 ** (dbz / 10) / 200) ** (1 / 1.6), rtol=1e-6)
    assert found.times[0] == np.datetime64("2021-07-14T12:00")
    assert found.variables[0].standard_name == "rainfall_rate"


@pytest.mark.parametrize(("quantity", "factor"), [("RATE", 1.0), ("ACRR", 4.0)])
def test_rates_are_kept_and_accumulations_divided_by_their_time(tmp_path, quantity, factor):
    counts = some_counts()
    write_odim(tmp_path / "a.h5", counts, quantity=quantity, gain=0.1, offset=0.0)
    rate = read_any_fields(tmp_path / "a.h5").values[0, 0, 0][::-1]
    # 11:45 to 12:00 is a quarter of an hour: four times the amount in an hour.
    np.testing.assert_allclose(rate[2:], factor * 0.1 * counts[2:], rtol=1e-6)


def test_the_corner_is_that_of_the_outer_cell(tmp_path):
    write_odim(tmp_path / "a.h5", some_counts())
    grid = read_odim(tmp_path / "a.h5").grid
    assert (grid.y[0], grid.x[0]) == pytest.approx((-1499.0, 1001.0), abs=1e-6)
    assert grid.spacing == pytest.approx((2.0, 2.0), abs=1e-9)
    longitude, latitude = pyproj.Proj(PROJDEF)(1_001_000.0, -1_499_000.0, inverse=True)
    # The PROJ text kept in km finds the same place.
    assert pyproj.Proj(grid.projection)(longitude, latitude) == pytest.approx((grid.x[0], grid.y[0]))


def test_attributes_of_a_lower_group_win(tmp_path):
    def change(file):
        attributes(file["dataset1/what"], gain=7.0, quantity="TH")
        attributes(file["dataset1/data1/what"], gain=0.25)

    counts = some_counts()
    write_odim(tmp_path / "a.h5", counts, quantity="RATE", offset=0.0, change=change)
    rate = read_odim(tmp_path / "a.h5").rate[::-1]
    np.testing.assert_allclose(rate[2:], 0.25 * counts[2:], rtol=1e-6)


def test_a_folder_of_composites_is_a_series(tmp_path):
    for hour in ("130000", "120000", "124500"):
        write_odim(tmp_path / f"T_PAAH21_C_EUOC_20210714{hour}.hdf", some_counts(int(hour)), end=hour)
    found = read_any_fields(tmp_path)
    assert found.values.shape == (1, 3, 1, *SHAPE)
    assert (np.diff(found.times) == np.array([45, 15]) * np.timedelta64(60, "s")).all()
    assert reader_of(tmp_path).kind == "radar composite"


def without(place, name):
    def change(file):
        del file[place].attrs[name]

    return change


REFUSED = {
    "a single radar": ({"kind": "PVOL"}, "object: found 'PVOL', expected a composite"),
    "wind": ({"quantity": "VRADH"}, "quantity: found VRADH, expected one of RATE, ACRR, DBZH"),
    "no time": ({"quantity": "ACRR", "start": "120000"}, "accumulation over 0 h"),
    "no projection": ({"change": without("where", "projdef")}, "projdef"),
    "another size": ({"change": lambda file: file["where"].attrs.modify("xsize", 9)}, "as /where says"),
    "no map": ({"change": lambda file: attributes(file["where"], projdef="+proj=nothing")}, "projdef"),
    "no size": ({"change": lambda file: attributes(file["where"], xscale=0.0)}, "no place on the map"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used(tmp_path, case):
    given, told = REFUSED[case]
    write_odim(tmp_path / "a.h5", some_counts(), **given)
    with pytest.raises(InputError, match=told):
        read_any_fields(tmp_path / "a.h5")


def test_other_hdf5_files_are_not_claimed(tmp_path):
    write_odim(tmp_path / "a.h5", some_counts(), change=lambda file: attributes(file, Conventions="CF-1.8"))
    assert not is_odim(tmp_path / "a.h5")
    (tmp_path / "b.h5").write_bytes(b"no HDF5")
    assert not is_odim(tmp_path / "b.h5")
