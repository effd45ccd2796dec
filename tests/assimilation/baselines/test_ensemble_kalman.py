"""Ensemble filters against the exact Kalman filter, and the taper against its properties."""

import numpy as np
import pytest
import torch

from assimilation.baselines.ensemble_kalman import LETKF, EnKF, assimilate
from assimilation.baselines.localisation import Places, gaspari_cohn, jacobian
from assimilation.fields.fields import Grid, Variable
from assimilation.observation.area import BlockAverage
from assimilation.observation.base import Observation, ObservationStream
from assimilation.observation.point import Identity, PointSampling, Selection

POINTS, FRAMES, SIGMA = 6, 8, 0.5
LINE = Grid(np.arange(1.0), np.arange(float(POINTS)), "plane", "1", (False, False))
INDEX = torch.tensor([1, 4])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


class Chain(ObservationStream):
    """x_{f+1} = A x_f + q, two of six values observed."""

    def __init__(self):
        draw = np.random.default_rng(0)
        self.A = 0.9 * np.linalg.qr(draw.normal(size=(POINTS, POINTS)))[0]
        self.H = np.eye(POINTS)[INDEX.numpy()]
        self.times = np.datetime64("2000-01-01", "ns") + np.arange(FRAMES) * np.timedelta64(1, "s")
        self.variables, self.grid, self.trajectories = (Variable("x", "1"),), LINE, 1
        self.y = draw.normal(size=(FRAMES, 2))

    def at(self, trajectory, index):
        if index == 3:
            return None
        values = torch.from_numpy(self.y[index]).float()
        return Observation(values, torch.full((2,), SIGMA**2), Selection(Identity(), INDEX))

    def model(self, members, draws):
        moved = members.flatten(1) @ torch.from_numpy(self.A.T).float()
        return (moved + 0.4 * torch.randn(moved.shape, generator=draws)).reshape(members.shape)

    def kalman(self):
        mean, P, R = np.zeros(POINTS), np.eye(POINTS), SIGMA**2 * np.eye(2)
        for index in range(FRAMES):
            if index > 0:
                mean, P = self.A @ mean, self.A @ P @ self.A.T + 0.16 * np.eye(POINTS)
            if index != 3:
                K = P @ self.H.T @ np.linalg.inv(self.H @ P @ self.H.T + R)
                mean, P = mean + K @ (self.y[index] - self.H @ mean), P - K @ self.H @ P
            yield mean, P


@pytest.mark.parametrize("chosen", [EnKF(half_width=1e6), LETKF(half_width=1e6)], ids=["enkf", "letkf"])
def test_a_large_ensemble_is_the_kalman_filter(chosen):
    chain = Chain()
    count = 20_000 if isinstance(chosen, EnKF) else 150
    initial = torch.randn(count, 1, 1, POINTS, generator=generator(1))
    results = assimilate(chosen, chain.model, initial, chain, trajectory=0, generator=generator(2))
    # Sampling errors fall as 1 / sqrt(count); eight cycles pile up to at most 10 / sqrt(count) for EnKF (measured
    # up to 400,000 members). The transform adds no noise of its own: only the forcing's draws are sampled.
    tolerance = 12 / np.sqrt(count) if isinstance(chosen, EnKF) else 5 / np.sqrt(count)
    for (time, members), (mean, P), expected in zip(results, chain.kalman(), chain.times, strict=True):
        flat = members.flatten(1).double().numpy()
        assert time == expected
        np.testing.assert_allclose(flat.mean(0), mean, atol=tolerance)
        np.testing.assert_allclose(np.cov(flat.T), P, atol=1.5 * tolerance)


