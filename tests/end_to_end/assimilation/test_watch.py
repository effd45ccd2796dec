"""A folder that is written into as radar services do: late, damaged and lost frames, and a program that is stopped."""

import numpy as np
import pytest

from assimilation.fields.fields import Fields, Grid, Variable
from assimilation.io.archive import read_ensemble, write_fields
from assimilation.run.settings import ForecastSettings
from assimilation.run.watch.loop import Watch, WatchOptions
from priors.runtime.errors import InputError
from tests.support.command_line import inside, mistake

SIZE, START = 24, np.datetime64("2020-06-01T12:00", "ns")
STEP = np.timedelta64(600, "s")
SETTINGS = ForecastSettings(prior="radar-rain", frames=1, members=2)


def write_frame(folder, number: int) -> None:
    y, x = np.mgrid[:SIZE, :SIZE]
    rain = 12 * np.exp(-((y - 12) ** 2 + (x - 6 - number) ** 2) / 20)
    axis = 2.0 * np.arange(SIZE)
    variables = (Variable("rain_rate", "mm/h", "rainfall_rate", 0.0),)
    values = rain[None, None, None].astype(np.float32)
    times = np.array([START + number * STEP])
    write_fields(
        Fields(values, times, variables, Grid(axis, axis, "plane", "km")), folder / f"{number:02d}.nc"
    )


def truncate(path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def run_of(number: int) -> str:
    return str((START + number * STEP).astype("datetime64[s]")).replace("-", "").replace(":", "") + "Z"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "radar"
    folder.mkdir()
    for number in range(3):
        write_frame(folder, number)
    return folder


class Clock:
    """What happens between two looks at the folder."""

    def __init__(self, *events):
        self.events = list(events)

    def __call__(self, _: float) -> None:
        if self.events:
            self.events.pop(0)()


def stop() -> None:
    raise KeyboardInterrupt


def test_nothing_that_arrives_is_lost(folder, tmp_path):
    out = tmp_path / "forecasts"
    options = WatchOptions(watch=True, poll_s=1.0, idle_s=3.0, backlog=1)

    def damaged():
        write_frame(folder, 3)
        truncate(folder / "03.nc")

    clock = Clock(damaged, lambda: write_frame(folder, 4), lambda: write_frame(folder, 3), stop)
    with pytest.raises(KeyboardInterrupt):
        Watch(folder, out, SETTINGS, options).run(sleep=clock)
    told = (out / "log.txt").read_text()
    assert "03.nc: cannot be used now" in told
    assert str(folder) not in told
    assert {path.name for path in out.iterdir() if path.is_dir()} == {run_of(n) for n in (2, 3, 4)}
    before = (out / run_of(4) / "metrics.json").stat().st_mtime_ns
    # While nothing runs two frames arrive, one goes, and a forecast is half-written.
    write_frame(folder, 5)
    write_frame(folder, 6)
    (folder / "00.nc").unlink()
    (out / run_of(3) / "metrics.json").unlink()
    write_frame(folder, 3)
    (out / ".start-killed").mkdir()
    done = Watch(folder, out, SETTINGS, options).run(sleep=Clock(lambda: write_frame(folder, 8)))
    assert not list(out.glob(".start-*"))
    assert done == 4
    runs = {path.name for path in out.iterdir() if path.is_dir()}
    assert runs == {run_of(n) for n in (2, 3, 4, 5, 6, 8)}
    assert all((out / name / "metrics.json").exists() for name in runs)
    assert (out / run_of(4) / "metrics.json").stat().st_mtime_ns == before
    # The shower moves on by a cell a frame; across the lost frame, too.
    rain = read_ensemble(out / run_of(8)).members[0, :, 0, 0].mean(axis=0)
    heavy = np.where(rain > 0.5 * rain.max(), rain, 0)
    assert (heavy.sum(axis=0) * np.arange(SIZE)).sum() / heavy.sum() == pytest.approx(6 + 9, abs=1.5)


def test_one_forecast_from_the_newest_frame(folder, tmp_path):
    words = (
        "nowcast",
        folder,
        "--prior",
        "radar-rain",
        "--frames",
        1,
        "--members",
        2,
        "--out",
        tmp_path / "out",
    )
    assert "1 forecast" in inside(*words).stdout
    assert (tmp_path / "out" / run_of(2) / "analysis.nc").exists()
    assert "0 forecasts" in inside(*words).stdout


def test_what_cannot_be_watched_is_one_line(folder, tmp_path):
    words = ("nowcast", "--prior", "radar-rain", "--out", tmp_path / "out")
    assert "found no folder" in mistake(*words, folder / "00.nc")
    (tmp_path / "empty").mkdir()
    assert "found no frames that a forecast can start from" in mistake(*words, tmp_path / "empty")
    (tmp_path / "out" / "arrivals.json").write_text("[]")
    with pytest.raises(InputError, match=r"arrivals.json: is damaged"):
        Watch(folder, tmp_path / "out", SETTINGS, WatchOptions())
