"""assimilate and forecast on the real command line, with a prior trained for a few seconds."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
import xarray

from assimilation.fields.fields import Fields
from assimilation.io.archive import read_ensemble, write_fields
from priors.runtime.config import read_yaml
from tests.support.assimilation import tiny_prior
from tests.support.command_line import inside, mistake

FRAMES = 6
FAST = ("--members", 3, "--steps", 4, "--seed", 2)
# Frames that are drawn again for every analysis cost as much again each: where they are not the subject, none are.
ONCE = ("--overlap", "none")


@pytest.fixture(scope="module")
def place(tmp_path_factory, drifting_noise) -> Path:
    """A folder with a prior, the truth of two trajectories and observations of it."""
    folder = tmp_path_factory.mktemp("assimilate")
    shutil.copytree(drifting_noise, folder / "prior")
    whole = tiny_prior.fields(7, 2, FRAMES + 3)
    write_fields(whole.select(times=slice(0, 3)), folder / "before.nc")
    write_fields(whole.select(times=slice(3, None)), folder / "truth.nc")
    points = ("--operator", "points", "--fraction", "0.3", "--sigma", "0.1", "--seed", "1")
    inside("observe", folder / "truth.nc", *points, "--out", folder / "obs.nc")
    inside("observe", folder / "truth.nc", *points, "--out", folder / "obs.csv")
    whole = tiny_prior.fields(8, 1, 16)
    write_fields(whole, folder / "long.nc")
    inside("observe", folder / "long.nc", *points, "--fixed", "--out", folder / "fixed.csv")
    return folder


def assimilate(place: Path, run: Path, *options: object, source: str = "obs.nc") -> None:
    inside("assimilate", place / source, "--prior", place / "prior", *FAST, *ONCE, "--out", run, *options)


@pytest.mark.parametrize("lag", ["0", "1", "inf"])
def test_a_run_folder_holds_everything(place, tmp_path, lag):
    run = tmp_path / "run"
    assimilate(place, run, "--lag", lag, "--overlap", 3)
    ensemble = read_ensemble(run)
    assert ensemble.members.shape == (2, 3, FRAMES, 1, 16, 16)
    assert np.isfinite(ensemble.members).all()
    assert ensemble.attributes["prior"] == "drifting-noise"
    assert {path.name for path in run.iterdir()} >= {
        "analysis.nc",
        "config.yaml",
        "inputs.json",
        "versions.json",
        "metrics.json",
        "log.txt",
        "report.html",
    }
    assert not (run / "checkpoint.pt").exists()
    assert not (run / "parts").exists()
    assert json.loads((run / "metrics.json").read_text())["lag"] == (lag if lag == "inf" else int(lag))
    assert str(read_yaml(run / "config.yaml")["lag"]) == lag
    truth = tiny_prior.fields(7, 2, FRAMES + 3).values[:, 3:]
    error = ensemble.members.mean(1) - truth
    # Three tenths of the points with a tenth of the deviation as error: even 4 noise levels must say something.
    assert float(np.sqrt((error**2).mean())) < 0.8 * float(truth.std())


def test_observations_in_a_table_give_the_same_analyses(place, tmp_path):
    assimilate(place, tmp_path / "a")
    assimilate(place, tmp_path / "b", source="obs.csv")
    # Text holds seven digits, and point sampling interpolates: rounding only.
    a, b = (read_ensemble(tmp_path / name).members for name in "ab")
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-2)


def test_the_seed_and_the_members_decide_the_draws(place, tmp_path):
    assimilate(place, tmp_path / "three")
    assimilate(place, tmp_path / "two", "--members", 2, "--overwrite", "chunk=1")
    assimilate(place, tmp_path / "other", "--seed", 3)
    three, two, other = (read_ensemble(tmp_path / name).members for name in ("three", "two", "other"))
    np.testing.assert_allclose(two, three[:, :2], rtol=1e-3, atol=1e-2)
    assert np.abs(three - other).max() > 0.1


def test_a_background_helps_the_first_analysis(place, tmp_path):
    assimilate(place, tmp_path / "cold")
    assimilate(place, tmp_path / "warm", "--background", place / "before.nc")
    truth = tiny_prior.fields(7, 2, FRAMES + 3).values[:, 3]
    errors = [
        float(((read_ensemble(tmp_path / name).members[:, :, 0].mean(1) - truth) ** 2).mean())
        for name in ("cold", "warm")
    ]
    assert errors[1] < errors[0]


def test_a_forecast_continues_fields_and_runs(place, tmp_path):
    prior = ("--prior", place / "prior", "--frames", 3)
    inside("forecast", place / "before.nc", *prior, *FAST, "--out", tmp_path / "fc", "format=zarr")
    ensemble = read_ensemble(tmp_path / "fc")
    truth = tiny_prior.fields(7, 2, FRAMES + 3)
    np.testing.assert_array_equal(ensemble.times, truth.times[3:6])
    assert ensemble.attributes["forecast_reference_time"] == "2000-01-01T00:02:00"
    assert (tmp_path / "fc" / "analysis.zarr").is_dir()
    assimilate(place, tmp_path / "run")
    inside("forecast", tmp_path / "run", *prior, *FAST, "--out", tmp_path / "from-run")
    later = read_ensemble(tmp_path / "from-run")
    assert later.times[0] == truth.times[-1] + np.timedelta64(60, "s")
    # Each member continues its own analysis.
    assert float(np.abs(later.members[:, 0] - later.members[:, 1]).max()) > 0.1


def test_every_guidance_by_name(place, tmp_path):
    for name in ("sda", "forcing"):
        assimilate(place, tmp_path / name, "--guidance", name, "sampler.name=ddim", "--lag", "inf")
        assert read_yaml(tmp_path / name / "config.yaml")["guidance"]["name"] == name


def test_the_plan_and_the_settings_are_printed(place):
    base = ("assimilate", place / "obs.nc", "--prior", place / "prior", *FAST)
    plan = json.loads(inside(*base, "--plan", "--json").stdout)
    assert plan["fits"]
    assert 0 < plan["seconds"] < 3600
    assert plan["total_bytes"] == sum(plan["bytes"].values())
    assert "time: about" in inside(*base, "--plan").stdout
    assert "lag: 'inf'" in inside(*base, "--print-config", "--lag", "inf").stdout


def test_a_long_reanalysis_says_that_it_takes_windows(place, tmp_path):
    assimilate(place, tmp_path / "run", "--lag", "inf", "longest=4")
    assert "windows of 4 frames" in (tmp_path / "run" / "log.txt").read_text()


def start(place: Path, run: Path, *options: str) -> subprocess.Popen:
    words = ["assimilate", place / "obs.nc", "--prior", place / "prior", "--out", run, "--members", "4"]
    command = [sys.executable, "-m", "tomocast", *map(str, [*words, "--steps", "8", "overlap=1", *options])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


def frames_written(run: Path) -> int:
    done = run / ".analysis.nc.growing" / "done.json"
    return sum(map(len, json.loads(done.read_text())["sums"])) if done.exists() else 0


def stopped(place: Path, run: Path, *options: str, after: int, how: signal.Signals) -> int:
    """Start a run, send it a signal once so many frames are written, and return its exit status."""
    process = start(place, run, *options)
    end = time.monotonic() + 240
    while frames_written(run) < after:
        assert process.poll() is None, "it ended before it could be stopped"
        assert time.monotonic() < end
        time.sleep(0.005)
    process.send_signal(how)
    return process.wait(timeout=60)


def test_a_stopped_run_continues_to_the_same_analyses(place, tmp_path):
    run = tmp_path / "run"
    assert stopped(place, run, "chunk=2", after=2, how=signal.SIGKILL) == -signal.SIGKILL
    assert stopped(place, run, "chunk=2", "--resume", after=5, how=signal.SIGINT) == 130
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    # An interrupt loses nothing: six frames of one trajectory, and the fifth was complete. Between its writing and the
    # next row lies a moment in which the state still holds it, with every chunk of its last row done.
    assert (state["trajectory"], state["row"] >= 8 * 5 - 1) in ((0, True), (1, False))
    assert not (run / "analysis.nc").exists()
    assert start(place, run, "chunk=2", "--resume").wait(timeout=240) == 0
    assert json.loads((run / "metrics.json").read_text())["cpu_seconds"] > state["cpu_seconds"] > 0
    assert start(place, tmp_path / "whole", "chunk=2").wait(timeout=240) == 0
    whole, resumed = (read_ensemble(folder).members for folder in (tmp_path / "whole", run))
    np.testing.assert_array_equal(resumed, whole)


def moved(fields: Fields, **change: object) -> Fields:
    return Fields(**{**vars(fields), **change})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--lag", "-1"), "lag"),
        (("--lag", "two"), "lag"),
        (("guidance.gamma=1",), "gamma"),
        (("sampler.name=euler",), "sampler.name"),
        (("overlap=2.5",), "overlap"),
        (("--prior", "ns-vorticty"), "neither an embedded prior"),
        (("--prior", "ct-chest-256"), "prior of slices"),
        (("--background", "absent.nc"), "absent.nc"),
    ],
)
def test_wrong_options_are_one_line(place, tmp_path, options, told):
    base = ["assimilate", place / "obs.nc", "--out", tmp_path / "run"]
    if "--prior" not in options:
        base += ["--prior", place / "prior"]
    assert told in mistake(*base, *options)
    assert not (tmp_path / "run").exists()


def test_fields_that_do_not_fit_the_prior_are_one_line(place, tmp_path):
    truth = tiny_prior.fields(7, 1, 3)
    grid = truth.grid
    wrong = {
        "spacing": moved(truth, grid=type(grid)(2 * grid.y, 2 * grid.x, "plane", "km", (True, True))),
        "periodic": moved(truth, grid=type(grid)(grid.y, grid.x, "plane", "km")),
        "degree": moved(truth, grid=type(grid)(grid.y, grid.x, "sphere", "degree")),
        "height": moved(truth, variables=(type(truth.variables[0])("height", "m"),)),
        "last frame": moved(
            truth, values=np.where(np.arange(3)[:, None, None, None] == 2, np.nan, truth.values)
        ),
    }
    for told, fields in wrong.items():
        path = tmp_path / f"{told.replace(' ', '-')}.nc"
        write_fields(moved(fields, values=fields.values.astype(np.float32)), path)
        line = mistake("forecast", path, "--prior", place / "prior", "--frames", 1, "--out", tmp_path / "run")
        assert told in line
    late = tmp_path / "late.nc"
    write_fields(moved(truth, times=truth.times + np.timedelta64(3600, "s")), late)
    line = mistake(
        "assimilate",
        place / "obs.nc",
        "--prior",
        place / "prior",
        "--background",
        late,
        "--out",
        tmp_path / "run",
    )
    assert "one step before the first observation" in line


def test_a_run_is_not_resumed_with_other_settings_or_files(place, tmp_path):
    run = tmp_path / "run"
    assimilate(place, run)
    base = ("assimilate", place / "obs.nc", "--prior", place / "prior", *FAST, *ONCE, "--out", run)
    assert "complete" in inside(*base, "--resume").stderr
    assert "already holds" in mistake(*base)
    assert "lag was" in mistake(*base, "--resume", "--lag", "1")
    other = ("assimilate", place / "obs.csv", *base[2:])
    assert "observations: is not the same as when this run began" in mistake(*other, "--resume")


def test_a_biased_station_and_a_wrong_sigma_are_found_and_mended(place, tmp_path):
    table = pandas.read_csv(place / "fixed.csv", comment="#")
    stations = table.groupby(["y", "x"]).ngroup()
    table.loc[stations == 5, "value"] += 3.0
    table["sigma"] *= 3
    table.drop(columns="unit").to_csv(tmp_path / "biased.csv", index=False)
    command = ("--prior", place / "prior", *FAST, *ONCE, "--withhold", "10%")
    inside("assimilate", tmp_path / "biased.csv", *command, "--out", tmp_path / "run")
    words = ("observation-errors", tmp_path / "run", tmp_path / "biased.csv", "--prior", place / "prior")
    inside(*words, "--skip", 0, "--out", tmp_path / "mended.csv", "--json", tmp_path / "errors.json")
    found = json.loads((tmp_path / "errors.json").read_text())
    depth = found["variables"]["depth"]
    biased = table[stations == 5].iloc[0]
    first = depth["stations"][0]
    assert (first["y"], first["x"]) == (biased["y"], biased["x"])
    # The filter follows the station in part: what it has not followed yet is most of the bias.
    assert 1.0 < first["bias"] < 3.5
    assert max(abs(one["bias"]) for one in depth["stations"][1:]) < 0.7
    assert depth["stated"] == pytest.approx(table["sigma"].iloc[0], rel=1e-4)
    assert depth["factor"] < 0.9
    assert found["withheld"]["depth"]["count"] > 20
    mended = pandas.read_csv(tmp_path / "mended.csv", comment="#")
    own = mended[(mended.y == first["y"]) & (mended.x == first["x"])]
    before = table[stations == 5]
    assert own["value"].to_numpy() == pytest.approx(before["value"].to_numpy() - first["bias"], abs=1e-4)
    assert mended["sigma"].to_numpy() == pytest.approx(table["sigma"].to_numpy() * depth["factor"], rel=1e-4)
    # What is written is read again.
    inside("assimilate", tmp_path / "mended.csv", *command, "--out", tmp_path / "again")


def test_errors_of_gridded_observations(place, tmp_path):
    assimilate(place, tmp_path / "run", "--lag", "0")
    words = ("observation-errors", tmp_path / "run", place / "obs.nc", "--prior", place / "prior")
    said = inside(*words, "--out", tmp_path / "mended.nc").stdout
    assert "depth" in said
    mended, before = (xarray.open_dataset(path) for path in (tmp_path / "mended.nc", place / "obs.nc"))
    factor = mended["depth"].attrs["sigma"] / before["depth"].attrs["sigma"]
    assert f"{factor:.2f}" in said


def test_only_a_filter_tells_the_errors_of_observations(place, tmp_path):
    assimilate(place, tmp_path / "run", "--lag", "1")
    assert "found lag 1, expected 0" in mistake("observation-errors", tmp_path / "run", place / "obs.nc")
    assert "no config.yaml" in mistake("observation-errors", tmp_path, place / "obs.nc")
