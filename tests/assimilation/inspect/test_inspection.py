"""`inspect` on fields and observations: every real file is described, or refused with the reason."""

import numpy as np
import pytest

from assimilation.fields.fields import Ensemble, Fields, Grid, Variable
from assimilation.inspect.files import claims, inspect_file
from assimilation.io.archive import write_ensemble, write_fields
from priors.runtime.errors import InputError
from tests.support.command_line import inside
from tests.support.real_data import real_data

START = np.datetime64("2020-01-01", "ns")
WEATHER = {
    "arome_metcoop_wind_20160114.nc": ("fields", "3 x 2 x 151 x 141 (time, variable, y, x)"),
    "era5_eda_members_z_t_20170101.grib": (
        "ensemble",
        "10 x 4 x 4 x 61 x 120 (member, time, variable, latitude, longitude)",
    ),
    "era5_levels_europe_20160207.grib": (
        "ensemble",
        "2 x 4 x 9 x 42 x 73 (member, time, variable, latitude, longitude)",
    ),
    "era5_tl31_19590102T00.nc": ("fields", "1 x 261 x 32 x 64 (time, variable, latitude, longitude)"),
    "era5_uk_2t_20190301-0322.grib": ("fields", "528 x 1 x 33 x 49 (time, variable, latitude, longitude)"),
}
RADAR = {
    "radar_bom66_20201031": "512 x 512",
    "radar_fmi_20160928": "1226 x 760",
    "radar_knmi_20100826": "765 x 700",
    "radar_mch_20150515": "640 x 710",
    "radar_mch_20160711": "640 x 710",
}


@pytest.mark.parametrize("name", WEATHER)
def test_every_file_of_the_weather_data_is_described(name):
    path = real_data(f"weather/{name}")
    if name.endswith("grib"):
        pytest.importorskip("cfgrib")
    assert claims(path)
    found = inspect_file(path)
    assert (found.kind, found.facts["shape"]) == WEATHER[name]
    assert "km" in found.facts.get("x", "km")
    assert " .. " in found.facts["times"] or found.facts["shape"].startswith("1 x")


def test_stations_are_refused_with_the_reason():
    with pytest.raises(InputError, match=r"series at 5 places.*belong into a table"):
        inspect_file(real_data("weather/era5_daily_surface_cancities_1990-1993.nc"))


@pytest.mark.parametrize("name", RADAR)
def test_every_radar_folder_and_file_is_described(name, tmp_path):
    files = sorted(real_data(f"weather/{name}").iterdir())[:2]
    for file in files:
        (tmp_path / file.name).symlink_to(file.resolve())
    assert inspect_file(files[0]).facts["shape"] == f"1 x 1 x {RADAR[name]} (time, variable, y, x)"
    found = inspect_file(tmp_path)
    assert found.facts["shape"] == f"2 x 1 x {RADAR[name]} (time, variable, y, x)"
    assert found.facts["rain_rate"].startswith("0 .. ")
    assert "+proj" in found.facts["projection"]
    assert not found.warnings


def fields(values, *, variable=None, times=None):
    variable = variable or Variable("t2m", "K", "air_temperature")
    times = START + np.arange(len(values)) * np.timedelta64(1, "h") if times is None else times
    grid = Grid(np.arange(4.0), np.arange(5.0), "sphere", "degree")
    return Fields(np.asarray(values, np.float32)[None, :, None], times, (variable,), grid)


def described(held, path):
    write_fields(held, path)
    return inspect_file(path)


def test_range_mean_and_missing_share_are_those_of_the_array(tmp_path):
    values = np.random.default_rng(0).normal(280, 5, (6, 4, 5))
    values[2, :2] = np.nan
    found = described(fields(values), tmp_path / "a.nc")
    held = values.astype(np.float32)
    expected = (
        f"{np.nanmin(held):.5g} .. {np.nanmax(held):.5g} K, mean {np.nanmean(held.astype(float)):.5g}, "
        f"{100 * 10 / 120:.3g} % missing (air_temperature)"
    )
    assert found.facts["t2m"] == expected
    assert found.facts["step"] == "3600 s"
    assert not found.warnings


SUSPECT = {
    "is the unit right": lambda: fields(np.linspace(5, 30, 60).reshape(3, 4, 5)),
    "1 of 3 frames have no value": lambda: fields(
        np.concatenate([np.linspace(270, 280, 40).reshape(2, 4, 5), np.full((1, 4, 5), np.nan)])
    ),
    "every value is missing": lambda: fields(np.full((2, 4, 5), np.nan)),
    "one value everywhere: t2m": lambda: fields(np.full((2, 4, 5), 280.0)),
    "about 3 times are missing": lambda: fields(
        np.linspace(270, 280, 60).reshape(3, 4, 5), times=START + np.array([0, 1, 5]) * np.timedelta64(1, "h")
    ),
    "below its least value 0": lambda: fields(
        np.linspace(-1, 3, 60).reshape(3, 4, 5), variable=Variable("q", "1", "specific_humidity")
    ),
}


@pytest.mark.parametrize("told", SUSPECT)
def test_what_looks_wrong_is_told(told, tmp_path):
    assert any(told in sentence for sentence in described(SUSPECT[told](), tmp_path / "a.zarr").warnings)


def test_large_archives_are_looked_at_in_part(tmp_path, monkeypatch):
    monkeypatch.setattr("assimilation.inspect.files.BUDGET", 4 * 20 * 3)
    found = described(fields(np.linspace(270, 280, 200).reshape(10, 4, 5)), tmp_path / "a.nc")
    assert found.facts["looked at"] == "3 of 10 frames, evenly spaced"
    assert found.facts["t2m"].startswith("270 .. 280 K")


def test_an_ensemble_and_observations_say_what_they_are(tmp_path):
    one = fields(np.random.default_rng(0).normal(280, 5, (3, 4, 5)))
    write_ensemble(
        Ensemble(np.stack([one.values, one.values], 1), one.times, one.variables, one.grid), tmp_path / "a.nc"
    )
    assert inspect_file(tmp_path / "a.nc").facts["shape"].startswith("2 x 3 x 1 x 4 x 5 (member, time")
    write_fields(one, tmp_path / "truth.nc")
    for ending in ("nc", "csv", "parquet"):
        inside(
            "observe",
            tmp_path / "truth.nc",
            "--sigma",
            "0.5K",
            "--fraction",
            0.5,
            "--out",
            tmp_path / f"o.{ending}",
        )
    gridded = inspect_file(tmp_path / "o.nc")
    assert gridded.kind == "observations on a grid"
    assert gridded.facts["sigma"] == "t2m 0.5"
    for ending in ("csv", "parquet"):
        told = inside("inspect", tmp_path / f"o.{ending}").stdout
        assert "observations in a table" in told
        assert "sigma 0.5 .. 0.5" in told


def test_tables_with_faults_are_told(tmp_path):
    rows = ["time,latitude,longitude,variable,value,sigma,unit"]
    rows += ["2020-01-01T00:00:00,1,2,t2m,280,0.5,K"] * 2 + ["2020-01-01T01:00:00,95,2,t2m,,-1,K"]
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n")
    found = inspect_file(tmp_path / "a.csv")
    assert len(found.warnings) == 3
    assert found.facts["t2m"].startswith("280 .. 280 K, sigma -1 .. 0.5, 33.3 % missing, 3 rows")
    (tmp_path / "a.csv").write_text("\n".join(rows).replace("280", "warm") + "\n")
    with pytest.raises(InputError, match="value: found a text that is no number"):
        inspect_file(tmp_path / "a.csv")
