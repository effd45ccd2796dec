"""Observation files: written and read again, gridded and as tables, and brought to a coarser state."""

from typing import Literal

import numpy as np
import pandas
import pytest
import torch
import xarray

from assimilation.fields.fields import Fields
from assimilation.fields.grid import Grid, Variable
from assimilation.io.observations.files import write_observations
from assimilation.io.streams import read_observations
from assimilation.observation.instruments import (
    ChannelSubset,
    Coarse,
    Everything,
    Points,
    Swath,
    WindSpeedMeter,
)
from assimilation.observation.observing import Observed, observe
from assimilation.observation.stream import GriddedStream, nearest_time
from assimilation.observation.superobbing import on_coarser_grid, on_steps
from priors.runtime.errors import InputError
from tests.support.assimilation.observations import HOUR, START, WIND, fields, plane, sphere

INSTRUMENTS = [
    Everything(),
    Points(fraction=0.3),
    Coarse(factor=2),
    Swath(fraction=0.3),
    ChannelSubset(variables=("v10",)),
    WindSpeedMeter(fraction=0.5),
]


def assert_same(read, written, state):
    assert read.trajectories == written.trajectories
    np.testing.assert_array_equal(read.times, written.times)
    assert read.variables == written.variables
    assert read.grid.same_as(written.grid)
    for n in range(written.trajectories):
        for frame in range(written.times.size):
            a, b = read.at(n, frame), written.at(n, frame)
            assert (a is None) == (b is None)
            if a is None:
                continue
            order, expected = torch.argsort(a.values), torch.argsort(b.values)
            torch.testing.assert_close(a.values[order], b.values[expected])
            torch.testing.assert_close(a.variance[order], b.variance[expected])
            # Coordinates in files are double, indices single precision: 1e-5 of a cell times slopes of about 10.
            torch.testing.assert_close(
                a.operator(state)[order], b.operator(state)[expected], rtol=1e-4, atol=1e-3
            )


@pytest.mark.parametrize("ending", ["nc", "zarr", "csv", "parquet"])
@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda item: item.name)
def test_a_file_gives_the_observations_back(tmp_path, instrument, ending):
    # Half seconds: a table that cut them off would hold places twice.
    truth = fields(WIND, frames=3, step=np.timedelta64(500_000_000, "ns"))
    observed = observe(truth, instrument, sigma="0.3", seed=0)
    path = tmp_path / f"obs.{ending}"
    if ending in ("csv", "parquet") and instrument.name in ("coarse", "wind-speed"):
        with pytest.raises(InputError, match="table holds"):
            write_observations(observed, path)
        assert not path.exists()
        return
    write_observations(observed, path)
    state = torch.from_numpy(fields(WIND, frames=1, seed=9).values[0, 0])
    assert_same(read_observations(path), GriddedStream(observed), state)


def test_the_file_says_its_error_and_operator(tmp_path):
    write_observations(observe(fields(), Points(), sigma="0.5 1/s", seed=0), tmp_path / "obs.nc")
    with xarray.open_dataset(tmp_path / "obs.nc", engine="h5netcdf") as data:
        assert data["vorticity"].attrs["sigma"] == pytest.approx(0.5)
        assert '"points"' in data.attrs["observation_operator"]
        assert data["vorticity"].dims == ("trajectory", "time", "y", "x")


def test_an_error_for_every_observation(tmp_path):
    observed = observe(fields(), Points(fraction=0.4), sigma="0.3", seed=0)
    sigma = np.random.default_rng(0).uniform(0.1, 2, observed.fields.values.shape).astype(np.float32)
    each = Observed(observed.fields, sigma, observed.instrument, observed.variables, observed.grid)
    write_observations(each, tmp_path / "obs.nc")
    state = torch.zeros(1, 8, 12)
    assert_same(read_observations(tmp_path / "obs.nc"), GriddedStream(each), state)


