"""Departures: observations minus their equivalents, against direct sums and calibrated draws."""

import numpy as np
import pytest
import torch

from assimilation.fields.fields import Ensemble, Grid, Variable
from assimilation.observation.base import Observation, ObservationStream
from assimilation.observation.point import Identity, Selection
from assimilation.verification.departures import departures
from priors.runtime.errors import InputError

AXIS = np.arange(20.0)
GRID = Grid(AXIS, AXIS, "plane", "km")
TIMES = np.datetime64("2000-01-01", "ns") + np.arange(3) * np.timedelta64(1, "h")
SIGMA = 0.7


class Stream(ObservationStream):
    """Half of the points at times 0 and 2."""

    def __init__(self, truth, times=TIMES, grid=GRID):
        self.truth, self.times, self.grid = truth, times, grid
        self.variables, self.trajectories = (Variable("w", "K"),), 1

    def at(self, trajectory, index):
        if index == 1:
            return None
        draws = torch.Generator().manual_seed(index)
        operator = Selection(Identity(), torch.randperm(400, generator=draws)[:200])
        clean = operator(torch.from_numpy(self.truth[index]))
        values = clean + SIGMA * torch.randn(200, generator=draws)
        return Observation(values, torch.full((200,), SIGMA**2), operator)


def draws(members=10):
    both = np.random.default_rng(0).normal(size=(members + 1, 3, 1, 20, 20)).astype(np.float32)
    return both[0], Ensemble(both[1:][None], TIMES, (Variable("w", "K"),), GRID)


def test_innovations_of_a_calibrated_background_have_their_expected_size():
    truth, ensemble = draws()
    whole, each = departures(Stream(truth), ensemble)
    assert [entry.count for entry in each] == [200, 0, 200]
    # mean d^2 / mean e over 400 independent observations: standard error sqrt(2 / 400) = 0.07.
    assert whole.consistency == pytest.approx(1.0, abs=0.25)
    assert whole.expected == pytest.approx(np.sqrt(SIGMA**2 + 1.1), rel=0.05)
    assert np.isnan(each[1].mean)


def test_departures_equal_direct_sums():
    truth, ensemble = draws(1)
    stream = Stream(truth)
    d = [
        stream.at(0, index).values.numpy()
        - ensemble.members[0, 0, index].ravel()[stream.at(0, index).operator.index.numpy()]
        for index in (0, 2)
    ]
    whole, _ = departures(stream, ensemble)
    assert whole.mean == pytest.approx(np.concatenate(d).mean(), abs=1e-6)
    assert whole.rms == pytest.approx(np.sqrt((np.concatenate(d) ** 2).mean()), rel=1e-6)
    assert whole.expected == pytest.approx(SIGMA, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": TIMES + np.timedelta64(9, "D")}, "times"),
        ({"grid": Grid(AXIS + 1, AXIS, "plane", "km")}, "same coordinates"),
    ],
)
def test_observations_of_something_else_are_refused(change, message):
    truth, ensemble = draws()
    with pytest.raises(InputError, match=message):
        departures(Stream(truth, **change), ensemble)
