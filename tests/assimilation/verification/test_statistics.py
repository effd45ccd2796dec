"""Statistics against the scores library, brute force and closed forms."""

import numpy as np
import pytest
import xarray as xr
from scipy import stats
from scores.continuous import mae, mse
from scores.probability import crps_for_ensemble

from assimilation.verification.aggregation import Table
from assimilation.verification.bootstrap import Row
from assimilation.verification.metrics import (
    ACC,
    BIAS,
    CRPS,
    MAE,
    RANK_HISTOGRAM,
    RMSE,
    SPREAD_SKILL,
)
from assimilation.verification.statistics import FairCRPS, Pair, Ranks, Variance
from tests.support.assimilation.pairs import pair, plane, sphere


def scored(metric, given):
    table = Table(metric.statistics, given.grid)
    table.add(Row(0, 0, 0), given)
    return table.score(metric)


def as_arrays(given):
    truth = xr.DataArray(given.truth.astype(float), dims=("y", "x"))
    return xr.DataArray(given.members.astype(float), dims=("member", "y", "x")), truth


@pytest.mark.parametrize("grid", [plane(), sphere()], ids=["plane", "sphere"])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_the_scores_library_agrees_with_weights_and_missing_points(grid, missing):
    given = pair(grid=grid, missing=missing)
    members, truth = as_arrays(given)
    weights = xr.DataArray(grid.area_weights(), dims=("y", "x"))
    mean = members.mean("member")
    expected = {
        RMSE: float(mse(mean, truth, weights=weights)) ** 0.5,
        MAE: float(mae(mean, truth, weights=weights)),
        CRPS: float(crps_for_ensemble(members, truth, "member", method="fair", weights=weights)),
    }
    for metric, value in expected.items():
        # Both sum a few hundred numbers in double precision.
        assert scored(metric, given) == pytest.approx(value, rel=1e-12), metric.key


def test_the_fair_crps_is_the_sum_over_all_pairs():
    given = pair(members=6)
    x, y = given.members.astype(float), given.truth.astype(float)
    pairs = np.abs(x[:, None] - x[None]).sum((0, 1)) / (2 * 6 * 5)
    np.testing.assert_allclose(FairCRPS().compute(given), np.abs(x - y).mean(0) - pairs, atol=1e-12)


@pytest.mark.parametrize("members", [2, 5, 40])
def test_the_fair_crps_of_gaussian_members_has_the_expectation_of_the_gaussian_s(members):
    generator = np.random.default_rng(1)
    grid = plane(300, 400)
    truth = 0.7
    x = generator.normal(0.0, 1.3, (members, *grid.shape))
    given = Pair(x, np.full(grid.shape, truth), grid)
    z = truth / 1.3
    closed = 1.3 * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    values = FairCRPS().compute(given)
    error = values.std() / np.sqrt(values.size)
    assert values.mean() == pytest.approx(closed, abs=4 * error)


def test_one_member_has_its_absolute_error_and_no_spread():
    given = pair(members=1)
    np.testing.assert_allclose(FairCRPS().compute(given), np.abs(given.members[0] - given.truth), atol=1e-6)
    assert np.isnan(Variance().compute(given)).all()
    assert np.isnan(scored(SPREAD_SKILL, given))


def test_spread_skill_of_a_calibrated_ensemble_is_one_even_for_few_members():
    generator = np.random.default_rng(2)
    grid = plane(200, 200)
    centre = generator.normal(0, 3, grid.shape)
    draws = centre + generator.normal(0, 1, (5, *grid.shape))
    value = scored(SPREAD_SKILL, Pair(draws[1:], draws[0], grid))
    # 40,000 points: the standard error of the ratio is about 1 / sqrt(2 * 40000) = 0.0035; uncorrected 0.894.
    assert value == pytest.approx(1.0, abs=0.015)


def test_the_rank_histogram_of_exchangeable_draws_is_flat_and_counts_ties_evenly():
    generator = np.random.default_rng(3)
    grid = plane(150, 150)
    draws = generator.integers(0, 4, (8, *grid.shape)).astype(float)  # three quarters of the members tie
    histogram = scored(RANK_HISTOGRAM, Pair(draws[1:], draws[0], grid))
    assert histogram.sum() == pytest.approx(1.0, abs=1e-12)
    # Standard error of a share of 1/8 over 22,500 points is 0.0022.
    np.testing.assert_allclose(histogram, 1 / 8, atol=0.009)


def test_ranks_are_the_expectation_of_breaking_ties_at_random():
    generator = np.random.default_rng(4)
    x, y = np.array([0.0, 1.0, 1.0, 2.0]), 1.0
    given = Pair(x[:, None, None], np.full((1, 1), y), plane(1, 1))
    drawn = np.zeros(5)
    for _ in range(4000):
        jitter = generator.random(5) * 1e-6
        drawn[(x + jitter[:4] < y + jitter[4]).sum()] += 1 / 4000
    np.testing.assert_allclose(Ranks().compute(given)[:, 0, 0], drawn, atol=0.03)
    np.testing.assert_allclose(Ranks().compute(given)[:, 0, 0], [0, 1 / 3, 1 / 3, 1 / 3, 0])


def test_bias_has_the_sign_of_too_much():
    grid = plane()
    given = Pair(np.full((2, *grid.shape), 3.0), np.full(grid.shape, 1.0), grid)
    assert scored(BIAS, given) == 2.0


def test_anomaly_correlation_is_one_for_scaled_anomalies_and_missing_without_climatology():
    grid, generator = sphere(), np.random.default_rng(5)
    climate, anomaly = generator.normal(280, 5, grid.shape), generator.normal(0, 1, grid.shape)
    members = np.stack([climate + 0.5 * anomaly])
    truth = climate + anomaly
    assert scored(ACC, Pair(members, truth, grid, climate)) == pytest.approx(1.0, abs=1e-9)
    assert scored(ACC, Pair(members[:, ::-1] * 0 + climate - anomaly, truth, grid, climate)) == pytest.approx(
        -1
    )
    assert np.isnan(scored(ACC, Pair(members, truth, grid)))


def test_nothing_but_missing_values_has_no_score_and_no_warning(recwarn):
    grid = plane()
    given = Pair(np.full((3, *grid.shape), 1.0), np.full(grid.shape, np.nan), grid)
    for metric in (RMSE, CRPS, BIAS, SPREAD_SKILL, RANK_HISTOGRAM):
        assert np.isnan(scored(metric, given)).all()
    assert not recwarn.list
