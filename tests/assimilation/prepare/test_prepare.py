"""Preparing trajectories: what training reads is what the files hold, and validation stays out of statistics."""

import numpy as np
import pytest
import xarray as xr
import yaml

from assimilation.fields.fields import Fields
from assimilation.io.archive import write_fields
from assimilation.prepare.settings import EventSource, PrepareSettings
from assimilation.prepare.trajectories import prepare
from priors.runtime.errors import InputError, InputWarning
from priors.training.trajectories.data import Moves, PreparedTrajectories
from tests.support.assimilation.observations import HOUR, RAIN, WIND, fields, plane, sphere
from tests.support.real_data import real_data


def settings(*events, **changes):
    return PrepareSettings(events=tuple(EventSource(**event) for event in events), **changes)


@pytest.fixture
def files(tmp_path):
    write_fields(fields(grid=plane(8, 12), frames=9, step=HOUR // 2), tmp_path / "a.nc")
    write_fields(fields(grid=plane(16, 24, step=0.5), count=1, frames=4, seed=1), tmp_path / "b.nc")
    write_fields(fields(WIND, grid=sphere()), tmp_path / "wind.nc")
    return tmp_path


def test_training_reads_what_was_prepared(files):
    wanted = settings(
        {"path": "a.nc", "split": "train", "share": 2.0, "licence": "CC0"},
        {"path": "b.nc", "split": "validation"},
        step_s=3600.0,
        spacing=1.0,
    )
    prepare(wanted, files / "out", data=files)
    train, validation = (PreparedTrajectories.load(files / "out", split) for split in ("train", "validation"))
    truth = fields(grid=plane(8, 12), frames=9, step=HOUR // 2).values
    np.testing.assert_array_equal(train.arrays[0], truth[:, ::2])
    fine = fields(grid=plane(16, 24, step=0.5), count=1, frames=4, seed=1).values
    np.testing.assert_allclose(
        validation.arrays[0], fine.reshape(1, 4, 1, 8, 2, 12, 2).mean(axis=(4, 6)), rtol=1e-5, atol=1e-6
    )
    assert (train.manifest.step_s, train.manifest.spacings) == (3600.0, (1.0, 1.0))
    assert (train.events[0].share, train.events[0].licence) == (2.0, "CC0")
    told = yaml.safe_load((files / "out" / "statistics.yaml").read_text())["variables"][0]
    assert told["mean"] == pytest.approx(float(truth[:, ::2].mean()), rel=1e-5)
    assert told["standard_deviation"] == pytest.approx(float(truth[:, ::2].std()), rel=1e-5)


def test_parts_of_one_file_and_some_variables(files):
    write_fields(fields(WIND, grid=sphere(), frames=6, count=1), files / "wind.nc")
    wanted = settings(
        {"path": "wind.nc", "split": "train", "stop": "2020-01-01T03:00"},
        {"path": "wind.nc", "split": "validation", "start": "2020-01-01T04:00"},
        variables=("v10",),
    )
    prepare(wanted, files / "out", data=files)
    train, validation = (PreparedTrajectories.load(files / "out", split) for split in ("train", "validation"))
    truth = fields(WIND, grid=sphere(), frames=6, count=1).values
    np.testing.assert_array_equal(train.arrays[0], truth[:, :4, 1:])
    np.testing.assert_array_equal(validation.arrays[0], truth[:, 4:, 1:])
    assert [item.name for item in train.manifest.variables] == ["v10"]


def test_missing_values_and_dry_events_are_normal(tmp_path):
    values = np.zeros((1, 4, 1, 8, 12), np.float32)
    values[:, 2] = np.nan
    times = fields(frames=4).times
    write_fields(Fields(values, times, (RAIN,), plane()), tmp_path / "dry.nc")
    prepare(settings({"path": "dry.nc", "split": "train"}), tmp_path / "out", data=tmp_path)
    array = np.load(tmp_path / "out" / "00-dry-train.npy")
    np.testing.assert_array_equal(array, values)


REFUSED = {
    "no training": ([{"path": "a.nc", "split": "validation"}], {}, "none with split 'train'"),
    "absent": ([{"path": "c.nc", "split": "train"}], {}, "c.nc: does not exist"),
    "another grid": (
        [{"path": "a.nc", "split": "train"}, {"path": "wind.nc", "split": "train"}],
        {},
        "wind.nc: step_s: found 3600.0, expected 1800.0",
    ),
    "another spacing": (
        [{"path": "a.nc", "split": "train"}, {"path": "b.nc", "split": "train"}],
        {"step_s": 3600.0},
        "b.nc: spacing: found 0.5, expected 1.0",
    ),
    "an unknown variable": (
        [{"path": "wind.nc", "split": "train"}],
        {"variables": ("w10",)},
        "wind.nc: variable: found 'w10'",
    ),
    "a step that does not fit": (
        [{"path": "a.nc", "split": "train"}],
        {"step_s": 700.0},
        "found steps of 1800",
    ),
    "a time outside": (
        [{"path": "a.nc", "split": "train", "start": "2021-01-01"}],
        {},
        "expected some within 2021-01-01",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_prepared(files, case):
    events, changes, told = REFUSED[case]
    with pytest.raises(InputError) as refused:
        prepare(settings(*events, **changes), files / "out", data=files)
    assert told in str(refused.value)
    assert not list((files / "out").glob("*"))


def test_era5_as_the_embedded_prior_reads_it(tmp_path):
    pytest.importorskip("cfgrib")
    path = str(real_data("weather/era5_uk_2t_20190301-0322.grib"))
    wanted = settings(
        {"path": path, "split": "train", "stop": "2019-03-18T23:00"},
        {"path": path, "split": "validation", "start": "2019-03-19T00:00"},
    )
    prepare(wanted, tmp_path)
    train, validation = (PreparedTrajectories.load(tmp_path, split) for split in ("train", "validation"))
    assert train.arrays[0].shape == (1, 18 * 24, 1, 33, 49)
    assert validation.arrays[0].shape == (1, 4 * 24, 1, 33, 49)


def test_a_month_of_years_reads_that_month_only(tmp_path):
    # Every frame outside the wanted times is spoilt on disk: reading one would fail.
    held = fields(grid=plane(8, 12), count=1, frames=40, step=HOUR)
    dataset = xr.Dataset(
        {"rain_rate": (("time", "y", "x"), held.values[0, :, 0], {"units": "mm/h"})},
        coords={
            "time": held.times,
            "y": ("y", held.grid.y, {"units": "km", "standard_name": "projection_y_coordinate"}),
            "x": ("x", held.grid.x, {"units": "km", "standard_name": "projection_x_coordinate"}),
        },
    )
    store = tmp_path / "years.zarr"
    dataset.to_zarr(store, encoding={"rain_rate": {"chunks": (1, 8, 12)}}, zarr_format=3, consolidated=False)
    for frame in [*range(10), *range(20, 40)]:
        (store / "rain_rate" / "c" / str(frame) / "0" / "0").write_bytes(b"damaged")
    day = np.datetime_as_string(held.times[[10, 15, 16, 19]], "s")
    wanted = settings(
        {"path": "years.zarr", "split": "train", "start": day[0], "stop": day[1]},
        {"path": "years.zarr", "split": "validation", "start": day[2], "stop": day[3]},
    )
    prepare(wanted, tmp_path / "out", data=tmp_path)
    train, validation = (
        PreparedTrajectories.load(tmp_path / "out", split) for split in ("train", "validation")
    )
    np.testing.assert_array_equal(train.arrays[0], held.values[:, 10:16])
    np.testing.assert_array_equal(validation.arrays[0], held.values[:, 16:20])


def test_arrays_that_outgrow_the_memory_stay_on_disk_and_give_the_same_windows(files, monkeypatch):
    wanted = settings({"path": "a.nc", "split": "train"})
    prepare(wanted, files / "out", data=files)
    held = PreparedTrajectories.load(files / "out", "train")
    monkeypatch.setattr("priors.training.engine.arrays.available_bytes", lambda: 1000)
    mapped = PreparedTrajectories.load(files / "out", "train")
    assert isinstance(mapped.arrays[0], np.memmap)
    windows = [
        data.draw(np.random.default_rng(3), frames=3, size=8, moves=Moves(flip_y=True))
        for data in (held, mapped)
    ]
    np.testing.assert_array_equal(*windows)


def test_times_without_a_frame_are_masked_and_counted(files):
    whole = fields(grid=plane(8, 12), frames=9, step=HOUR // 2)
    kept = [0, 1, 2, 4, 5, 8]
    write_fields(
        Fields(whole.values[:, kept], whole.times[kept], whole.variables, whole.grid), files / "gaps.nc"
    )
    wanted = settings({"path": "gaps.nc", "split": "train"}, step_s=1800.0)
    with pytest.warns(InputWarning, match=r"gaps\.nc: \d+ of \d+ frames have no value"):
        prepare(wanted, files / "gaps", data=files)
    (array,) = PreparedTrajectories.load(files / "gaps", "train").arrays
    missing = ~np.isfinite(array).any(axis=(2, 3, 4))
    assert missing.sum(axis=1).tolist() == [3] * len(array)
