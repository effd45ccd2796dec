"""Matching of grids and times, and the scores of a whole archive."""

import json

import numpy as np
import pytest

from assimilation.baselines.climatology import climatology
from assimilation.fields.fields import Ensemble, Fields, Grid, Variable
from assimilation.report.scores import scores_section
from assimilation.run import verify as job
from assimilation.verification.aggregation import Region
from assimilation.verification.matching import match, to_grid
from assimilation.verification.metrics import CHARTS, EVENT_SCORES, SCORES
from assimilation.verification.verify import REFERENCE_TIME, VerifyOptions, verify
from priors.runtime.errors import InputError
from priors.runtime.run_folder.record import to_json

START = np.datetime64("2000-01-01T00:00", "ns")
RAIN = Variable("rain", "mm/h", "rainfall_rate", 0.0)
WIND = Variable("u10", "m/s")


def times(count, hours=1):
    return START + np.arange(count) * np.timedelta64(hours * 3600, "s").astype("timedelta64[ns]")


def grid(rows=6, columns=8, step=1.0, first=0.0):
    return Grid(
        first + step * np.arange(rows), first + step * np.arange(columns), "plane", "km", (False, False)
    )


def case(*, n=1, m=4, count=5, variables=(RAIN,), seed=0):
    generator = np.random.default_rng(seed)
    shape = (n, count, len(variables), 6, 8)
    both = np.maximum(generator.normal(0.3, 1.5, (m + 1, *shape)), 0).astype(np.float32)
    ensemble = Ensemble(np.moveaxis(both[1:], 0, 1), times(count), variables, grid())
    return ensemble, Fields(both[0], times(count), variables, grid())


def test_the_report_has_every_contracted_key_and_is_json():
    ensemble, truth = case()
    scores = verify(ensemble, truth)
    for key in ("rmse", "crps", "spread_skill", "bias", "members", "times", "rank_histogram", "by_variable"):
        assert scores[key] is not None, key
    assert scores["rmse"] == pytest.approx(
        np.sqrt(((ensemble.members.astype(float).mean(1) - truth.values) ** 2).mean()), rel=1e-6
    )
    assert np.isnan(scores["intervals"]["rmse"]).all()
    assert "withheld, found 2 blocks" in scores["intervals_from"]
    assert "withheld, found 2 blocks" in job.table(scores)
    low, high = verify(*case(count=9))["intervals"]["rmse"]
    assert low < scores["rmse"] < high
    assert scores["fss_border"] == "valid"
    assert set(scores["thresholds"]) == {"0.1", "1", "5"}
    assert len(scores["by_time"]["crps"]) == 5
    assert len(scores["by_time"]["thresholds"]["1"]["fss"]["5"]) == 5
    assert json.loads(to_json(scores))["by_variable"]["rain"]["unit"] == "mm/h"
    assert "CSI" in job.table(scores)


def test_a_perfect_ensemble_has_no_error():
    _, truth = case()
    ensemble = Ensemble(np.repeat(truth.values[:, None], 3, axis=1), truth.times, truth.variables, grid())
    scores = verify(ensemble, truth)
    assert scores["rmse"] == 0
    assert scores["crps"] == 0
    assert scores["thresholds"]["1"]["csi"] == 1
    assert scores["thresholds"]["1"]["fss"]["1"] == 1


def test_variables_of_different_units_are_never_averaged():
    ensemble, truth = case(variables=(RAIN, WIND))
    scores = verify(ensemble, truth)
    assert scores["rmse"] is None
    assert scores["by_variable"]["u10"]["rmse"] > 0
    assert len(scores["by_time"]["by_variable"]["u10"]["crps"]) == 5


def test_a_forecast_is_scored_by_lead():
    ensemble, truth = case()
    attributes = {REFERENCE_TIME: "1999-12-31T23:00:00"}
    forecast = Ensemble(ensemble.members, ensemble.times, ensemble.variables, grid(), attributes)
    scores = verify(forecast, truth)
    assert scores["by_lead"]["lead_s"] == [3600.0 * lead for lead in range(1, 6)]
    assert scores["by_lead"]["rmse"] == scores["by_time"]["rmse"]
    assert "lead_s" in job.table(scores)


def test_ranks_at_every_lead_make_up_those_of_all():
    ensemble, truth = case(n=2)
    # At the third time the truth lies above all members, in every place.
    truth.values[:, 2] = 100.0
    scores = verify(ensemble, truth)
    ranks = np.array(scores["by_time"]["rank_histogram"])
    assert ranks.shape == (5, 5)
    np.testing.assert_allclose(ranks.mean(0), scores["rank_histogram"], atol=1e-12)
    np.testing.assert_allclose(ranks[2], [0, 0, 0, 0, 1], atol=1e-12)
    page = scores_section(scores)
    # A chart names itself twice, for the eye and for readers of screens: all, first, middle and last time.
    assert page.count("Rank of the truth among the members") == 2 * 4
    assert "share of the truth outside all members" in page
    assert page.count(": reliability") == 2 * 3


