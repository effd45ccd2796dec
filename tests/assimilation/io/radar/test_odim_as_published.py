"""ODIM composites as services publish them: what is left out, nominal times, several times, units of the map, marks."""

import h5py
import numpy as np
import pyproj
import pytest

from assimilation.io.radar.frame import RainRelation, rain_rate
from assimilation.io.radar.odim import read_odim
from assimilation.io.registry import read_any_fields, reader_of
from priors.runtime.errors import InputWarning
from tests.support.assimilation.odim_file import PROJDEF, SHAPE, attributes, some_counts, write_odim


def without(*keys):
    def change(file):
        for key in keys:
            group, name = key.rsplit("/", 1)
            del file[group or "/"].attrs[name]

    return change


def floats(values, *keys, **stated):
    """Return a change that replaces the counts by floats and states some attributes."""

    def change(file):
        del file["dataset1/data1/data"]
        file["dataset1/data1/data"] = values
        for key in keys:
            del file["dataset1/data1/what"].attrs[key]
        for key, value in stated.items():
            file["dataset1/data1/what"].attrs[key] = value

    return change


def test_floats_without_gain_offset_nodata_undetect(tmp_path):
    values = np.full(SHAPE, 1.5, "f4")
    values[0], values[1] = np.nan, 0
    change = floats(values, "gain", "offset", "nodata", "undetect")
    write_odim(tmp_path / "a.hdf", some_counts(), quantity="RATE", change=change)
    rate = read_odim(tmp_path / "a.hdf").rate[::-1]
    np.testing.assert_array_equal(rate, values)


@pytest.mark.parametrize(
    ("kind", "nodata", "undetect"),
    [
        ("f4", -9999.9, -8888.8),
        ("f8", -9999.9, -8888.8),
        ("f4", np.nan, -1.0),
        ("i2", -1.0, 0.0),
        ("u2", 65535.0, 65534.0),
    ],
)
def test_marks_are_compared_in_the_type_of_the_data(tmp_path, kind, nodata, undetect):
    values = np.full(SHAPE, 5, kind)
    values[0], values[1] = np.array(nodata).astype(kind), np.array(undetect).astype(kind)
    change = floats(values, nodata=nodata, undetect=undetect)
    write_odim(tmp_path / "a.h5", some_counts(), quantity="RATE", gain=1.0, offset=0.0, change=change)
    rate = read_odim(tmp_path / "a.h5").rate[::-1]
    assert np.isnan(rate[0]).all()
    assert (rate[1] == 0).all()
    assert (rate[2:] == 5).all()


def test_nodata_and_undetect_alike_are_told(tmp_path):
    write_odim(
        tmp_path / "a.h5",
        some_counts(),
        change=lambda file: attributes(file["dataset1/data1/what"], undetect=255.0),
    )
    with pytest.warns(InputWarning, match="nodata and undetect are both 255"):
        read_odim(tmp_path / "a.h5")


def test_a_version_instead_of_conventions(tmp_path):
    write_odim(tmp_path / "a.hdf", some_counts(), change=without("/Conventions"))
    assert reader_of(tmp_path / "a.hdf").kind == "radar composite"
    assert read_any_fields(tmp_path / "a.hdf").variables[0].name == "rain_rate"


@pytest.mark.parametrize("unit", ["", " +units=m", " +units=km"])
def test_the_unit_of_the_map_does_not_move_the_corner(tmp_path, unit):
    words = " ".join(word for word in PROJDEF.split() if not word.startswith("+units"))
    write_odim(
        tmp_path / "a.h5", some_counts(), change=lambda file: attributes(file["where"], projdef=words + unit)
    )
    grid = read_odim(tmp_path / "a.h5").grid
    corner = pyproj.Proj(PROJDEF)(1_000_000.0, -1_500_000.0, inverse=True)
    assert pyproj.Proj(grid.projection)(grid.x[0] - 1, grid.y[0] - 1, inverse=True) == pytest.approx(
        corner, abs=1e-6
    )