def foreign_table(**changes):
    """Three stations over the British Isles, as somebody else would write them."""
    table = {
        "time": ["2020-01-01T00:10Z", "2020-01-01T00:50:00", "2020-01-01T02:29"],
        "lat": [51.5, 55.25, 57.0],
        "lon": [0.0, 356.0, -6.5],
        "variable": ["u10", "northward_wind", "u10"],
        "value": [4.0, -2.5, 36.0],
        "sigma": [0.5, 1.0, 3.6],
        "unit": ["m/s", "m s-1", "km/h"],
    }
    return pandas.DataFrame({**table, **changes})


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_foreign_table(tmp_path, ending):
    path = tmp_path / f"stations.{ending}"
    table = foreign_table()
    table.to_csv(path, index=False) if ending == "csv" else table.to_parquet(path)
    stream = read_observations(path, grid=sphere(), variables=WIND, step_s=3600.0)
    np.testing.assert_array_equal(stream.times, START + HOUR * np.arange(3))
    latitude, longitude = np.meshgrid(sphere().y, sphere().x, indexing="ij")
    state = torch.from_numpy(np.stack([latitude + 10 * longitude, longitude]))
    seen = [stream.at(0, index) for index in range(stream.times.size)]
    values = [None if one is None else (one.values.tolist(), one.operator(state).tolist()) for one in seen]
    assert values[0] == ([4.0], pytest.approx([51.5], abs=1e-4))
    assert values[1] == ([-2.5], pytest.approx([-4.0], abs=1e-4))
    assert values[2] == (pytest.approx([10.0]), pytest.approx([57.0 - 65.0], abs=1e-4))
    assert seen[2] is not None
    assert float(seen[2].variance.sqrt()) == pytest.approx(1.0)


def test_places_on_a_map_projection(tmp_path):
    import pyproj

    projection = "+proj=stere +lat_0=90 +lon_0=25 +lat_ts=60 +R=6371288 +units=km"
    x, y = pyproj.Proj(projection)(24.9, 60.2)
    grid = Grid(y + np.arange(-2.0, 3.0), x + np.arange(-3.0, 4.0), "plane", "km", projection=projection)
    table = foreign_table(lat=60.2, lon=24.9).iloc[:1]
    table.to_csv(tmp_path / "gauge.csv", index=False)
    stream = read_observations(tmp_path / "gauge.csv", grid=grid, variables=WIND, step_s=600.0)
    state = torch.zeros(2, 5, 7)
    state[0, 2, 3] = 1.0
    observation = stream.at(0, 0)
    assert observation is not None
    assert float(observation.operator(state)[0]) == pytest.approx(1.0, abs=1e-3)


def test_rows_go_to_the_nearest_time_by_brute_force():
    generator = np.random.default_rng(0)
    times = START + HOUR * np.array([0, 1, 2, 3])
    observed = START + generator.integers(-29, 209, 200) * np.timedelta64(60, "s")
    expected = [int(np.argmin(np.abs(times - time))) for time in observed]
    np.testing.assert_array_equal(nearest_time(observed, times, source="table"), expected)
    for early_or_late in (-31, 211):
        with pytest.raises(InputError, match="within half a step"):
            nearest_time(START + np.array([early_or_late]) * np.timedelta64(60, "s"), times, source="table")