def test_only_common_times_are_compared_and_trajectories_share_one_truth():
    ensemble, truth = case(n=2, count=6)
    later = truth.select(trajectory=0, times=slice(2, 5))
    scores = verify(ensemble, later)
    assert (scores["times"], scores["trajectories"]) == (3, 2)


def test_regions_and_anomaly_correlation():
    ensemble, truth = case()
    options = VerifyOptions(regions=(Region("corner", (0.0, 2.0), (0.0, 2.0)),))
    scores = verify(ensemble, truth, options, climatology=climatology(truth))
    error = ensemble.members.astype(float).mean(1) - truth.values
    assert scores["by_region"]["corner"]["bias"] == pytest.approx(error[..., :3, :3].mean(), rel=1e-5)
    assert -1 <= scores["acc"] <= 1


def test_truth_on_a_finer_grid_is_block_averaged_and_missing_blocks_stay_missing():
    fine = grid(12, 16, 0.5, -0.25)
    values = np.random.default_rng(0).normal(size=(3, 12, 16))
    values[0, 0, 1] = np.nan
    coarse = to_grid(values, fine, grid())
    np.testing.assert_allclose(coarse[1], values[1].reshape(6, 2, 8, 2).mean((1, 3)), atol=1e-12)
    assert coarse[0, 0, 0] == pytest.approx(np.nanmean(values[0, :2, :2]), abs=1e-12)
    values[0, 0, 0] = np.nan
    assert np.isfinite(to_grid(values, fine, grid())[0, 0, 0])  # half of the block is left
    values[0, 1, 0] = np.nan
    assert np.isnan(to_grid(values, fine, grid())[0, 0, 0])


def test_truth_whose_points_include_those_of_the_analysis_is_selected():
    fine = grid(11, 15, 0.5)
    values = np.random.default_rng(0).normal(size=(11, 15))
    np.testing.assert_array_equal(to_grid(values, fine, grid()), values[::2, ::2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": grid(6, 8, 1.0, 0.3)}, "finer grid"),
        ({"grid": grid(6, 8, 2.0)}, "finer grid"),
        ({"times": times(5) + np.timedelta64(10, "D")}, "expected some of the analysis'"),
        ({"variables": (Variable("snow", "mm/h"),)}, "expected rain"),
        ({"variables": (Variable("rain", "m/s"),)}, "expected 'mm/h'"),
        ({"grid": Grid(np.arange(6.0), np.arange(8.0), "sphere", "degree")}, "expected a plane"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(change, message):
    ensemble, truth = case()
    given = {"values": truth.values, "times": truth.times, "variables": truth.variables, "grid": truth.grid}
    with pytest.raises(InputError, match=message):
        match(ensemble, Fields(**{**given, **change}))


def test_trajectories_must_agree_and_some_point_must_be_valid():
    ensemble, truth = case(n=3)
    two = Fields(truth.values[:2], truth.times, truth.variables, truth.grid)
    with pytest.raises(InputError, match="2 trajectories"):
        match(ensemble, two)
    with pytest.raises(InputError, match="share no point"):
        verify(ensemble, Fields(truth.values * np.nan, truth.times, truth.variables, truth.grid))


@pytest.mark.parametrize("text", ["box", "box=1:2", "box=1,2:3:4", "a=b:c,d:e"])
def test_a_region_written_otherwise_is_refused(text):
    with pytest.raises(InputError, match="NAME=Y0:Y1,X0:X1"):
        job.parse_region(text)


def test_climatology_follows_the_hour_where_days_suffice():
    hours = times(24 * 6)
    values = np.zeros((1, hours.size, 1, 6, 8), np.float32) + np.sin(np.arange(hours.size) * np.pi / 12)[
        None, :, None, None, None
    ].astype(np.float32)
    daily = climatology(Fields(values, hours, (WIND,), grid()))
    np.testing.assert_allclose(daily.at(hours[30]), values[0, 30], atol=1e-6)
    np.testing.assert_allclose(daily.deviation_at(hours[30]), 0, atol=1e-6)
    short = climatology(Fields(values[:, :72], hours[:72], (WIND,), grid()))
    np.testing.assert_allclose(short.at(hours[30]), 0, atol=1e-6)


def test_json_keys_columns_and_charts_come_from_one_list_of_scores():
    ensemble, truth = case(m=6)
    scores = verify(ensemble, truth, climatology=climatology(truth))
    text = job.table(scores)
    for metric in SCORES:
        assert metric.key in scores["by_variable"]["rain"], metric.key
        assert metric.heading in text, metric.key
    for score in EVENT_SCORES:
        assert score.key in scores["thresholds"]["1"]
        assert score.heading in text
    drawn = [metric for chart in CHARTS for metric in chart]
    assert sorted(metric.key for metric in drawn) == sorted(metric.key for metric in SCORES)
    assert all(len({metric.in_unit for metric in chart}) == 1 for chart in CHARTS)
    section = scores_section(json.loads(to_json(scores)))
    assert all(f'<th scope="col">{metric.heading}</th>' in section for metric in SCORES)