def test_both_filters_have_the_same_mean_up_to_sampling_for_one_observation():
    members = torch.randn(300, 1, 1, POINTS, generator=generator(3))
    observation = Observation(torch.tensor([2.0]), torch.tensor([0.25]), Selection(Identity(), INDEX[:1]))
    one = EnKF(half_width=1.5).update(members, observation, LINE, generator(4)).mean(0)
    two = LETKF(half_width=1.5).update(members, observation, LINE, generator(4)).mean(0)
    # At the observed point both apply the same scalar gain; EnKF's perturbations average 0.5 / sqrt(300) = 0.03.
    assert float(one[0, 0, 1]) == pytest.approx(float(two[0, 0, 1]), abs=0.1)
    # Beyond 2 c nothing moves, in either.
    for after in (one, two):
        torch.testing.assert_close(after[0, 0, 5], members.mean(0)[0, 0, 5], atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [32, 33])
def test_interpolated_weights_reproduce_constants_and_stay_close(size):
    grid = Grid(np.arange(float(size)), np.arange(float(size)), "plane", "1", (True, True))
    axis = torch.arange(float(size)) * 2 * torch.pi / size
    draws = torch.randn(20, 3, 3, generator=generator(5))
    waves = torch.stack([torch.ones(size), axis.sin(), axis.cos()])
    members = torch.einsum("mab,ay,bx->myx", draws, waves, waves)[:, None]
    index = torch.randperm(size * size, generator=generator(6))[:150]
    observation = Observation(torch.zeros(150), torch.full((150,), 0.01), Selection(Identity(), index))
    full = LETKF(half_width=8.0).update(members, observation, grid, generator())
    coarse = LETKF(half_width=8.0, every=2).update(members, observation, grid, generator())
    assert (full - coarse).std() < 0.1 * full.std()
    exact = LETKF(half_width=8.0, every=2)._spread(torch.ones(((size + 1) // 2) ** 2, 2, 2).double(), grid)
    torch.testing.assert_close(exact, torch.ones(2, 2, size, size).double())


def test_relaxation_restores_the_forecast_s_spread():
    members = torch.randn(50, 1, 1, POINTS, generator=generator(7))
    observation = Chain().at(0, 0)
    after = LETKF(half_width=3.0, relaxation=1.0).update(members, observation, LINE, generator())
    torch.testing.assert_close(after.std(0), members.std(0), rtol=1e-4, atol=1e-5)
    none = EnKF(half_width=3.0).update(members, None, LINE, generator())
    assert none is members


def test_the_taper_is_smooth_compact_and_a_correlation():
    r = torch.linspace(0, 3, 3001, dtype=torch.float64)
    taper = gaspari_cohn(r, 1.0)
    assert taper[0] == 1
    assert (taper[r >= 2] == 0).all()
    assert taper.diff().abs().max() < 2e-3  # no jump: slopes stay below 1.3
    assert float(gaspari_cohn(torch.tensor([1.0]), 1.0)) == pytest.approx(5 / 24)
    places = torch.rand(300, 2, generator=generator(8), dtype=torch.float64) * 4
    matrix = gaspari_cohn(torch.cdist(places, places), 1.0)
    assert torch.linalg.eigvalsh(matrix).min() > -1e-10


def test_observations_lie_where_their_operator_looks():
    grid = Grid(np.arange(8.0), np.arange(8.0), "plane", "1", (True, True))
    state = torch.zeros(1, 8, 8)
    rows = jacobian(BlockAverage(4), state, 4)
    places = Places.of(rows, grid)
    np.testing.assert_allclose(places.y, [1.5, 1.5, 5.5, 5.5], atol=1e-6)
    np.testing.assert_allclose(places.x, [1.5, 5.5, 1.5, 5.5], atol=1e-6)
    seam = PointSampling(torch.tensor([7.5]), torch.tensor([2.0]), torch.tensor([0]), (True, True))
    place = Places.of(jacobian(seam, state, 1), grid)
    assert float(place.y) == pytest.approx(7.5)
    first = Places(torch.tensor([0.0]).double(), torch.tensor([2.0]).double())
    assert float(place.distance(first, grid)) == pytest.approx(0.5)
