"""Input that looks odd and is normal: no rain at all, missing frames, NaN, longitudes of 0 to 360."""

from pathlib import Path

import numpy as np
import pytest
import xarray

from assimilation.fields.fields import Fields, Grid, Variable
from assimilation.io.archive import read_ensemble, write_fields
from tests.support.command_line import inside

RAIN = Variable("rain_rate", "mm/h", "rainfall_rate", 0.0)
START = np.datetime64("2020-06-01", "ns")
TEN_MINUTES = np.timedelta64(600_000_000_000, "ns")


def rain(values: np.ndarray) -> Fields:
    axis = 2.0 * np.arange(values.shape[-1])
    grid = Grid(axis, axis.copy(), "plane", "km")
    return Fields(values, START + TEN_MINUTES * np.arange(values.shape[1]), (RAIN,), grid)


def analyse(truth: Fields, folder: Path, *options: str) -> np.ndarray:
    """Return members of the analysis of half of all cells."""
    write_fields(truth, folder / "truth.nc")
    inside("observe", folder / "truth.nc", "--fraction", 0.5, "--out", folder / "obs.nc", *options)
    words = ("--members", 2, "--lag", 0, "--prior", "radar-rain")
    inside("assimilate", folder / "obs.nc", *words, "--out", folder / "run")
    return read_ensemble(folder / "run").members


def test_no_rain_is_analysed_as_no_rain(tmp_path: Path) -> None:
    members = analyse(rain(np.zeros((1, 2, 1, 32, 32), np.float32)), tmp_path)
    assert members.shape == (1, 2, 2, 1, 32, 32)
    assert np.isfinite(members).all()
    assert members.min() >= 0
    # Errors of 0.1 mm/h are told where a field is constant: the analysis may not rain more than they allow.
    assert members.mean() < 0.1


def test_a_missing_frame_and_missing_cells(tmp_path: Path) -> None:
    y, x = np.meshgrid(np.arange(32.0), np.arange(32.0), indexing="ij")
    shower = 8 * np.exp(-((y - 16) ** 2 + (x - 16) ** 2) / 40).astype(np.float32)
    values = np.repeat(shower[None, None, None], 3, axis=1)
    values[:, 1] = np.nan
    values[:, :, :, :5] = np.nan
    members = analyse(rain(values), tmp_path, "--sigma", "0.2mm/h")
    assert members.shape == (1, 2, 3, 1, 32, 32)
    assert np.isfinite(members).all()
    assert members.min() >= 0
    centre = members[:, :, [0, 2], 0, 14:19, 14:19].mean()
    assert centre == pytest.approx(float(shower[14:19, 14:19].mean()), rel=0.3)


def test_nothing_was_ever_seen(tmp_path: Path) -> None:
    write_fields(rain(np.full((1, 2, 1, 32, 32), np.nan, np.float32)), tmp_path / "truth.nc")
    done = inside("observe", tmp_path / "truth.nc", "--force", "--out", tmp_path / "obs.nc")
    assert "0 observations at 2 times" in done.stderr


def test_longitudes_of_0_to_360_are_the_same_place(tmp_path: Path) -> None:
    latitude, longitude = np.linspace(50, 58, 9), np.linspace(-10.0, 2, 13)
    values = np.random.default_rng(0).standard_normal((3, 9, 13)).astype(np.float32) + 280
    times = START + 6 * TEN_MINUTES * np.arange(3)
    seen = []
    for name, places in (("west", longitude), ("turned", longitude % 360)):
        data = xarray.Dataset(
            {"t2m": (("time", "latitude", "longitude"), values, {"units": "K"})},
            coords={"time": times, "latitude": latitude, "longitude": places},
        ).sortby("longitude")
        data.to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
        inside("observe", tmp_path / f"{name}.nc", "--seed", 2, "--out", tmp_path / f"{name}-obs.csv")
        seen.append((tmp_path / f"{name}-obs.csv").read_text())
    assert seen[0] == seen[1]
