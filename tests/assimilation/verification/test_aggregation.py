"""Tables: averages add, regions split, intervals cover."""

import numpy as np
import pytest

from assimilation.verification.aggregation import Region, Table
from assimilation.verification.bootstrap import Row, independent_units
from assimilation.verification.metrics import BIAS, CRPS, RMSE, categorical, power
from assimilation.verification.statistics import Pair
from priors.runtime.errors import InputError
from tests.support.assimilation.pairs import pair, plane, sphere

BOX = Region("north", (40.0, 90.0), (-10.0, 10.0))


def filled(count=6, statistics=(*RMSE.statistics, *CRPS.statistics), regions=(), grid=None):
    table = Table(statistics, grid or plane(), regions)
    for index in range(count):
        table.add(Row(0, index, 0), pair(index, grid=grid, missing=0.1 * index))
    return table


def test_averages_of_parts_add_up_to_that_of_the_whole():
    whole = filled()
    first, second = Table(whole.statistics, plane()), Table(whole.statistics, plane())
    for index in range(6):
        (first if index < 2 else second).add(Row(0, index, 0), pair(index, missing=0.1 * index))
    first.merge(second)
    assert first.score(CRPS) == whole.score(CRPS)


def test_the_score_over_times_is_that_of_the_concatenated_field():
    pairs = [pair(index, missing=0.1 * index) for index in range(6)]
    members = np.concatenate([part.members for part in pairs], axis=1)
    joined = Pair(members, np.concatenate([part.truth for part in pairs]), plane(12 * 6))
    table = Table(RMSE.statistics, joined.grid)
    table.add(Row(0, 0, 0), joined)
    assert filled().score(RMSE) == pytest.approx(table.score(RMSE), rel=1e-12)


def test_a_region_is_the_score_of_its_box():
    grid = sphere()
    table = filled(1, regions=(BOX,), grid=grid)
    given = pair(0, grid=grid)
    inside = BOX.mask(grid)
    error = (given.members.astype(float).mean(0) - given.truth) ** 2
    expected = np.sqrt(np.average(error[inside], weights=grid.area_weights()[inside]))
    assert table.score(RMSE, region="north") == pytest.approx(expected, rel=1e-12)


def test_a_region_without_points_and_an_unknown_one_are_refused():
    with pytest.raises(InputError, match="no grid point"):
        Region("sea", (91.0, 95.0), (0.0, 1.0)).mask(sphere())
    with pytest.raises(InputError, match="expected one of all"):
        filled(1).score(RMSE, region="elsewhere")


def test_spectra_belong_to_the_whole_field_only():
    grid = sphere()
    table = filled(1, power("truth").statistics, (BOX,), grid)
    assert np.isfinite(table.score(power("truth"))).all()
    assert np.isnan(table.score(power("truth"), region="north")).all()


def test_spectra_are_summed_over_the_rows_of_each_variable():
    metric, single = power("members"), []
    table, other = (Table(metric.statistics, plane()) for _ in range(2))
    for index in range(6):
        (table if index < 4 else other).add(Row(0, index // 2, index % 2), pair(index))
        part = Table(metric.statistics, plane())
        part.add(Row(0, 0, 0), pair(index))
        single.append(part.score(metric))
    table.merge(other)
    np.testing.assert_allclose(table.score(metric), np.mean(single, axis=0), rtol=1e-12)
    second = [row for row in table.rows if row.variable == 1]
    np.testing.assert_allclose(table.score(metric, second), np.mean(single[1::2], axis=0), rtol=1e-12)
    with pytest.raises(ValueError, match="expected all rows"):
        table.score(metric, second[:2])
    with pytest.raises(ValueError, match="expected a metric of rows"):
        table.interval(metric)


def test_a_row_is_counted_once():
    table = filled(1)
    with pytest.raises(ValueError, match="already"):
        table.add(Row(0, 0, 0), pair())


@pytest.mark.parametrize("by", ["trajectories", "times"])
def test_intervals_cover_the_expected_score(by):
    generator = np.random.default_rng(0)
    grid, covered, runs = plane(2, 2), 0, 60
    for run in range(runs):
        table = Table(RMSE.statistics, grid)
        for index in range(40):
            truth = generator.normal(0, 1, grid.shape)
            row = Row(index, 0, 0) if by == "trajectories" else Row(0, index, 0)
            table.add(row, Pair(np.zeros((1, *grid.shape)), truth, grid))
        low, high = table.interval(RMSE, seed=run, draws=300)
        covered += low <= 1.0 <= high
    # 95 % nominal; with 40 independent units a little less. 60 runs: standard error 0.03.
    assert 0.82 <= covered / runs <= 1.0


@pytest.mark.parametrize(("trajectories", "times"), [(4, 1), (1, 20)])
def test_intervals_of_few_samples_cover_as_often_as_they_say(trajectories, times):
    generator = np.random.default_rng(1)
    grid, covered, runs = plane(2, 2), 0, 300
    for run in range(runs):
        table = Table(BIAS.statistics, grid)
        shift = generator.normal(0, 1, (trajectories, times))
        for row in np.ndindex(trajectories, times):
            table.add(Row(*row, 0), Pair(np.zeros((1, *grid.shape)), shift[row] + np.zeros(grid.shape), grid))
        low, high = table.interval(BIAS, seed=run, draws=200)
        covered += low <= 0.0 <= high
    # 95 % nominal, standard error of 300 runs 0.013.
    assert 0.90 <= covered / runs <= 0.99


def test_intervals_stay_within_the_score_s_range_and_say_what_they_rest_on():
    table = Table((*RMSE.statistics, *BIAS.statistics), plane(2, 2))
    for index, error in enumerate([0.01, 0.01, 9.0]):
        table.add(Row(index, 0, 0), Pair(np.zeros((1, 2, 2)), np.full((2, 2), error), plane(2, 2)))
    low, high = table.interval(RMSE)
    assert low == 0.0
    assert high > 9.0
    assert table.interval(BIAS)[0] < -9.0
    assert (
        independent_units(table.rows).description == "bootstrap over 3 trajectories, widened by Student's t"
    )
    few = independent_units([Row(0, time, 0) for time in range(5)])
    assert few.description == "withheld, found 2 blocks of 2 times, expected 3 or more independent samples"


def test_intervals_are_seeded_and_missing_for_a_single_unit():
    table = Table(CRPS.statistics, plane())
    for index in range(30):
        table.add(Row(0, index, 0), pair(index))
    assert table.interval(CRPS, seed=3) == table.interval(CRPS, seed=3)
    assert table.interval(CRPS, seed=3) != table.interval(CRPS, seed=4)
    assert np.isnan(filled(1).interval(CRPS)).all()


def test_intervals_of_events_allow_draws_without_events():
    table = filled(3, categorical(30.0)[0].statistics)
    low, high = table.interval(categorical(30.0)[0])
    assert np.isnan(low) == np.isnan(high)
