"""Fields of other programs: conventions, units, levels, times; what cannot be read is told."""

import subprocess
import sys

import numpy as np
import pytest
import xarray

from assimilation.io.registry import read_any_fields
from priors.runtime.errors import InputError
from tests.support.assimilation.observations import fields, sphere
from tests.support.real_data import real_data


def dataset(values=None, *, name="t2m", unit="K", standard="air_temperature", **coords):
    shape = {"time": 3, "latitude": 4, "longitude": 6}
    values = np.arange(72.0).reshape(3, 4, 6) if values is None else values
    default = {
        "time": np.datetime64("2020-01-01", "ns") + np.arange(3) * np.timedelta64(1, "h"),
        "latitude": [3.0, 2.0, 1.0, 0.0],
        "longitude": np.arange(6.0),
    }
    data = xarray.Dataset({name: (tuple(shape), values)}, coords={**default, **coords})
    data[name].attrs.update({"units": unit, "standard_name": standard} if unit is not None else {})
    return data


def read(data, tmp_path, variable=None, *, engine="h5netcdf"):
    data.to_netcdf(tmp_path / "data.nc", engine=engine)
    return read_any_fields(tmp_path / "data.nc", variable)


def test_degrees_celsius_become_kelvin_and_south_comes_first(tmp_path):
    found = read(dataset(unit="degC"), tmp_path)
    assert found.variables[0].unit == "K"
    assert found.values[0, 0, 0, -1, 0] == pytest.approx(273.15)
    assert found.grid.y[0] == 0.0


def test_longitudes_of_0_to_360(tmp_path):
    found = read(dataset(longitude=np.array([0.0, 60, 120, 180, 240, 300])), tmp_path)
    np.testing.assert_allclose(found.grid.x, [-180, -120, -60, 0, 60, 120])
    assert found.grid.periodic == (False, True)
    assert found.values[0, 0, 0, -1].tolist() == [3, 4, 5, 0, 1, 2]


def test_the_old_format_of_netcdf(tmp_path):
    assert read(dataset(), tmp_path, engine="scipy").values.shape == (1, 3, 1, 4, 6)


def test_a_zarr_folder(tmp_path):
    dataset().to_zarr(tmp_path / "data.zarr")
    assert read_any_fields(tmp_path / "data.zarr").values.shape == (1, 3, 1, 4, 6)


def test_rain_in_metres_per_second(tmp_path):
    found = read(dataset(name="pr", unit="kg m-2 s-1", standard="precipitation_flux"), tmp_path)
    assert found.variables[0].unit == "mm/h"
    assert found.variables[0].minimum == 0
    assert found.values[0, 0, 0, -1, 1] == pytest.approx(3600.0)


def test_one_of_several_variables(tmp_path):
    both = dataset().merge(dataset(name="other", unit="1", standard="x"))
    assert [item.name for item in read(both, tmp_path, "other").variables] == ["other"]
    with pytest.raises(InputError, match="'rain', expected one of t2m, other"):
        read(both, tmp_path, "rain")


def test_levels_become_variables(tmp_path):
    data = xarray.concat([dataset(), 2 * dataset()], dim="level").assign_coords(level=[850, 500])
    data["t2m"].attrs["units"] = "K"
    found = read(data, tmp_path)
    assert [item.name for item in found.variables] == ["t2m850", "t2m500"]
    np.testing.assert_array_equal(2 * found.values[:, :, 0], found.values[:, :, 1])


