"""The verb verify on files: what it prints and writes, and what it refuses."""

import json

import numpy as np
import pytest

from assimilation.fields.fields import Ensemble, Fields, Grid, Variable
from assimilation.io.archive import write_ensemble, write_fields
from priors.runtime.run_folder.record import open_run
from tests.support.command_line import inside

AXIS = np.arange(6.0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Write a truth, a calibrated ensemble in a run folder, and observations of the truth."""
    folder = tmp_path_factory.mktemp("verify")
    generator = np.random.default_rng(0)
    times = np.datetime64("2000-01-01", "ns") + np.arange(4) * np.timedelta64(3600, "s")
    grid, variables = Grid(AXIS, AXIS, "plane", "km"), (Variable("w", "K"),)
    draws = generator.normal(size=(9, 2, 4, 1, 6, 6)).astype(np.float32)
    write_fields(Fields(draws[0], times, variables, grid), folder / "truth.nc")
    ensemble = Ensemble(np.moveaxis(draws[1:], 0, 1), times, variables, grid)
    with open_run(folder / "run") as run:
        run.claim("analysis.nc", "report.html")
        write_ensemble(ensemble, run.file("analysis.nc"))
    inside("observe", folder / "truth.nc", "--sigma", "0.1", "--out", folder / "obs.nc")
    return folder


def test_the_contracted_scores_are_printed_as_json(files):
    done = inside("score", "ensemble", files / "run", files / "truth.nc", "--json", "-", "--threshold", "1")
    scores = json.loads(done.stdout)
    assert (scores["trajectories"], scores["members"], scores["times"]) == (2, 8, 4)
    # Truth and members are draws of one normal law: rmse sqrt(1 + 1/8), fair CRPS 1 / sqrt(pi); 288 points.
    assert scores["rmse"] == pytest.approx(1.06, abs=0.12)
    assert scores["crps"] == pytest.approx(0.564, abs=0.08)
    assert scores["spread_skill"] == pytest.approx(1.0, abs=0.12)
    assert len(scores["rank_histogram"]) == 9
    assert set(scores["thresholds"]) == {"1"}
    assert len(scores["by_time"]["bias"]) == 4


def test_a_file_a_table_and_departures(files):
    out = files / "scores.json"
    options = ["--json", out, "--observations", files / "obs.nc", "--region", "west=0:5,0:2"]
    done = inside("score", "ensemble", files / "run" / "analysis.nc", files / "truth.nc", *options)
    scores = json.loads(out.read_text())
    assert "w [K]" in done.stdout
    assert "observation minus analysis" in done.stdout
    # 10 % of 36 points, at 4 times of 2 trajectories; the members know nothing of them.
    assert scores["departures"]["count"] == 4 * 4 * 2
    assert scores["departures"]["consistency"] == pytest.approx(1.0, abs=0.6)
    assert scores["by_region"]["west"]["rmse"] > 0


def test_the_border_of_the_fractions_skill_score_is_a_setting(files):
    values = {}
    for border in ("valid", "zeros", "cut"):
        options = ["--threshold", "1", "--scale", "3", "--fss-border", border, "--json", "-"]
        scores = json.loads(inside("score", "ensemble", files / "run", files / "truth.nc", *options).stdout)
        assert scores["fss_border"] == border
        values[border] = scores["thresholds"]["1"]["fss"]["3"]
    assert len(set(values.values())) == 3


def test_the_report_gains_truth_and_scores(files):
    inside("score", "ensemble", files / "run", files / "truth.nc", "--report")
    assert "rmse" in (files / "run" / "report.html").read_text().lower()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scale", "4"], "odd"),
        (["--region", "box"], "NAME=Y0:Y1,X0:X1"),
        (["--variable", "t2m"], "variable: found 't2m'"),
        (["--climatology", "missing.nc"], "does not exist"),
    ],
)
def test_mistakes_are_one_line(files, options, message):
    done = inside("score", "ensemble", files / "run", files / "truth.nc", *options, status=2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_report_needs_a_run_folder(files):
    done = inside(
        "score", "ensemble", files / "run" / "analysis.nc", files / "truth.nc", "--report", status=2
    )
    assert "run folder" in done.stderr
