"""Scores of events against the scores library, brute force and known cases."""

import numpy as np
import pytest
import xarray as xr
from scores.categorical import BinaryContingencyManager
from scores.spatial import fss_2d

from assimilation.verification.aggregation import Table
from assimilation.verification.bootstrap import Row
from assimilation.verification.events import Fractions
from assimilation.verification.metrics import categorical, fss, reliability
from assimilation.verification.statistics import Pair
from tests.support.assimilation.pairs import pair, plane


def scored(metric, given):
    table = Table(metric.statistics, given.grid)
    table.add(Row(0, 0, 0), given)
    return table.score(metric)


def test_categorical_scores_equal_the_scores_library_s():
    given = pair(missing=0.2)
    forecast = given.members.astype(float).mean(0)
    valid = np.isfinite(given.truth)
    manager = BinaryContingencyManager(
        xr.DataArray((forecast >= 1.0)[valid].astype(float), dims="p"),
        xr.DataArray((given.truth >= 1.0)[valid].astype(float), dims="p"),
    ).transform()
    expected = {
        "csi": manager.critical_success_index(),
        "pod": manager.probability_of_detection(),
        "far": manager.false_alarm_ratio(),
        "hss": manager.heidke_skill_score(),
    }
    for metric in categorical(1.0):
        assert scored(metric, given) == pytest.approx(float(expected[metric.key]), rel=1e-12), metric.key


def test_counting_members_equals_one_member_after_another():
    given = pair(members=3)
    table = Table([m.statistics[0] for m in categorical(0.5)], given.grid)
    for index in range(3):
        table.add(Row(0, index, 0), Pair(given.members[index : index + 1], given.truth, given.grid))
    for one, all_members in zip(categorical(0.5), categorical(0.5, "members"), strict=True):
        assert scored(all_members, given) == pytest.approx(table.score(one), rel=1e-12)


def test_no_event_at_all_has_no_score():
    grid = plane()
    dry = Pair(np.zeros((3, *grid.shape)), np.zeros(grid.shape), grid)
    for metric in (*categorical(1.0)[:3], fss(1.0, 3)):
        assert np.isnan(scored(metric, dry))


@pytest.mark.parametrize("scale", [1, 3, 5])
def test_fss_equals_the_scores_library_s_where_no_window_meets_the_edge(scale):
    inner = pair(members=1)
    grid = plane(12 + 12, 15 + 12)
    field = [np.pad(part, 6) for part in (inner.members[0], inner.truth)]
    given = Pair(field[0][None], field[1], grid)
    arrays = [xr.DataArray(part.astype(float), dims=("y", "x")) for part in field]
    options = {
        "window_size": (scale, scale),
        "spatial_dims": ("y", "x"),
        "threshold_operator": np.greater_equal,
    }
    expected = fss_2d(*arrays, event_threshold=1.0, zero_padding=True, **options)
    assert scored(fss(1.0, scale), given) == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("scale", [1, 3, 7])
def test_fss_of_whole_neighbourhoods_equals_the_scores_library_s(scale):
    given = pair(members=1)
    arrays = [xr.DataArray(part.astype(float), dims=("y", "x")) for part in (given.members[0], given.truth)]
    expected = fss_2d(
        *arrays,
        event_threshold=1.0,
        window_size=(scale, scale),
        spatial_dims=("y", "x"),
        threshold_operator=np.greater_equal,
    )
    assert scored(fss(1.0, scale, border="cut"), given) == pytest.approx(float(expected), rel=1e-9)
    if scale > 1:
        assert scored(fss(1.0, scale), given) != pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("scale", [3, 7])
def test_fss_with_zeros_outside_equals_a_count_in_the_padded_field(scale):
    given = pair(members=1, missing=0.2)
    half = scale // 2
    fractions = []
    for field in (given.members[0], given.truth):
        events = np.pad((field >= 1.0) & given.valid, half).astype(float)
        windows = np.lib.stride_tricks.sliding_window_view(events, (scale, scale))
        fractions.append((windows.sum((2, 3)) / scale**2)[given.valid])
    forecast, observed = fractions
    expected = 1 - np.mean((forecast - observed) ** 2) / np.mean(forecast**2 + observed**2)
    assert scored(fss(1.0, scale, border="zeros"), given) == pytest.approx(expected, rel=1e-9)


def test_borders_are_the_same_where_the_field_has_none():
    given = pair(members=3, grid=plane(periodic=True))
    values = [scored(fss(1.0, 5, border=border), given) for border in ("valid", "zeros", "cut")]
    np.testing.assert_allclose(values, values[0], rtol=1e-9)
    # No neighbourhood of 21 cells fits in 12 x 15.
    assert np.isnan(scored(fss(1.0, 21, border="cut"), pair()))


@pytest.mark.parametrize("periodic", [False, True])
def test_fractions_equal_a_loop_over_neighbourhoods(periodic):
    given = pair(members=3, grid=plane(periodic=periodic), missing=0.3)
    rows, columns = given.grid.shape
    values = Fractions(1.0, 5).compute(given)
    for j, i in [(0, 0), (5, 7), (11, 14), (2, 13)]:
        if not given.valid[j, i]:
            continue
        cells = [(j + dj, i + di) for dj in range(-2, 3) for di in range(-2, 3)]
        if periodic:
            cells = [(a % rows, b % columns) for a, b in cells]
        cells = [(a, b) for a, b in cells if 0 <= a < rows and 0 <= b < columns and given.valid[a, b]]
        forecast = np.mean([(given.members[:, a, b] >= 1.0).mean() for a, b in cells])
        observed = np.mean([given.truth[a, b] >= 1.0 for a, b in cells])
        np.testing.assert_allclose(
            values[:, j, i], [(forecast - observed) ** 2, forecast**2, observed**2], atol=1e-12
        )


def test_fss_of_a_displaced_band_is_the_known_value():
    # A band of one column in a periodic domain, displaced by d cells: at scale n the fractions are 1/n over n
    # columns each, overlapping in n - d of them, so FSS = 1 - 2 d / (2 n) = 1 - d / n for d <= n, else 0.
    grid = plane(8, 32, periodic=True)
    truth, forecast = np.zeros(grid.shape), np.zeros(grid.shape)
    truth[:, 10], forecast[:, 13] = 1.0, 1.0
    given = Pair(forecast[None], truth, grid)
    for scale, expected in {1: 0.0, 3: 0.0, 5: 0.4, 7: 4 / 7}.items():
        assert scored(fss(0.5, scale), given) == pytest.approx(expected, abs=1e-9)


def test_an_even_scale_is_refused():
    with pytest.raises(ValueError, match="odd"):
        Fractions(1.0, 4)


def test_reliability_of_members_drawn_with_the_truth_lies_on_the_diagonal():
    generator = np.random.default_rng(0)
    grid = plane(300, 300)
    chance = generator.random(grid.shape)
    events = (generator.random((10, *grid.shape)) < chance).astype(float)
    truth = (generator.random(grid.shape) < chance).astype(float)
    forecast, happened = scored(reliability(0.5), Pair(events, truth, grid))
    assert forecast.sum() == pytest.approx(1.0)
    # Uniform chance and k of 10 give the posterior mean (k + 1) / 12; some 8,000 points a bin: error 0.006.
    np.testing.assert_allclose(happened, (np.arange(11) + 1) / 12, atol=0.025)