CALENDAR = xarray.Variable("time", np.arange(3.0), {"units": "days since 2000-01-01", "calendar": "360_day"})
REFUSED = {
    "a calendar of 360 days": (lambda: dataset(time=CALENDAR), "calendar 360_day"),
    "no unit": (lambda: dataset(unit=None), "no attribute units"),
    "a unit of something else": (
        lambda: dataset(unit="kg"),
        "found unit 'kg', expected one that converts to 'K'",
    ),
    "an unknown unit": (lambda: dataset(unit="bananas"), "found unit 'bananas'"),
    "unsorted times": (
        lambda: dataset(time=np.array(["2020-01-02", "2020-01-01", "2020-01-03"], "datetime64[ns]")),
        "strictly ascending times",
    ),
    "times without unit": (lambda: dataset(time=np.arange(3.0)), "expected CF times"),
    "no horizontal grid": (lambda: dataset().isel(longitude=0), "expected time, latitude, longitude"),
    "members": (
        lambda: xarray.concat([dataset(), dataset()], dim="number").assign_coords(number=[0, 1]),
        "found the dimension member (2)",
    ),
    "another dimension": (
        lambda: xarray.concat([dataset(), dataset()], dim="band").assign_coords(band=[0, 1]),
        "dimension band: found 2",
    ),
    "latitude twice": (lambda: dataset(latitude=[1.0, 1.0, 2.0, 3.0]), "strictly ascending"),
    "a latitude of 100": (lambda: dataset(latitude=[100.0, 90.0, 80.0, 70.0]), "latitude"),
    "NaN coordinates": (lambda: dataset(longitude=[0.0, np.nan, 2, 3, 4, 5]), "finite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used(tmp_path, case):
    make, told = REFUSED[case]
    with pytest.raises(InputError) as refused:
        read(make(), tmp_path)
    assert told in str(refused.value)
    assert "data.nc" in str(refused.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"hello, world", "unknown kind of file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "damaged or truncated"),
        (b"CDF\x01" + bytes(10), "damaged or truncated"),
        (b"GRIB" + bytes(40), "GRIB"),
    ],
)
def test_damaged_files(tmp_path, content, told):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match=told):
        read_any_fields(tmp_path / "file")


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(InputError, match="folder without known files"):
        read_any_fields(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        read_any_fields(tmp_path / "absent.nc")


def test_our_own_files_stay_as_they_are(tmp_path):
    from assimilation.io.archive import write_fields

    for truth in (fields(), fields(grid=sphere())):
        write_fields(truth, tmp_path / "own.nc")
        found = read_any_fields(tmp_path / "own.nc")
        np.testing.assert_array_equal(found.values, truth.values)
        assert found.variables == truth.variables
        assert found.grid.same_as(truth.grid)
        assert (found.grid.unit, found.grid.periodic) == (truth.grid.unit, truth.grid.periodic)


def test_era5_from_grib():
    pytest.importorskip("cfgrib")
    found = read_any_fields(real_data("weather/era5_uk_2t_20190301-0322.grib"))
    assert found.values.shape == (1, 528, 1, 33, 49)
    assert (found.variables[0].name, found.variables[0].unit) == ("t2m", "K")
    assert (np.diff(found.times) == np.timedelta64(1, "h")).all()
    assert (found.grid.y[0], found.grid.y[-1], found.grid.x[0], found.grid.x[-1]) == (50, 58, -10, 2)
    assert 265 < float(found.values.min()) < float(found.values.max()) < 295


def test_members_and_levels_from_grib():
    pytest.importorskip("cfgrib")
    with pytest.raises(InputError, match=r"dimension member \(10\)"):
        read_any_fields(real_data("weather/era5_eda_members_z_t_20170101.grib"))


def test_one_level_of_one_member_from_grib(tmp_path):
    cfgrib = pytest.importorskip("cfgrib")
    source = real_data("weather/era5_levels_europe_20160207.grib")
    (member,) = cfgrib.open_datasets(
        str(source), backend_kwargs={"indexpath": "", "filter_by_keys": {"number": 0}}
    )
    # The control member's messages alone: every one begins with GRIB and tells its length.
    import eccodes

    with source.open("rb") as stream, (tmp_path / "control.grib").open("wb") as out:
        while (message := eccodes.codes_grib_new_from_file(stream)) is not None:
            if eccodes.codes_get(message, "number") == 0:
                eccodes.codes_write(message, out)
            eccodes.codes_release(message)
    found = read_any_fields(tmp_path / "control.grib", "t500")
    assert [item.name for item in found.variables] == ["t500"]
    # Lead times of 0 and 3 h from two starts are four valid times.
    assert found.times.size == 4
    expected = member["t"].sel(isobaricInhPa=500).values.reshape(4, *found.grid.shape)
    np.testing.assert_array_equal(found.values[0, :, 0], expected[:, ::-1])
    with pytest.raises(InputError, match="'t700', expected one of t50, u50, v50"):
        read_any_fields(tmp_path / "control.grib", "t700")


def test_a_truncated_grib_file(tmp_path):
    pytest.importorskip("cfgrib")
    whole = real_data("weather/era5_uk_2t_20190301-0322.grib").read_bytes()
    (tmp_path / "cut.grib").write_bytes(whole[:5000])
    with pytest.raises(InputError, match=r"cut\.grib: is a truncated GRIB file \(message 2"):
        read_any_fields(tmp_path / "cut.grib")
    (tmp_path / "cut.grib").write_bytes(whole[:3342] + b"garbage, no message")
    with pytest.raises(InputError, match="GRIB file"):
        read_any_fields(tmp_path / "cut.grib")


def test_the_interpreter_ends_well_after_grib_and_projections():
    """Two copies of libproj in one process ended it with an abort; only a process of its own can tell."""
    pytest.importorskip("cfgrib")
    path = real_data("weather/era5_uk_2t_20190301-0322.grib")
    program = (
        "import sys; from pathlib import Path; from assimilation.io.registry import read_any_fields;"
        "read_any_fields(Path(sys.argv[1])); import pyproj; pyproj.Proj('+proj=stere +lat_0=90')(1, 2)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-500:]


def test_a_model_on_a_map_projection():
    found = read_any_fields(real_data("weather/arome_metcoop_wind_20160114.nc"))
    assert found.grid.unit == "km"
    assert found.grid.spacing == pytest.approx((2.5, 2.5), rel=1e-4)
    assert "+proj=lcc" in found.grid.projection
    assert [item.standard_name for item in found.variables] == ["x_wind", "y_wind"]
    with xarray.open_dataset(real_data("weather/arome_metcoop_wind_20160114.nc"), engine="h5netcdf") as data:
        import pyproj

        x, y = pyproj.Proj(found.grid.projection)(float(data.longitude[5, 9]), float(data.latitude[5, 9]))
    assert (found.grid.x[9], found.grid.y[5]) == pytest.approx((x, y), abs=0.1)


def test_stations_are_no_fields():
    with pytest.raises(InputError, match="location"):
        read_any_fields(real_data("weather/era5_daily_surface_cancities_1990-1993.nc"))


def test_a_global_file_of_the_old_format_with_levels():
    found = read_any_fields(real_data("weather/era5_tl31_19590102T00.nc"), "geopotential500")
    assert found.values.shape == (1, 1, 1, 32, 64)
    assert found.grid.periodic == (False, True)
    assert (found.grid.x.min(), found.grid.y[0] < 0) == (-180.0, True)
