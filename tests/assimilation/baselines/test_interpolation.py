"""Covariances, optimal interpolation, persistence and advection against dense matrices and known motion."""

import numpy as np
import pytest
import torch

from assimilation.baselines.advection import advected, lagrangian_persistence
from assimilation.baselines.climatology import climatology
from assimilation.baselines.covariance import stationary
from assimilation.baselines.optimal_interpolation import OptimalInterpolation
from assimilation.baselines.persistence import held_observations, persisted
from assimilation.fields.fields import Fields, Grid, Variable
from assimilation.inference.motion import motion
from assimilation.observation.area import BlockAverage
from assimilation.observation.base import Observation, ObservationStream
from assimilation.observation.point import Identity, Selection
from assimilation.systems.base import simulate
from assimilation.systems.linear_gaussian import LinearGaussian
from priors.runtime.errors import InputError

SIZE, SIGMA = 8, 0.3


def grid(periodic):
    axis = np.arange(float(SIZE))
    return Grid(axis, axis, "plane", "1", (periodic, periodic))


def training(periodic=True, count=40, frames=6, seed=0):
    """Return smooth random fields that keep 0.8 of themselves from frame to frame."""
    generator = np.random.default_rng(seed)
    waves = np.exp(
        -0.5 * (np.fft.fftfreq(SIZE, 1 / SIZE)[:, None] ** 2 + np.fft.rfftfreq(SIZE, 1 / SIZE) ** 2)
    )

    def draw():
        white = generator.normal(size=(count, SIZE, SIZE))
        return np.fft.irfft2(waves * np.fft.rfft2(white), s=(SIZE, SIZE)) * 3

    states = [draw()]
    for _ in range(frames - 1):
        states.append(0.8 * states[-1] + 0.6 * draw())
    values = np.stack(states, axis=1)[:, :, None].astype(np.float32) + 5
    times = np.datetime64("2000-01-01", "ns") + np.arange(frames) * np.timedelta64(1, "s")
    return Fields(values, times, (Variable("w", "1"),), grid(periodic))


class Stream(ObservationStream):
    """Twelve points a frame, none at frame 2; or block means."""

    def __init__(self, truth, operator=None):
        self.truth, self.times = truth, truth.times
        self.variables, self.grid, self.trajectories = truth.variables, truth.grid, 1
        self.operator = operator

    def at(self, trajectory, index):
        if index == 2:
            return None
        draws = torch.Generator().manual_seed(index)
        operator = self.operator or Selection(Identity(), torch.randperm(SIZE * SIZE, generator=draws)[:12])
        clean = operator(torch.from_numpy(self.truth.values[trajectory, index]))
        values = clean + SIGMA * torch.randn(clean.shape, generator=draws)
        return Observation(values, torch.full(clean.shape, SIGMA**2), operator)


@pytest.mark.parametrize("periodic", [True, False])
def test_products_and_draws_are_those_of_one_dense_positive_matrix(periodic):
    fields = training(periodic)
    covariance = stationary(fields, climatology(fields))
    unit = torch.eye(SIZE * SIZE, dtype=torch.float64).reshape(-1, 1, SIZE, SIZE)
    dense = covariance.apply(unit).flatten(1)
    torch.testing.assert_close(dense, dense.T, atol=1e-12, rtol=0)
    assert torch.linalg.eigvalsh(dense).min() > -1e-10
    variance = torch.from_numpy(climatology(fields).deviation[0]).flatten() ** 2
    torch.testing.assert_close(dense.diagonal(), variance, rtol=1e-9, atol=0)
    draws = covariance.draw(20_000, torch.Generator().manual_seed(0))[:, 0].flatten(1)
    # 64 x 64 sample covariances of 20,000 draws: errors of a few times variance / sqrt(20000).
    torch.testing.assert_close(torch.cov(draws.T), dense, atol=5 * float(variance.max()) / 141, rtol=0)


def test_the_estimate_finds_the_correlations_of_the_training_fields():
    fields = training(count=400)
    climate = climatology(fields)
    covariance = stationary(fields, climate)
    unit = torch.zeros(1, SIZE, SIZE, dtype=torch.float64)
    unit[0, 0, 0] = 1
    found = covariance.apply(unit)[0] / covariance.deviation[0] / covariance.deviation[0, 0, 0]
    z = (fields.values[:, :, 0] - climate.mean[0, 0]) / climate.deviation[0, 0]
    for j, i in [(0, 1), (2, 0), (3, 3)]:
        expected = (z * np.roll(z, (-j, -i), axis=(2, 3))).mean()
        assert float(found[j, i]) == pytest.approx(expected, abs=1e-3)
    later = stationary(fields, climate, frames=3)
    unit = torch.eye(SIZE * SIZE, dtype=torch.float64).reshape(-1, 1, SIZE, SIZE)
    variance = [float(later.apply(unit, a, 0).flatten(1).diagonal().mean()) for a in range(3)]
    np.testing.assert_allclose(np.array(variance) / variance[0], [1, 0.8, 0.64], atol=0.03)


