"""Archives are verified frame by frame: the same scores as in memory, from any chunks, in little memory."""

import tracemalloc

import numpy as np
import pytest
import xarray as xr
from scipy import stats

from assimilation.baselines.climatology import climatology
from assimilation.fields.cf import Described
from assimilation.fields.fields import Ensemble, Fields, Grid, Variable
from assimilation.fields.streams import FieldStream
from assimilation.io.archive import write_ensemble, write_fields
from assimilation.io.registry import open_stream, read_any_fields
from assimilation.verification.aggregation import Region, Table
from assimilation.verification.bootstrap import Row
from assimilation.verification.metrics import CRPS, RMSE
from assimilation.verification.verify import VerifyOptions, verify
from priors.runtime.errors import InputError
from priors.runtime.run_folder.record import to_json
from tests.support.assimilation.pairs import pair, plane
from tests.support.real_data import real_data

START = np.datetime64("2000-01-01", "ns")
RAIN = Variable("rain", "mm/h", "rainfall_rate", 0.0)


def case(*, n=2, m=3, count=12, side=8, truths=None):
    """Return an ensemble, and a truth on a grid twice as fine with missing values and two further times."""
    draw = np.random.default_rng(0)
    coarse = Grid(np.arange(side) + 0.25, np.arange(side) + 0.25, "plane", "km")
    fine = Grid(np.arange(2 * side) * 0.5, np.arange(2 * side) * 0.5, "plane", "km")
    times = START + np.arange(count + 2) * np.timedelta64(1, "h")
    members = np.maximum(draw.normal(0.3, 1.5, (n, m, count, 1, side, side)), 0).astype(np.float32)
    values = np.maximum(draw.normal(0.3, 1.5, (truths or n, count + 2, 1, 2 * side, 2 * side)), 0)
    values[draw.random(values.shape) < 0.1] = np.nan
    ensemble = Ensemble(members, times[1 : count + 1], (RAIN,), coarse)
    return ensemble, Fields(values.astype(np.float32), times, (RAIN,), fine)


@pytest.mark.parametrize("ending", ["nc", "zarr"])
@pytest.mark.parametrize("truths", [2, 1])
def test_streamed_scores_are_those_of_the_whole_arrays(tmp_path, ending, truths):
    ensemble, truth = case(truths=truths)
    write_ensemble(ensemble, tmp_path / f"a.{ending}")
    write_fields(truth, tmp_path / f"t.{ending}")
    options = VerifyOptions(scales=(1, 5), draws=50, regions=(Region("west", (0.0, 8.0), (0.0, 3.0)),))
    held = verify(ensemble, truth, options, climatology=climatology(truth))
    with (
        open_stream(tmp_path / f"a.{ending}") as members,
        open_stream(tmp_path / f"t.{ending}") as actual,
    ):
        streamed = verify(members, actual, options, climatology=climatology(actual))
    assert to_json(streamed) == to_json(held)