@pytest.mark.parametrize("instrument", [Everything(), Points(fraction=0.4)], ids=lambda item: item.name)
def test_the_mean_of_observations_in_a_coarser_cell(instrument):
    observed = observe(fields(), instrument, sigma="0.5 1/s", seed=0)
    coarse = on_coarser_grid(observed, 2)
    values, sigma = observed.fields.values[1, 2, 0], coarse.sigma[1, 2, 0]
    for i in range(4):
        for j in range(6):
            inside = values[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            inside = inside[np.isfinite(inside)]
            if inside.size == 0:
                assert np.isnan(coarse.fields.values[1, 2, 0, i, j])
                continue
            assert coarse.fields.values[1, 2, 0, i, j] == pytest.approx(inside.mean(), rel=1e-5)
            assert sigma[i, j] == pytest.approx(0.5 / np.sqrt(inside.size), rel=1e-5)
    assert coarse.grid.spacing == (2.0, 2.0)
    assert GriddedStream(coarse).at(1, 2) is not None


def test_block_averages_on_a_coarser_grid_have_fewer_cells():
    observed = observe(fields(), Coarse(factor=4), sigma="0.5 1/s", seed=0)
    coarse = on_coarser_grid(observed, 2)
    assert coarse.instrument == Coarse(factor=2)
    state = torch.from_numpy(np.random.default_rng(1).standard_normal((1, 8, 12)).astype(np.float32))
    means = state.reshape(1, 4, 2, 6, 2).mean(dim=(2, 4))
    fine, rough = GriddedStream(observed).at(0, 0), GriddedStream(coarse).at(0, 0)
    assert fine is not None
    assert rough is not None
    torch.testing.assert_close(rough.operator(means), fine.operator(state))
    with pytest.raises(InputError, match="multiple of 3"):
        on_coarser_grid(observed, 3)


def test_a_finer_step_is_thinned_and_a_table_of_a_finer_grid_is_sampled(tmp_path):
    truth = fields(frames=5, step=HOUR // 2)
    observed = observe(truth, Points(fraction=0.5), sigma="1e-4 s-1", seed=0)
    np.testing.assert_array_equal(on_steps(observed, 3600.0).fields.times, truth.times[::2])
    assert on_steps(observed, 1800.0) is observed
    for ending in ("nc", "csv"):
        path = tmp_path / f"obs.{ending}"
        write_observations(observed, path)
        stream = read_observations(path, step_s=3600.0, spacing=(2.0, 2.0))
        np.testing.assert_array_equal(stream.times, truth.times[::2])
        assert stream.grid.shape == (4, 6)
        observation = stream.at(0, 0)
        assert observation is not None
        assert observation.operator(torch.zeros(1, 4, 6)).shape == observation.values.shape
        # A grid says its spacing; a grid elsewhere is refused where the file says where its values are.
        assert read_observations(path, grid=stream.grid, step_s=3600.0).grid.shape == (4, 6)
    elsewhere = Grid(stream.grid.y + 50, stream.grid.x, "plane", "km")
    with pytest.raises(InputError, match="expected 4 x 6 with spacing 2 km from"):
        read_observations(tmp_path / "obs.nc", grid=elsewhere)


def test_a_file_of_single_precision_coordinates_fits_its_grid(tmp_path):
    grid = Grid(0.1 * np.arange(8), 0.1 * np.arange(12), "plane", "km")
    truth = fields(grid=grid, count=1)
    write_observations(observe(truth, Points(fraction=0.5), sigma="0.1", seed=0), tmp_path / "obs.nc")
    with xarray.open_dataset(tmp_path / "obs.nc", engine="h5netcdf") as data:
        rounded = data.load().assign_coords(y=data.y.astype(np.float32), x=data.x.astype(np.float32))
    rounded.to_netcdf(tmp_path / "single.nc", engine="h5netcdf")
    assert read_observations(tmp_path / "single.nc", grid=grid).at(0, 0) is not None


def test_fields_of_another_program_with_an_error_are_observations(tmp_path):
    truth = fields(count=1, grid=sphere())
    data = truth.to_dataset()
    data["vorticity"].attrs["sigma"] = 0.2
    data.isel(latitude=slice(None, None, -1)).to_netcdf(tmp_path / "obs.nc", engine="h5netcdf")
    observation = read_observations(tmp_path / "obs.nc").at(0, 1)
    assert observation is not None
    np.testing.assert_array_equal(observation.values.numpy(), truth.values[0, 1].ravel())


def test_the_smallest_state_observed_by_one_row(tmp_path):
    table = pandas.DataFrame(
        {"time": ["2020-01-01"], "y": [0.4], "x": [-0.3], "variable": ["u10"], "value": [1.0], "sigma": [1.0]}
    )
    table.to_csv(tmp_path / "one.csv", index=False)
    stream = read_observations(tmp_path / "one.csv", grid=plane(4, 4), variables=WIND, step_s=60.0)
    assert stream.times.size == 1
    # In the outer half of the edge cell the observation is the cell's.
    state = torch.arange(32.0).reshape(2, 4, 4)
    observation = stream.at(0, 0)
    assert observation is not None
    assert float(observation.operator(state)[0]) == pytest.approx(0.4 * 4)


def test_missing_values_in_a_table_are_left_out(tmp_path):
    foreign_table(value=[4.0, np.nan, 36.0]).to_csv(tmp_path / "t.csv", index=False)
    stream = read_observations(tmp_path / "t.csv", grid=sphere(), variables=WIND, step_s=3600.0)
    assert sum(stream.at(0, index) is not None for index in range(stream.times.size)) == 2


class Squared(WindSpeedMeter):
    """An instrument that superobbing knows nothing of."""

    name: Literal["squared"] = "squared"  # type: ignore[assignment]


def test_an_instrument_that_does_not_select_values_is_not_averaged_to_a_coarser_grid():
    axis = np.arange(4.0)
    grid = Grid(axis, axis, "plane", "km")
    variables = (Variable("u", "m s-1", "eastward_wind"), Variable("v", "m s-1", "northward_wind"))
    speed = Fields(
        np.ones((1, 1, 1, 4, 4), np.float32),
        np.array(["2000-01-01"], "datetime64[ns]"),
        (Variable("speed", "m s-1"),),
        grid,
    )
    observed = Observed(speed, np.float32(0.1) * np.ones(1, np.float32), Squared(), variables, grid)
    with pytest.raises(InputError, match="squared: found a grid 2 times finer"):
        on_coarser_grid(observed, 2)
