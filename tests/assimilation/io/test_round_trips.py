"""What is written is what is read, to the last bit of the format, whatever conventions a file has."""

import shutil
import subprocess

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assimilation.fields.fields import Ensemble, Fields, Grid, Variable
from assimilation.io.archive import write_ensemble, write_fields
from assimilation.io.observations.files import write_observations
from assimilation.io.registry import open_stream, read_any_fields
from assimilation.io.streams import read_observations
from assimilation.observation.instruments import Everything
from assimilation.observation.observing import Observed

START = np.datetime64("2000-02-28T18:00", "ns")
LAEA = "+proj=laea +lat_0=52 +lon_0=10 +x_0=0 +y_0=0 +ellps=GRS80 +units=km"
SLOW = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


def removed(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


@given(
    seed=st.integers(0, 2**16),
    ending=st.sampled_from(["nc", "classic.nc", "zarr2", "zarr3"]),
    members=st.integers(0, 3),
    times=st.integers(1, 4),
    turned=st.booleans(),
    first=st.sampled_from([0.0, -180.0, -90.0, 100.0]),
    order=st.permutations(["time", "latitude", "longitude"]),
    calendar=st.sampled_from(["standard", "proleptic_gregorian", "noleap"]),
    short=st.booleans(),
)
@settings(max_examples=40, **SLOW)
def test_any_conventions_become_the_same_fields(
    tmp_path, seed, ending, members, times, turned, first, order, calendar, short
):
    draw = np.random.default_rng(seed)
    latitude, longitude = np.array([-60.0, -10.0, 40.0]), first + 72.0 * np.arange(5)
    values = draw.normal(280, 10, (max(members, 1), times, 3, 5)).astype(np.float32)
    values[draw.random(values.shape) < 0.2] = np.nan
    names = ("lat", "lon") if short else ("latitude", "longitude")
    data = xr.Dataset(
        {"t": (("number", "time", *names), values, {"units": "K"})},
        {
            "number": np.arange(max(members, 1)),
            "time": (
                "time",
                6 * np.arange(times),
                {"units": "hours since 2000-02-28 18:00", "calendar": calendar},
            ),
            names[0]: (names[0], latitude, {"units": "degrees_north"}),
            names[1]: (names[1], longitude, {"units": "degrees_east"}),
        },
    )
    data = data if members else data.isel(number=0, drop=True)
    data = data.isel({names[0]: slice(None, None, -1)}) if turned else data
    axes = [{"latitude": names[0], "longitude": names[1]}.get(name, name) for name in order]
    data = data.transpose(*axes, ...)
    path = tmp_path / f"a.{ending}"
    if ending.startswith("zarr"):
        data.to_zarr(path, zarr_format=int(ending[-1]), consolidated=False)
    else:
        data.to_netcdf(path, engine="scipy" if "classic" in ending else "h5netcdf")
    with open_stream(path) as stream:
        found = stream.ensemble()
    removed(path)
    places = (longitude + 180) % 360 - 180
    np.testing.assert_array_equal(found.members[0, :, :, 0], values[..., np.argsort(places)])
    np.testing.assert_array_equal(found.grid.x, np.sort(places))
    np.testing.assert_array_equal(found.grid.y, latitude)
    hours = np.array([0, 6, 12, 18][:times])
    leap = np.where((hours >= 6) & (calendar == "noleap"), 24, 0)
    np.testing.assert_array_equal(found.times, START + (hours + leap) * np.timedelta64(1, "h"))


@given(
    seed=st.integers(0, 2**16),
    ending=st.sampled_from(["csv", "parquet", "nc", "zarr"]),
    trajectories=st.integers(1, 2),
    sphere=st.booleans(),
    turn=st.sampled_from([0.0, 360.0]),
    same=st.booleans(),
)
@settings(max_examples=30, **SLOW)
def test_observations_come_back(tmp_path, seed, ending, trajectories, sphere, turn, same):
    draw = np.random.default_rng(seed)
    grid = (
        Grid(np.arange(3) * 0.1 + 50, np.arange(4) * 0.1 - 2, "sphere", "degree")
        if sphere
        else Grid(np.arange(3) * 2.0, np.arange(4) * 2.0, "plane", "km", projection=LAEA)
    )
    variables = (Variable("a", "K"), Variable("b", "m s-1"))
    values = draw.normal(0, 10, (trajectories, 3, 2, 3, 4)).astype(np.float32)
    values[draw.random(values.shape) < 0.5] = np.nan
    values[:, :, 0, 0, 0] = 1.25
    # Kelvin: tables leave out rows that no thermometer can have read.
    values[:, :, 0] += 280
    sigma = (
        np.full(values.shape, 0.1, np.float32)
        if same
        else draw.uniform(0.1, 2, values.shape).astype(np.float32)
    )
    times = START + np.arange(3) * np.timedelta64(3600, "s")
    path = tmp_path / f"o.{ending}"
    write_observations(
        Observed(Fields(values, times, variables, grid), sigma, Everything(), variables, grid), path
    )
    if ending == "csv" and sphere and turn:
        # Longitudes of any turn are the same places.
        lines = path.read_text().splitlines()
        place = lines[1].split(",").index("longitude")
        rows = [line.split(",") for line in lines[2:]]
        for row in rows:
            row[place] = repr(float(row[place]) + turn)
        path.write_text("\n".join([*lines[:2], *map(",".join, rows)]) + "\n")
    stream = read_observations(path)
    for trajectory, time in np.ndindex(trajectories, 3):
        seen = stream.at(trajectory, time)
        expected = values[trajectory, time].ravel()
        kept = np.isfinite(expected)
        # A table's rows are read in the order they were written, which is that of the array.
        np.testing.assert_array_equal(seen.values.numpy(), expected[kept])
        np.testing.assert_allclose(
            seen.variance.numpy(), sigma[trajectory, time].ravel()[kept] ** 2, rtol=1e-6
        )
    removed(path)


def on_a_map():
    return Grid(np.arange(3) * 2.0 - 100, np.arange(4) * 2.0 + 50, "plane", "km", projection=LAEA)


def archives(folder):
    """Write an ensemble on a map and fields on a sphere in both formats; return the paths."""
    times = START + np.arange(5) * np.timedelta64(3600, "s")
    values = np.random.default_rng(0).normal(280, 5, (2, 3, 5, 1, 3, 4)).astype(np.float32)
    sphere = Grid(np.arange(3) * 2.0, np.arange(4) * 2.0, "sphere", "degree")
    paths = []
    for ending in ("nc", "zarr"):
        paths += [folder / f"ensemble.{ending}", folder / f"fields.{ending}"]
        temperature, rain = (
            Variable("t2m", "K", "air_temperature"),
            Variable("rain", "mm/h", "rainfall_rate", 0.0),
        )
        write_ensemble(Ensemble(values, times, (temperature,), on_a_map(), {"title": "a test"}), paths[-2])
        write_fields(Fields(values[0, :1], times, (rain,), sphere, {"title": "a test"}), paths[-1])
    return paths


def test_what_is_written_follows_the_rules_of_cf(tmp_path):
    for path in archives(tmp_path):
        options = {"engine": "zarr", "consolidated": False} if path.is_dir() else {"engine": "h5netcdf"}
        with xr.open_dataset(path, decode_cf=False, **options) as raw:
            assert raw.attrs["Conventions"].startswith("CF-1.")
            for name, item in raw.variables.items():
                if name in raw.dims:
                    assert "_FillValue" not in item.attrs, name  # 2.5.1: none in coordinate variables
                    assert name in ("trajectory",) or item.attrs["units"]  # 3.1
                    assert np.isfinite(item.values).all()
            assert raw["time"].dtype == np.int32
            for name in set(raw.variables) - set(raw.dims) - {"crs"}:
                mapping = raw[name].attrs.get("grid_mapping")
                assert mapping is None or "grid_mapping_name" in raw[mapping].attrs  # 5.6
                assert raw[name].attrs["units"]
        with xr.open_dataset(path, **options) as decoded:
            assert decoded["time"].dtype.kind == "M"
            (name,) = (name for name in decoded.data_vars if name != "crs")
            # What scores of WeatherBench-2 kind expect: named dimensions, one coordinate for each of them.
            assert set(decoded[name].dims) <= {*decoded.coords}
        if "fields" in path.name:
            assert read_any_fields(path).values.dtype == np.float32


@pytest.mark.skipif(shutil.which("compliance-checker") is None, reason="compliance-checker is not installed")
@pytest.mark.parametrize("place", [0, 1])
def test_the_checker_of_ioos_finds_no_error(tmp_path, place):
    path = [path for path in archives(tmp_path) if path.suffix == ".nc"][place]
    command = ["compliance-checker", "-t", "cf:1.8", "-f", "text", str(path)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300).stdout
    assert "IOOS Compliance Checker Report" in told
    assert "Errors" not in told, told
