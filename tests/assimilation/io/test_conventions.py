"""Conventions of other software: WeatherBench-2, calendars, names of axes, projections in and out."""

import numpy as np
import pyproj
import pytest
import xarray as xr

from assimilation.fields import cf
from assimilation.fields.fields import Fields, Grid, Variable
from assimilation.io.archive import write_fields
from assimilation.io.radar.mch import PROJECTION
from assimilation.io.registry import open_stream, read_any_fields
from priors.runtime.errors import InputError

START = np.datetime64("2020-01-01", "ns")
LAEA = "+proj=laea +lat_0=52 +lon_0=10 +x_0=0 +y_0=0 +ellps=GRS80 +units=km"


def weatherbench(times=4, leads=None, members=None, seed=0):
    """Return a dataset as WeatherBench-2 lays it out: longitude before latitude, 0 to 360, levels in the middle."""
    sizes = {
        **({"number": members} if members else {}),
        "time": times,
        **({"prediction_timedelta": leads} if leads else {}),
        "level": 3,
        "longitude": 8,
        "latitude": 5,
    }
    draw = np.random.default_rng(seed).normal(5e4, 1e3, tuple(sizes.values())).astype(np.float32)
    data = xr.Dataset(
        {"geopotential": (tuple(sizes), draw)},
        {
            "time": START + np.arange(times) * np.timedelta64(6, "h"),
            "level": [500, 700, 850],
            "longitude": np.arange(8) * 45.0,
            "latitude": np.linspace(-90, 90, 5),
        },
    )
    data["geopotential"].attrs = {
        "units": "m**2 s**-2",
        "standard_name": "geopotential",
        "long_name": "Geopotential",
    }
    if leads:
        data = data.assign_coords(prediction_timedelta=np.arange(1, leads + 1) * np.timedelta64(6, "h"))
    return data


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_weatherbench_analyses(tmp_path, zarr_format):
    data = weatherbench()
    data.to_zarr(tmp_path / "era5.zarr", zarr_format=zarr_format, consolidated=zarr_format == 2)
    found = read_any_fields(tmp_path / "era5.zarr", "geopotential500")
    assert found.grid.periodic == (False, True)
    expected = data["geopotential"].sel(level=500).transpose("time", "latitude", "longitude").values
    np.testing.assert_array_equal(found.values[0, :, 0], np.roll(expected, 4, axis=-1))
    assert [item.name for item in read_any_fields(tmp_path / "era5.zarr").variables] == [
        "geopotential500",
        "geopotential700",
        "geopotential850",
    ]


def test_weatherbench_forecasts_are_at_their_valid_times(tmp_path):
    data = weatherbench(times=1, leads=3, members=2)
    data.to_zarr(tmp_path / "ens.zarr", zarr_format=2)
    with open_stream(tmp_path / "ens.zarr", "geopotential850") as stream:
        assert stream.members == 2
        np.testing.assert_array_equal(stream.times, START + np.arange(1, 4) * np.timedelta64(6, "h"))
        expected = data["geopotential"].sel(level=850).values[:, 0, 1].transpose(0, 2, 1)
        np.testing.assert_array_equal(stream.read(0, 1)[:, 0], np.roll(expected, 4, axis=-1))
    weatherbench(times=2, leads=2).to_zarr(tmp_path / "two.zarr", zarr_format=2)
    with pytest.raises(InputError, match="lead times overlap"):
        read_any_fields(tmp_path / "two.zarr")


def days(calendar, first="2020-02-27", count=4):
    """Return a dataset with daily times of a calendar, integers since ``first``."""
    data = weatherbench(times=count).isel(level=0, drop=True).drop_vars("time")
    time = xr.Variable("time", np.arange(count), {"units": f"days since {first}", "calendar": calendar})
    return data.assign_coords(time=time)


@pytest.mark.parametrize("calendar", ["standard", "gregorian", "proleptic_gregorian"])
def test_our_calendars(tmp_path, calendar):
    days(calendar).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    found = read_any_fields(tmp_path / "a.nc")
    assert found.times.astype("datetime64[D]").astype(str).tolist() == [
        "2020-02-27",
        "2020-02-28",
        "2020-02-29",
        "2020-03-01",
    ]