def test_a_corner_that_contradicts_the_grid_is_told(tmp_path):
    def corner(x, y):
        longitude, latitude = pyproj.Proj(PROJDEF)(x, y, inverse=True)
        return lambda file: attributes(file["where"], UR_lon=longitude, UR_lat=latitude)

    rows, columns = SHAPE
    right = 1_000_000.0 + 2000 * columns, -1_500_000.0 + 2000 * rows
    write_odim(tmp_path / "a.h5", some_counts(), change=corner(right[0] + 9000, right[1]))
    with pytest.warns(InputWarning, match="upper right corner lies 9 km from"):
        read_odim(tmp_path / "a.h5")


@pytest.mark.parametrize(("end", "told"), [("115927", "120000"), ("120131", "120000"), ("120459", "120459")])
def test_the_nominal_time_holds_where_the_data_wander_about_it(tmp_path, end, told):
    nominal = lambda file: attributes(file["what"], time="120000")  # noqa: E731
    write_odim(tmp_path / "a.h5", some_counts(), end=end, change=nominal)
    expected = np.datetime64(f"2021-07-14T{told[:2]}:{told[2:4]}:{told[4:]}")
    assert read_odim(tmp_path / "a.h5").time == expected


def test_several_times_in_one_file(tmp_path):
    later = some_counts(1)

    def change(file):
        file.copy("dataset1", "dataset2")
        attributes(file["dataset2/what"], starttime="120000", endtime="121500")
        file["dataset2/data1/data"][...] = later

    write_odim(tmp_path / "a.h5", some_counts(), quantity="RATE", gain=0.1, offset=0.0, change=change)
    found = read_any_fields(tmp_path / "a.h5")
    assert [str(time)[11:16] for time in found.times] == ["12:00", "12:15"]
    np.testing.assert_allclose(found.values[0, 1, 0, ::-1][2:], 0.1 * later[2:], rtol=1e-6)


def test_the_relation_of_the_file_and_that_of_the_settings(tmp_path):
    def change(file):
        file["dataset1"].create_group("how")
        attributes(file["dataset1/how"], zr_a=300.0, zr_b=1.4)

    counts = some_counts()
    write_odim(tmp_path / "a.h5", counts, change=change)
    dbz = -32 + 0.5 * counts[2:].astype(float)
    expected = {
        RainRelation(): (10 ** (dbz / 10) / 300) ** (1 / 1.4),
        RainRelation(a=250, b=1.2): (10 ** (dbz / 10) / 250) ** (1 / 1.2),
        RainRelation(hail_cap_dbz=53): (10 ** (np.minimum(dbz, 53) / 10) / 300) ** (1 / 1.4),
    }
    for relation, rate in expected.items():
        np.testing.assert_allclose(read_odim(tmp_path / "a.h5", relation).rate[::-1][2:], rate, rtol=1e-6)
    assert rain_rate(np.array([80.0]), RainRelation(hail_cap_dbz=55)) == rain_rate(np.array([55.0]))


def test_accumulations_of_the_bureau_of_meteorology_under_another_name(tmp_path):
    with h5py.File(tmp_path / "rain.nc", "w") as file:
        file["precipitation"] = np.array([[10, -1], [20, 30]], "i2")
        file["precipitation"].attrs.update(
            {"scale_factor": np.array([0.1]), "_FillValue": np.array([-1], "i2")}
        )
        for name, minute in (("start_time", 0), ("valid_time", 10)):
            file[name] = 1_600_000_000 + 60 * minute
            file[name].attrs["units"] = np.bytes_("seconds since 1970-01-01 00:00:00 UTC")
        for name in ("y", "x"):
            file[name] = np.array([1.0, 2.0])
            file[name].attrs["units"] = np.bytes_("km")
        file["proj"] = 0
        file["proj"].attrs.update(
            {"grid_mapping_name": np.bytes_("albers_conical_equal_area"), "standard_parallel": np.array([-18.0, -36.0]),
             "longitude_of_central_meridian": 145.0, "latitude_of_projection_origin": -32.0}
        )  # fmt: skip
    found = read_any_fields(tmp_path / "rain.nc")
    # 10 minutes: six times the amount in an hour.
    np.testing.assert_allclose(found.values[0, 0, 0], [[6, np.nan], [12, 18]], rtol=1e-6)
