"""Exact inference against conditioning one large Gaussian."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from assimilation.systems.linear_gaussian import LinearGaussian, LinearGaussianChain


def positive(draw: torch.Generator, size: int) -> torch.Tensor:
    root = torch.randn(size, size, generator=draw, dtype=torch.float64)
    return root @ root.T / size + 0.1 * torch.eye(size, dtype=torch.float64)


def some_chain(draw: torch.Generator, size: int = 3, frames: int = 6) -> LinearGaussianChain:
    A = torch.randn(size, size, generator=draw, dtype=torch.float64)
    A = 0.9 * A / torch.linalg.matrix_norm(A, 2)
    return LinearGaussianChain(A, positive(draw, size), positive(draw, size), frames)


def conditioned(chain, y, H, R, seen_frames):
    """Mean and covariance of all frames given the rows of y up to ``seen_frames``, by dense algebra."""
    mean, joint = chain.covariance()
    size = chain.A.shape[0]
    rows, values, errors = [], [], []
    for f in range(seen_frames):
        for i in range(y.shape[1]):
            if not torch.isnan(y[f, i]):
                row = torch.zeros(chain.frames * size, dtype=torch.float64)
                row[f * size : (f + 1) * size] = (H if H.ndim == 2 else H[f])[i]
                rows.append(row)
                values.append(y[f, i])
                errors.append((f, i))
    if not rows:
        return mean, joint
    big = torch.stack(rows)
    noise = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    for a, (f, i) in enumerate(errors):
        for b, (g, j) in enumerate(errors):
            if f == g:
                noise[a, b] = (R if R.ndim == 2 else R[f])[i, j]
    gain = joint @ big.T @ torch.linalg.inv(big @ joint @ big.T + noise)
    flat = mean.flatten() + gain @ (torch.stack(values) - big @ mean.flatten())
    return flat.reshape(mean.shape), joint - gain @ big @ joint


@given(seed=st.integers(0, 2**16), lag=st.sampled_from([0, 1, 3, None]), per_frame=st.booleans())
@settings(max_examples=25, deadline=None)
def test_every_lag_is_dense_conditioning(seed, lag, per_frame):
    draw = torch.Generator().manual_seed(seed)
    chain = some_chain(draw)
    lead = (6,) if per_frame else ()
    H = torch.randn((*lead, 2, 3), generator=draw, dtype=torch.float64)
    R = torch.stack([positive(draw, 2) for _ in range(6)]) if per_frame else positive(draw, 2)
    y = torch.randn(6, 2, generator=draw, dtype=torch.float64)
    y[torch.rand(6, 2, generator=draw) < 0.3] = torch.nan
    y[2] = torch.nan
    got = chain.fixed_lag(y, H, R, lag=lag)
    same = chain.kalman_filter(y, H, R) if lag == 0 else chain.rts_smoother(y, H, R)
    for f in range(6):
        seen = 6 if lag is None else min(6, f + lag + 1)
        mean, covariance = conditioned(chain, y, H, R, seen)
        # Condition numbers stay below about 1e4 here, so float64 keeps eleven digits.
        torch.testing.assert_close(got.means[f], mean[f], rtol=1e-9, atol=1e-9)
        block = covariance[3 * f : 3 * f + 3, 3 * f : 3 * f + 3]
        torch.testing.assert_close(got.covariances[f], block, rtol=1e-9, atol=1e-9)
        if lag in (0, None):
            torch.testing.assert_close(same.means[f], got.means[f])


def test_samples_have_the_stated_covariance():
    chain = some_chain(torch.Generator().manual_seed(1), frames=4)
    count = 40_000
    x = chain.sample(count, torch.Generator().manual_seed(2)).flatten(1)
    _, joint = chain.covariance()
    deviation = joint.diagonal().sqrt()
    # A sample covariance errs by about sqrt((c_ij^2 + c_ii c_jj) / n); five of those over 144 entries.
    bound = 5 * torch.sqrt((joint**2 + deviation[:, None] ** 2 * deviation**2) / count)
    assert ((x.T @ x / count - joint).abs() < bound).all()


class TestSystem:
    def test_it_is_the_chain_it_says(self):
        system, draw = LinearGaussian(size=8), torch.Generator().manual_seed(3)
        chain, count = system.chain(2), 30_000
        state = system.initial(count, draw, dtype=torch.float64)
        pair = torch.cat([state, system.step(state, draw)], dim=-1)[:, 0, 0]
        _, joint = chain.covariance()
        deviation = joint.diagonal().sqrt()
        bound = 5 * torch.sqrt((joint**2 + deviation[:, None] ** 2 * deviation**2) / count)
        assert ((pair.T @ pair / count - joint).abs() < bound).all()

    @pytest.mark.parametrize("size", [3, 32])
    def test_it_is_stable_and_stationary(self, size):
        chain = LinearGaussian(size=size, deviation=2.0).chain(1)
        assert torch.linalg.eigvals(chain.A).abs().max() < 1
        assert torch.linalg.eigvalsh(chain.Q).min() > 0
        torch.testing.assert_close(chain.A @ chain.P0 @ chain.A.T + chain.Q, chain.P0)
        assert chain.P0[1, 1] == pytest.approx(4.0)


def test_smoothing_never_knows_less():
    system = LinearGaussian(size=12)
    chain = system.chain(10)
    H = torch.eye(12, dtype=torch.float64)[::3]
    R = 0.1 * torch.eye(4, dtype=torch.float64)
    y = torch.from_numpy(np.random.default_rng(0).normal(size=(10, 4)))
    total = [
        chain.fixed_lag(y, H, R, lag=lag).covariances.diagonal(dim1=1, dim2=2).sum(1)
        for lag in (0, 1, 3, None)
    ]
    for less, more in itertools.pairwise(total):
        assert (more <= less + 1e-12).all()
    assert total[-1][0] < 0.9 * total[0][0]
