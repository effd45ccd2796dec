"""forecast of rain on the real command line, with the embedded prior: it travels with the motion seen in the start."""

import json
from pathlib import Path

import numpy as np
import pytest

from assimilation.fields.fields import Ensemble, Fields, Grid, Variable
from assimilation.inference.assimilator import EnsemblePlan
from assimilation.io.archive import read_ensemble, write_fields
from assimilation.io.registry import read_any_fields
from assimilation.run.problem import read_forecast
from assimilation.run.settings import ForecastSettings
from priors.card import load_prior
from tests.support.command_line import inside, mistake

SIZE, SPEED = 48, 3  # cells; cells per frame, along x
FAST = ("--frames", 3, "--members", 2, "--steps", 3, "--seed", 1)


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """Four frames of a shower that travels east."""
    y, x = np.mgrid[:SIZE, :SIZE]
    frames = [12 * np.exp(-((y - 24) ** 2 + (x - 10 - SPEED * f) ** 2) / 40) for f in range(4)]
    times = np.datetime64("2020-06-01T12:00", "ns") + np.arange(4) * np.timedelta64(600, "s")
    axis = 2.0 * np.arange(SIZE)
    rain = (Variable("rain_rate", "mm/h", "rainfall_rate", 0.0),)
    values = np.stack(frames)[None, :, None].astype(np.float32)
    path = tmp_path_factory.mktemp("nowcast") / "start.nc"
    write_fields(Fields(values, times.astype("datetime64[ns]"), rain, Grid(axis, axis, "plane", "km")), path)
    return path


def east(run: Path) -> np.ndarray:
    """Return the column of the centre of what rains, by lead."""
    rain = read_ensemble(run).members[0, :, :, 0].mean(axis=0)
    heavy = np.where(rain > 0.5 * rain.max(axis=(1, 2), keepdims=True), rain, 0)
    return (heavy.sum(axis=1) * np.arange(SIZE)).sum(axis=1) / heavy.sum(axis=(1, 2))


def test_rain_travels_unless_told_otherwise(start, tmp_path):
    command = ("forecast", start, "--prior", "radar-rain", *FAST)
    inside(*command, "--out", tmp_path / "moved")
    inside(*command, "--motion", "none", "--out", tmp_path / "still")
    told = [
        json.loads((tmp_path / name / "metrics.json").read_text())["motion"] for name in ("moved", "still")
    ]
    assert told == ["advect", "none"]
    assert "motion: " in (tmp_path / "moved" / "log.txt").read_text()
    inside("inspect", tmp_path / "moved", "--json", tmp_path / "inspected.json")
    described = json.loads((tmp_path / "inspected.json").read_text())
    assert described["kind"] == "run folder"
    facts = described["facts"]
    assert (facts["command"], facts["state"], facts["evolution"]) == ("forecast", "complete", "cascade")
    assert facts["input start"].startswith("start.nc")
    assert "rain_rate" in facts
    products = read_any_fields(tmp_path / "moved" / "products.nc")
    names = [one.name for one in products.variables]
    assert names[:3] == ["rain_rate_mean", "rain_rate_matched_mean", "rain_rate_deviation"]
    assert names[3:] == [f"rain_rate_probability_{threshold}" for threshold in ("0.5", "1", "5")]
    members = read_ensemble(tmp_path / "moved").members[0, :, :, 0]
    np.testing.assert_allclose(products.values[0, :, 0], members.mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(products.values[0, :, 5], (members >= 5).mean(axis=0))
    # The shower is at column 19, has a radius of 4.5 cells and goes on by 3 a frame: 9 cells at the end.
    np.testing.assert_allclose(east(tmp_path / "moved"), 19 + SPEED * np.arange(1, 4), atol=4.5)
    inside(*command, "motion=advect", "--out", tmp_path / "again")
    moved, again = (read_ensemble(tmp_path / name).members for name in ("moved", "again"))
    np.testing.assert_array_equal(moved, again)


def test_motion_needs_two_frames(start, tmp_path):
    command = ("forecast", start, "--prior", "radar-rain", *FAST, "--motion", "advect", "context=1")
    line = mistake(*command, "--out", tmp_path / "run")
    assert "found 1 frame" in line
    assert "motion=none" in line
    assert not (tmp_path / "run").exists()


def test_a_nowcast_that_was_stopped_goes_on_to_the_same_bits(start):
    prior, fields = load_prior("radar-rain"), read_any_fields(start)
    settings = ForecastSettings(prior="radar-rain", frames=3, members=2, seed=1)
    problem = read_forecast(
        Ensemble(fields.values[:, None], fields.times, fields.variables, fields.grid), prior, settings
    )
    nowcaster = settings.assimilator(prior, problem)
    plan = EnsemblePlan(2, 1, 2)
    states = []
    whole = list(nowcaster.run(problem, plan, on_state=lambda state: states.append(state.saved())))
    rest = list(nowcaster.run(problem, plan, state=states[1]))
    assert [one.frame for one in rest] == [2]
    np.testing.assert_array_equal(rest[0].members, whole[2].members)
    more = next(nowcaster.run(problem, EnsemblePlan(3, 1, 1)))
    # Another batch rounds otherwise in the prior's network, which float32 keeps to a few units in the sixth digit.
    np.testing.assert_allclose(more.members[:2], whole[0].members, rtol=1e-3, atol=1e-3)


def test_the_prior_alone_draws_every_frame_and_a_cascade_needs_motion(start, tmp_path):
    command = ("forecast", start, "--prior", "radar-rain", *FAST)
    inside(*command, "evolution=prior", "--out", tmp_path / "prior")
    told = json.loads((tmp_path / "prior" / "metrics.json").read_text())
    assert (told["evolution"], told["steps"]) == ("prior", 3)
    line = mistake(*command, "--motion", "none", "evolution=cascade", "--out", tmp_path / "run")
    assert "evolution=cascade: expected one variable of rain" in line