@pytest.mark.parametrize("calendar", ["noleap", "365_day"])
def test_a_calendar_without_leap_days_keeps_its_dates(tmp_path, calendar):
    days(calendar).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    found = read_any_fields(tmp_path / "a.nc")
    assert found.times.astype("datetime64[D]").astype(str).tolist() == [
        "2020-02-27",
        "2020-02-28",
        "2020-03-01",
        "2020-03-02",
    ]
    assert "without 29 February" in found.attributes["calendars"]


@pytest.mark.parametrize("calendar", ["360_day", "all_leap", "366_day", "julian"])
def test_calendars_with_other_dates_are_refused(tmp_path, calendar):
    days(calendar).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(InputError, match=f"calendar {calendar}, whose dates are not all dates"):
        read_any_fields(tmp_path / "a.nc")


def test_axes_are_known_by_their_standard_names(tmp_path):
    data = weatherbench().isel(level=0, drop=True)
    for name in ("latitude", "longitude", "time"):
        data[name].attrs["standard_name"] = name
    other = data.rename(latitude="nav_lat", longitude="nav_lon", time="t")
    other.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    data.to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    found, expected = (read_any_fields(tmp_path / name) for name in ("a.nc", "b.nc"))
    np.testing.assert_array_equal(found.values, expected.values)
    assert found.grid.same_as(expected.grid)


def on_a_map(projection):
    grid = Grid(np.arange(3) * 2.0 - 100, np.arange(4) * 2.0 + 50, "plane", "km", projection=projection)
    values = np.random.default_rng(0).normal(size=(1, 2, 1, 3, 4)).astype(np.float32)
    return Fields(values, START + np.arange(2) * np.timedelta64(1, "h"), (Variable("t", "K"),), grid)


@pytest.mark.parametrize("ending", ["nc", "zarr"])
@pytest.mark.parametrize("projection", [LAEA, PROJECTION])
def test_projections_are_written_as_grid_mappings_and_read_back(tmp_path, ending, projection):
    held = on_a_map(projection)
    write_fields(held, tmp_path / f"a.{ending}")
    engine = {"nc": "h5netcdf", "zarr": "zarr"}[ending]
    options = {"consolidated": False} if ending == "zarr" else {}
    with xr.open_dataset(tmp_path / f"a.{ending}", engine=engine, decode_coords=False, **options) as data:
        assert data["t"].attrs["grid_mapping"] == "crs"
        written = pyproj.CRS.from_cf(data["crs"].attrs)
        bare = data.drop_attrs(deep=False).load()
    # What another program reads from the mapping puts the same place at the same coordinates, to a millimetre.
    for crs in (written, pyproj.CRS.from_user_input(projection)):
        place = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(52.0, -98.0)
        assert place == pytest.approx(
            pyproj.Proj(projection)(52.0, -98.0, inverse=True), abs=2e-2 if "towgs84" in projection else 1e-8
        )
    found = read_any_fields(tmp_path / f"a.{ending}")
    assert found.grid.projection == projection
    np.testing.assert_array_equal(found.values, held.values)
    # Without our own attribute the mapping is used.
    bare.to_netcdf(tmp_path / "b.nc", engine="h5netcdf")
    again = read_any_fields(tmp_path / "b.nc").grid
    there = pyproj.Proj(again.projection)(11.0, 51.0)
    assert there == pytest.approx(pyproj.Proj(projection)(11.0, 51.0), abs=1e-6)


def test_a_projection_that_cf_has_no_name_for_stays_a_text(tmp_path):
    projection = "+proj=robin +lon_0=0 +R=6371000 +units=km"
    assert cf.grid_mapping(on_a_map(projection).grid) == {}
    write_fields(on_a_map(projection), tmp_path / "a.nc")
    assert read_any_fields(tmp_path / "a.nc").grid.projection == projection