@pytest.mark.parametrize(("before", "after"), [(0, 0), (2, 1)])
@pytest.mark.parametrize("operator", [None, BlockAverage(2)], ids=["points", "blocks"])
def test_interpolation_is_the_dense_gaussian_posterior(before, after, operator):
    fields = training()
    stream = Stream(training(count=1, seed=7), operator)
    method = OptimalInterpolation.fitted(fields, before=before, after=after)
    mean = method.run(stream, members=1, seed=0).members[0, 0, :, 0]
    index = 3
    frames = [f for f in range(index - before, index + after + 1) if f != 2]
    unit = torch.eye(SIZE * SIZE, dtype=torch.float64).reshape(-1, 1, SIZE, SIZE)
    at = [f - index + before for f in frames]
    seen = [stream.at(0, f) for f in frames]
    H = [o.operator(unit.float()).T.double().numpy() for o in seen]

    def block(a, b):
        # Row i of what apply returns is the covariance times the i-th unit vector: its column.
        return method.covariance.apply(unit, a, b).flatten(1).T.numpy()

    S = np.block(
        [[h @ block(a, b) @ g.T for b, g in zip(at, H, strict=True)] for a, h in zip(at, H, strict=True)]
    )
    c = method.climate.mean[0].ravel()
    y = np.concatenate([o.values.numpy() - h @ c for o, h in zip(seen, H, strict=True)])
    weights = np.linalg.solve(S + SIGMA**2 * np.eye(len(y)), y)
    cross = np.concatenate([block(before, a) @ h.T for a, h in zip(at, H, strict=True)], 1)
    # The stream and the state are single precision.
    np.testing.assert_allclose(mean[index].ravel(), c + cross @ weights, atol=2e-4)


class RingStream(ObservationStream):
    """Every fourth point of a ring."""

    def __init__(self, truth, points):
        self.truth, self.times, self.points = truth, truth.times, torch.arange(0, points, 4)
        self.variables, self.grid, self.trajectories = truth.variables, truth.grid, len(truth.values)

    def at(self, trajectory, index):
        clean = torch.from_numpy(self.truth.values[trajectory, index]).flatten()[self.points]
        noise = torch.randn(len(clean), generator=torch.Generator().manual_seed(100 * trajectory + index))
        return Observation(
            clean + SIGMA * noise, torch.full(clean.shape, SIGMA**2), Selection(Identity(), self.points)
        )


@pytest.mark.parametrize("before", [2, 4])
def test_on_a_drifting_ring_interpolation_is_as_good_as_the_exact_linear_estimate(before):
    points, system = 16, LinearGaussian(size=16)
    fitted = OptimalInterpolation.fitted(simulate(system, trajectories=400, frames=10, seed=0), before=before)
    truth = simulate(system, trajectories=60, frames=before + 1, seed=1)
    stream = RingStream(truth, points)
    last = fitted.run(stream, members=1, seed=0).members[:, 0, -1].reshape(len(truth.values), -1)
    _, C = system.chain(before + 1).covariance()
    rows = torch.cat([f * points + stream.points for f in range(before + 1)])
    S = C[rows][:, rows] + SIGMA**2 * torch.eye(len(rows), dtype=torch.float64)
    y = torch.stack(
        [torch.cat([stream.at(n, f).values for f in range(before + 1)]) for n in range(len(last))]
    )
    exact = (C[-points:, rows] @ torch.linalg.solve(S, y.double().T)).T.numpy()
    states = truth.values[:, -1].reshape(len(last), -1)
    ours, best = (float(np.sqrt(((x - states) ** 2).mean())) for x in (last, exact))
    # The covariance is estimated from 4000 states: 5 of 16 independent patterns each, errors of about a percent.
    assert ours < 1.02 * best


