"""What a run reads, put in the prior's time steps: gaps, missing values, context."""

import numpy as np
import pytest

from assimilation.fields.fields import Ensemble
from assimilation.inference.domain import own_grid, reach_of, reanalysis_frames, state_variables
from assimilation.inference.problem import clean_frames, context_of, frames_of
from assimilation.run.settings import AssimilateSettings
from priors.card import Prior, PriorCard, TrajectoryCard
from priors.diffusion.denoiser import NetworkDenoiser
from priors.diffusion.parametrisation import Velocity
from priors.diffusion.schedule import Cosine
from priors.runtime.errors import InputError
from tests.support.assimilation.tiny_prior import CODEC, NETWORK, SIZE, grid

START = np.datetime64("2001-01-01T00:00", "ns")
STEP = np.timedelta64(60_000_000_000, "ns")


def prior(**space: object) -> Prior:
    """A prior with random weights; reach 3."""
    told = {
        "frames": 5,
        "step_s": 60.0,
        "spacing": (1.0, 1.0),
        "spacing_unit": "km",
        "periodic": (True, True),
    }
    card = PriorCard(
        name="tiny",
        sha256="0" * 64,
        network=NETWORK,
        schedule=Cosine(),
        parametrisation=Velocity(),
        codec=CODEC,
        unit="m",
        shape=(SIZE, SIZE),
        axes="time k y x",
        trajectory=TrajectoryCard(**{**told, **space}),
        trained_on="nothing",
        licence="CC0-1.0",
        citation="none",
    )
    network = NETWORK.build()
    return Prior.assembled(NetworkDenoiser(network, schedule=Cosine(), parametrisation=Velocity()), card)


def known(frames: int, *, times: np.ndarray | None = None) -> Ensemble:
    values = np.random.default_rng(0).normal(10, 2, (1, 2, frames, 1, SIZE, SIZE)).astype(np.float32)
    times = START + STEP * np.arange(frames) if times is None else times
    return Ensemble(values, times.astype("datetime64[ns]"), state_variables(CODEC), grid())


def context(fields: Ensemble, **options: object):
    return context_of(fields, prior(), STEP, **{"before": fields.times[-1] + STEP, **options})


def test_a_run_has_a_frame_for_every_step_also_where_nothing_was_observed():
    times, places = frames_of(START + STEP * np.array([0, 1, 4]), STEP, source="file")
    assert places == [0, 1, -1, -1, 2]
    np.testing.assert_array_equal(times, START + STEP * np.arange(5))
    alone, places = frames_of(np.array([START]), STEP, source="file")
    assert places == [0]
    assert alone[0] == START


def test_a_time_between_two_frames_is_refused():
    with pytest.raises(InputError, match="whole steps of 60 s"):
        frames_of(START + STEP * np.array([0, 1]) + np.array([0, 20], "timedelta64[s]"), STEP, source="file")


def test_context_is_the_last_frames_within_reach_in_network_units():
    fields = known(6)
    found = context(fields)
    assert found.shape == (1, 2, 3, 1, SIZE, SIZE)
    np.testing.assert_allclose(CODEC.decode(found).numpy(), fields.members[:, :, 3:], rtol=1e-5)
    before = fields.times[-1] + STEP
    assert clean_frames(fields, prior(), STEP, before=before, longest=2).shape[2] == 2


def test_context_ends_where_a_frame_is_missing():
    gap = known(4, times=START + STEP * np.array([0, 1, 3, 4]))
    assert context(gap).shape[2] == 2
    empty = known(4)
    empty.members[:, :, 2] = np.nan
    assert context(empty).shape[2] == 1
    assert context(known(4), before=START + 9 * STEP) is None
    empty.members[:, :, 3] = np.nan
    assert context(empty) is None


def test_a_value_missing_within_a_frame_becomes_its_mean():
    fields = known(3)
    fields.members[0, 1, 2, 0, 4, 5] = np.nan
    found = CODEC.decode(context(fields)).numpy()
    assert np.isfinite(found).all()
    mean = np.nanmean(fields.members[0, 1, 2, 0])
    assert found[0, 1, 2, 0, 4, 5] == pytest.approx(mean, rel=1e-5)


def test_a_reanalysis_draws_as_many_reanalysis_frames_as_the_card_says_or_the_network_sees():
    assert reanalysis_frames(prior()) == reach_of(prior()) == 3
    assert reanalysis_frames(prior(reanalysis=7)) == 7
    assert AssimilateSettings(prior="x", lag="inf").schedule(7).largest(20) == 7
    assert AssimilateSettings(prior="x", lag="inf", longest=4).schedule(7).largest(20) == 4


def test_the_grid_of_a_table_is_the_priors_own():
    assert own_grid(prior().card).same_as(grid())
    sphere = prior(
        spacing=(0.25, 0.5), spacing_unit="degree", periodic=(False, False), extent=(50, 53.75, -6, 1.5)
    )
    found = own_grid(sphere.card)
    assert (found.kind, found.y[0], found.x[-1]) == ("sphere", 50.0, 1.5)
    with pytest.raises(InputError, match="no particular domain"):
        own_grid(prior(spacing_unit="degree").card)


def test_a_lag_may_be_written_in_many_ways():
    for text, lag in (("3", 3), (0, 0), ("inf", None), (float("inf"), None)):
        assert AssimilateSettings(prior="x", lag=text).schedule(10).lag == lag
    with pytest.raises(ValueError, match="lag"):
        AssimilateSettings(prior="x", lag=-1)
