"""Observing known fields: what is seen, how wrong it is, and that a seed decides it all."""

import numpy as np
import pytest
import torch

from assimilation.fields.fields import Fields
from assimilation.observation.instruments import (
    ChannelSubset,
    Coarse,
    Everything,
    Points,
    Swath,
    WindSpeedMeter,
)
from assimilation.observation.observing import absolute_sigma, observe
from assimilation.observation.stream import GriddedStream
from assimilation.run.observe import ObserveSettings, observed_part
from priors.runtime.errors import InputError
from tests.support.assimilation.observations import RAIN, VORTICITY, WIND, fields, plane

TRUTH = fields(frames=40, grid=plane(16, 24))


@pytest.mark.parametrize("fixed", [False, True])
def test_points_are_the_stated_share_of_every_frame(fixed):
    observed = observe(TRUTH, Points(fraction=0.1, fixed=fixed), sigma="0.1", seed=3)
    seen = np.isfinite(observed.fields.values[:, :, 0])
    assert (seen.sum(axis=(2, 3)) == round(0.1 * 16 * 24)).all()
    same = (seen == seen[:, :1]).all()
    assert same == fixed
    # Another trajectory has other places.
    assert not (seen[0, 0] == seen[1, 0]).all()


def test_a_seed_decides_everything_and_more_trajectories_change_nothing():
    first, again, other = (
        observe(TRUTH, Points(), sigma="0.1", seed=seed).fields.values for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(np.isfinite(first), np.isfinite(other))
    alone = observe(TRUTH.select(trajectory=0), Points(), sigma="0.5s-1", seed=1).fields.values
    both = observe(TRUTH, Points(), sigma="0.5s-1", seed=1).fields.values
    np.testing.assert_array_equal(alone[0], both[0])


def test_errors_have_the_stated_deviation_and_no_mean():
    observed = observe(TRUTH, Everything(), sigma="0.25", seed=0)
    errors = (observed.fields.values - TRUTH.values).astype(np.float64)
    sigma = 0.25 * TRUTH.values.std(dtype=np.float64)
    assert float(observed.sigma.squeeze()) == pytest.approx(sigma, rel=1e-6)
    # 30,720 draws: the deviation is known to 0.4 %, the mean to 0.6 % of sigma; four times that is allowed.
    assert errors.std() == pytest.approx(sigma, rel=0.016)
    assert abs(errors.mean()) < 0.024 * sigma


def test_coarse_observations_are_block_means_on_the_grid_of_the_blocks():
    observed = observe(TRUTH, Coarse(factor=4), sigma="1e-6 s-1", seed=0)
    blocks = TRUTH.values.reshape(2, 40, 1, 4, 4, 6, 4).mean(axis=(4, 6))
    np.testing.assert_allclose(observed.fields.values, blocks, atol=1e-5)
    np.testing.assert_allclose(observed.fields.grid.y, [1.5, 5.5, 9.5, 13.5])
    assert observed.grid.same_as(TRUTH.grid)


def test_a_swath_sees_whole_strips():
    observed = observe(TRUTH, Swath(fraction=0.25, inclination_deg=90.0, step=0.25), sigma="0.1", seed=0)
    columns = np.isfinite(observed.fields.values[0, :, 0])
    assert (columns.all(axis=1) == columns.any(axis=1)).all()
    assert (columns.any(axis=1).sum(axis=1) == 6).all()
    # Four steps of a quarter cover the grid once.
    assert (columns[:4].any(axis=1).sum(axis=0) == 1).all()


def test_some_variables():
    truth = fields(WIND)
    observed = observe(truth, ChannelSubset(variables=("v10",)), sigma="1e-6 m/s", seed=0)
    assert [item.name for item in observed.fields.variables] == ["v10"]
    np.testing.assert_allclose(observed.fields.values[:, :, 0], truth.values[:, :, 1], atol=1e-4)


def test_wind_speed_and_its_error_in_another_unit():
    truth = fields(WIND)
    observed = observe(truth, WindSpeedMeter(), sigma="3.6 km/h", seed=0)
    assert float(observed.sigma.squeeze()) == pytest.approx(1.0)
    precise = observe(truth, WindSpeedMeter(), sigma="1e-6", seed=0).fields.values[:, :, 0]
    np.testing.assert_allclose(precise, np.hypot(truth.values[:, :, 0], truth.values[:, :, 1]), atol=2e-3)


def test_missing_values_stay_missing():
    values = TRUTH.values.copy()
    values[:, 2] = np.nan
    values[0, 5, 0, :4, :4] = np.nan
    holed = Fields(values, TRUTH.times, TRUTH.variables, TRUTH.grid)
    for instrument in (Everything(), Coarse(factor=4), Points(fraction=0.5)):
        stream = GriddedStream(observe(holed, instrument, sigma="0.1", seed=0))
        assert stream.at(0, 2) is None
        assert stream.at(1, 3) is not None
    coarse = observe(holed, Coarse(factor=4), sigma="0.1", seed=0).fields.values[0, 5, 0]
    assert np.isnan(coarse[0, 0])
    assert np.isfinite(coarse).sum() == 23


def test_rain_is_never_negative_and_dry_places_are_dry():
    truth = fields((RAIN,))
    values = np.clip(truth.values - 3, 0, None)
    rain = Fields(values, truth.times, truth.variables, truth.grid)
    observed = observe(rain, Everything(), sigma="2 mm/h", seed=0).fields.values
    assert (observed[values == 0] == 0).all()
    assert observed.min() == 0
    assert (observed[values > 6] != values[values > 6]).all()


def test_no_rain_at_all_is_observed():
    dry = Fields(np.zeros((1, 3, 1, 8, 12), np.float32), TRUTH.times[:3], (RAIN,), plane())
    observed = observe(dry, Points(fraction=0.5), sigma="0.1", seed=0)
    assert float(observed.sigma.squeeze()) == pytest.approx(0.1)
    observation = GriddedStream(observed).at(0, 1)
    assert observation is not None
    assert bool((observation.values == 0).all())


@pytest.mark.parametrize(
    "instrument",
    [
        Everything(),
        Points(fraction=0.3),
        Coarse(factor=2),
        Swath(),
        ChannelSubset(variables=("v10",)),
        WindSpeedMeter(),
    ],
    ids=lambda item: item.name,
)
def test_a_stream_predicts_what_a_perfect_instrument_reports(instrument):
    truth = fields(WIND)
    stream = GriddedStream(observe(truth, instrument, sigma="1e-5 m/s", seed=0))
    assert stream.trajectories == 2
    for n, frame in ((0, 0), (1, 4)):
        observation = stream.at(n, frame)
        assert observation is not None
        predicted = observation.operator(torch.from_numpy(truth.values[n, frame]))
        torch.testing.assert_close(predicted, observation.values, rtol=0, atol=1e-4)


@pytest.mark.parametrize("text", ["0", "-1", "x", "", "0.1 furlongs", "0.5 K", "1..2", "nan"])
def test_an_error_that_cannot_be_used(text):
    with pytest.raises(InputError, match="sigma"):
        absolute_sigma(text, (VORTICITY,), np.array([2.0]))


def test_wind_speed_needs_its_components():
    with pytest.raises(InputError, match="eastward_wind"):
        observe(TRUTH, WindSpeedMeter(), sigma="0.1", seed=0)
    with pytest.raises(InputError, match=r"'vortcity'.*did you mean 'vorticity'"):
        observe(TRUTH, ChannelSubset(variables=("vortcity",)), sigma="0.1", seed=0)


def test_a_part_of_the_fields_on_a_coarser_grid():
    settings = ObserveSettings(spacing=2.0, step_s=7200.0, frames="1:4", crop="2:6,:5")
    part = observed_part(TRUTH, settings, source="fields")
    means = TRUTH.values[:, ::2].reshape(2, 20, 1, 8, 2, 12, 2).mean(axis=(4, 6))
    np.testing.assert_allclose(part.values, means[:, 1:4, :, 2:6, :5], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(part.times, TRUTH.times[[2, 4, 6]])
    np.testing.assert_allclose(part.grid.y, [4.5, 6.5, 8.5, 10.5])