def test_members_are_draws_of_the_posterior():
    fields = training()
    stream = Stream(training(count=1, seed=7))
    method = OptimalInterpolation.fitted(fields, before=1)
    members = method.run(stream, members=3000, seed=0).members[0, :, 0, 0].reshape(3000, -1)
    mean = method.run(stream, members=1, seed=0).members[0, 0, 0, 0].ravel()
    observation = stream.at(0, 0)
    unit = torch.eye(SIZE * SIZE, dtype=torch.float64).reshape(-1, 1, SIZE, SIZE)
    B = method.covariance.apply(unit, 1, 1).flatten(1).numpy()
    H = observation.operator(unit.float()).T.double().numpy()
    P = B - B @ H.T @ np.linalg.solve(H @ B @ H.T + SIGMA**2 * np.eye(len(H)), H @ B)
    error = np.sqrt(B.max() / 3000)
    np.testing.assert_allclose(members.mean(0), mean, atol=5 * error)
    np.testing.assert_allclose(np.cov(members.T), P, atol=6 * B.max() / np.sqrt(3000))


def test_held_observations_keep_the_last_value_seen():
    truth = training(count=1, seed=3)
    stream = Stream(truth)
    held = held_observations(stream).members[0, 0, :, 0].reshape(len(truth.times), -1)
    last = np.full(SIZE * SIZE, np.nan)
    for index in range(len(truth.times)):
        observation = stream.at(0, index)
        if observation is not None:
            last[observation.operator.index.numpy()] = observation.values.numpy()
        seen = np.flatnonzero(np.isfinite(last))
        np.testing.assert_allclose(held[index][seen], last[seen], atol=1e-5)
        for point in np.flatnonzero(np.isnan(last)):
            gaps = np.hypot(point // SIZE - seen // SIZE, point % SIZE - seen % SIZE)
            nearest = last[seen[np.isclose(gaps, gaps.min())]]
            assert np.abs(held[index][point] - nearest).min() < 1e-5
    blocks = held_observations(Stream(truth, BlockAverage(2))).members[0, 0, 0, 0]
    expected = Stream(truth, BlockAverage(2)).at(0, 0).values.reshape(4, 4).numpy()
    np.testing.assert_allclose(blocks, np.kron(expected, np.ones((2, 2))), atol=1e-5)


def blob(centre, size=64):
    y, x = np.mgrid[:size, :size]
    return 8 * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 40)


def test_motion_and_advection_carry_a_shower_on():
    frames = np.stack([blob((20 + 2 * f, 18 + 3 * f)) for f in range(4)]).astype(np.float32)
    velocity = motion(frames)
    assert velocity[:, 26, 27] == pytest.approx([2, 3], abs=0.35)
    moved = advected(frames[-1], np.stack([np.full((64, 64), 2.0), np.full((64, 64), 3.0)]), 4)
    np.testing.assert_allclose(moved[3], blob((34, 39)), atol=1e-5)
    assert (moved[3][:8] == 0).all()


def test_backward_trajectories_follow_a_rotation():
    y, x = np.mgrid[:65, :65] - 32.0
    turn = 2 * np.pi / 40
    velocity = np.stack([turn * x, -turn * y])  # rows grow with x: a rotation about the centre
    state = blob((32, 44), 65)
    moved = advected(state, velocity, 10)[-1]  # a quarter turn
    centre = [float((axis * moved).sum() / moved.sum()) for axis in np.mgrid[:65, :65]]
    # The midpoint rule turns by 10 * turn (1 - turn^2 / 24 ...): some hundredths of a cell at radius 12.
    assert centre == pytest.approx([44, 32], abs=0.3)


def test_lagrangian_persistence_beats_eulerian_on_moving_rain():
    values = np.stack([blob((14 + 2 * f, 14 + 3 * f)) for f in range(8)])[None, :, None].astype(np.float32)
    times = np.datetime64("2000-01-01", "ns") + np.arange(8) * np.timedelta64(600, "s")
    axis = np.arange(64.0)
    fields = Fields(values, times, (Variable("rain", "mm/h"),), Grid(axis, axis, "plane", "km"))
    start, future = fields.select(times=slice(0, 4)), fields.select(times=slice(4, 8))
    eulerian = np.abs(persisted(start, future.times).members[:, 0] - future.values).mean()
    lagrangian = np.abs(lagrangian_persistence(start, future.times).members[:, 0] - future.values).mean()
    assert lagrangian < 0.35 * eulerian
    with pytest.raises(InputError, match="1 frame"):
        lagrangian_persistence(fields.select(times=slice(0, 1)), future.times)


def test_no_rain_at_all_stays_dry():
    dry = np.zeros((3, 32, 32), np.float32)
    assert np.isfinite(motion(dry)).all()
    assert (advected(dry[-1], motion(dry), 3) == 0).all()