@pytest.mark.parametrize("chunk", [1, 5, 12])
def test_chunks_of_several_times_are_read_once(tmp_path, chunk, monkeypatch):
    ensemble, _ = case(n=1)
    data = ensemble.to_dataset()
    data.to_zarr(tmp_path / "a.zarr", encoding={"rain": {"chunks": (3, chunk, 8, 8)}}, consolidated=False)
    reads, read = [], Described.read
    monkeypatch.setattr(Described, "read", lambda self, **given: reads.append(given) or read(self, **given))
    with open_stream(tmp_path / "a.zarr") as stream:
        found = np.stack([stream.read(0, time) for time in range(12)], axis=1)
    np.testing.assert_array_equal(found, ensemble.members[0])
    assert len(reads) == -(-12 // chunk)


def test_units_levels_and_turned_axes_are_brought_to_form_frame_by_frame(tmp_path):
    values = np.random.default_rng(1).normal(0, 10, (4, 2, 3, 5)).astype(np.float32)
    data = xr.Dataset(
        {"t": (("time", "level", "latitude", "longitude"), values, {"units": "degC"})},
        {
            "time": START + np.arange(4) * np.timedelta64(6, "h"),
            "level": [850, 500],
            "latitude": [10.0, 5.0, 0.0],
            "longitude": [0.0, 72.0, 144.0, 216.0, 288.0],
        },
    )
    data["t"].attrs["standard_name"] = "air_temperature"
    data.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    expected = read_any_fields(tmp_path / "a.nc").values
    # 0, 72, 144, 216, 288 degrees east are 3, 4, 0, 1, 2 from -144 on; float32 keeps 273.15 to 3e-5.
    turned = values[:, :, ::-1][..., [3, 4, 0, 1, 2]].astype(np.float64) + 273.15
    np.testing.assert_allclose(expected[0], turned, rtol=1e-7)
    with open_stream(tmp_path / "a.nc") as stream:
        frames = np.stack([stream.read(0, time)[0] for time in range(4)])
    np.testing.assert_array_equal(frames, expected[0])


def test_radar_folders_are_read_file_by_file(tmp_path):
    for name in ("66_20201031_000000.prcp-c10.nc", "66_20201031_001000.prcp-c10.nc"):
        (tmp_path / name).symlink_to(real_data(f"weather/radar_bom66_20201031/{name}").resolve())
    with open_stream(tmp_path) as stream:
        frames = np.stack([stream.read(0, time)[0] for time in (0, 1)])
    np.testing.assert_array_equal(frames, read_any_fields(tmp_path).values[0])


def test_memory_is_that_of_a_few_frames(tmp_path):
    ensemble, _ = case(n=1, m=8, count=48, side=96)  # 14 MB of members, 0.3 MB a frame
    write_ensemble(ensemble, tmp_path / "a.zarr")
    write_fields(ensemble.mean(), tmp_path / "t.zarr")
    del ensemble
    options = VerifyOptions(draws=20, thresholds=(1.0,), scales=(1,))
    with open_stream(tmp_path / "a.zarr") as members, open_stream(tmp_path / "t.zarr") as truth:
        verify(*case(n=1, count=3), options)  # imports and caches
        tracemalloc.start()
        verify(members, truth, options)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # Statistics hold about ten arrays of a frame in double precision; the archive in single precision is 14 MB.
    assert peak < 8e6


def test_a_truth_with_members_is_refused():
    ensemble, _ = case()
    with pytest.raises(InputError, match=r"truth: found the dimension member \(3\)"):
        verify(ensemble, FieldStream.of(ensemble))


@pytest.mark.parametrize(("trajectories", "times"), [(9, 1), (9, 3), (2, 11)])
def test_intervals_are_those_of_drawing_rows(trajectories, times):
    table = Table((*RMSE.statistics, *CRPS.statistics), plane())
    for number, (n, time) in enumerate(np.ndindex(trajectories, times)):
        table.add(Row(n, time, 0), pair(number, missing=0.05 * (number % 3)))
    units = trajectories if trajectories >= 8 else times
    length = 1 if trajectories >= 8 else int(np.ceil(units ** (1 / 3)))
    starts = np.random.default_rng(4).integers(units, size=(50, int(np.ceil(units / length))))
    drawn = []
    for row in starts:
        chosen = [(first + step) % units for first in row for step in range(length)][:units]
        part = Table(table.statistics, plane())
        # Every draw is a table of its own, in which a unit drawn twice stands twice.
        for place, unit in enumerate(chosen):
            for n, time in np.ndindex(trajectories, times):
                if unit == (n if trajectories >= 8 else time):
                    number = n * times + time
                    part.add(Row(n + 100 * place, time, 0), pair(number, missing=0.05 * (number % 3)))
        drawn.append(float(part.score(CRPS)))
    low, high = table.interval(CRPS, seed=4, draws=50)
    count, score = units // length, float(table.score(CRPS))
    widening = np.sqrt(count / (count - 1)) * stats.t(count - 1).ppf(0.975) / stats.norm.ppf(0.975)
    expected = np.maximum(score + widening * (np.quantile(drawn, [0.025, 0.975]) - score), 0)
    assert (low, high) == pytest.approx(expected, rel=1e-10)


def test_a_thinned_stream_keeps_the_ends_and_says_what_it_shows():
    ensemble, _ = case(n=1, count=12)
    stream = FieldStream.of(ensemble)
    frame = 4 * 3 * 8 * 8
    shown = stream.thinned(5 * frame)
    assert shown.times.size == 5
    assert (shown.times[0], shown.times[-1]) == (ensemble.times[0], ensemble.times[-1])
    np.testing.assert_array_equal(shown.read(0, 4), ensemble.members[0, :, 11])
    assert shown.attributes["times_shown"] == "5 of 12, evenly spaced"
    assert stream.thinned(12 * frame) is stream
