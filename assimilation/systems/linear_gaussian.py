"""A chain in which everything is Gaussian, so that every posterior is known exactly.

    x_0 ~ N(0, P0),    x_{f+1} = A x_f + N(0, Q),    y_f = H_f x_f + N(0, R_f)

Kalman filter (Kalman 1960), with the prediction (m', P') of frame f:

    S = H P' H^T + R,   K = P' H^T S^{-1},   m = m' + K (y - H m'),   P = (I - K H) P' (I - K H)^T + K R K^T

Smoother (Rauch, Tung, Striebel 1965), backward from a later frame with G = P A^T P'^{-1}:

    m_s = m + G (m_s(next) - m'(next)),   P_s = P + G (P_s(next) - P'(next)) G^T

Started at the last frame it gives reanalysis, at frame f + lag a fixed-lag smoother. All in float64.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from pydantic import Field, PositiveFloat
from scipy.linalg import circulant, solve_discrete_lyapunov
from torch import Tensor

from assimilation.fields.fields import Grid, Variable
from assimilation.systems.base import Draws, System, normal


@dataclass(frozen=True, eq=False)
class Gaussians:
    """One Gaussian per frame."""

    means: Float64[Tensor, "f d"]
    covariances: Float64[Tensor, "f d d"]


@dataclass(frozen=True, eq=False)
class LinearGaussianChain:
    """The chain and its exact inference.

    In all methods ``y`` is (f, n) with NaN where nothing was observed, ``H`` is (n, d) or one per frame
    (f, n, d), ``R`` the error covariance (n, n) or one per frame (f, n, n). Fewer rows of y than ``frames``
    stand for a chain observed so far.

    Attributes:
        A: transition.
        Q: covariance of the model error.
        P0: covariance of the first frame.
        frames: length of the chain.
    """

    A: Float64[Tensor, "d d"]
    Q: Float64[Tensor, "d d"]
    P0: Float64[Tensor, "d d"]
    frames: int

    def covariance(self) -> tuple[Float64[Tensor, "f d"], Float64[Tensor, "fd fd"]]:
        """Return mean and covariance of all frames together; row f * d + i is component i of frame f."""
        size = self.A.shape[0]
        blocks = torch.zeros(self.frames, self.frames, size, size, dtype=torch.float64)
        for f in range(self.frames):
            blocks[f, f] = self.P0 if f == 0 else self.A @ blocks[f - 1, f - 1] @ self.A.T + self.Q
            for later in range(f + 1, self.frames):
                blocks[later, f] = self.A @ blocks[later - 1, f]
                blocks[f, later] = blocks[later, f].T
        joint = blocks.permute(0, 2, 1, 3).reshape(self.frames * size, self.frames * size)
        return torch.zeros(self.frames, size, dtype=torch.float64), joint

    def sample(self, count: int, generator: torch.Generator) -> Float64[Tensor, "n f d"]:
        """Return independent trajectories."""
        first, error = _root(self.P0), _root(self.Q)
        noise = torch.randn(count, self.frames, self.A.shape[0], generator=generator, dtype=torch.float64)
        x = [noise[:, 0] @ first.T]
        for f in range(1, self.frames):
            x.append(x[-1] @ self.A.T + noise[:, f] @ error.T)
        return torch.stack(x, dim=1)

    def kalman_filter(
        self, y: Float64[Tensor, "f n"], H: Float64[Tensor, "..."], R: Float64[Tensor, "..."]
    ) -> Gaussians:
        """Return the law of every frame given the observations up to it."""
        return self._forward(y, H, R)[0]

    def rts_smoother(
        self, y: Float64[Tensor, "f n"], H: Float64[Tensor, "..."], R: Float64[Tensor, "..."]
    ) -> Gaussians:
        """Return the law of every frame given all observations."""
        return self.fixed_lag(y, H, R, lag=None)

    def fixed_lag(
        self,
        y: Float64[Tensor, "f n"],
        H: Float64[Tensor, "..."],
        R: Float64[Tensor, "..."],
        *,
        lag: int | None,
    ) -> Gaussians:
        """Return the law of frame f given the observations of frames 0 to f + lag, None for all of them."""
        filtered, predicted = self._forward(y, H, R)
        count = y.shape[0]
        means, covariances = filtered.means.clone(), filtered.covariances.clone()
        for f in range(count):
            last = count - 1 if lag is None else min(f + lag, count - 1)
            mean, covariance = filtered.means[last], filtered.covariances[last]
            for back in range(last - 1, f - 1, -1):
                held, ahead = filtered.covariances[back], predicted.covariances[back + 1]
                gain = torch.linalg.solve(ahead, self.A @ held).T
                mean = filtered.means[back] + gain @ (mean - predicted.means[back + 1])
                covariance = held + gain @ (covariance - ahead) @ gain.T
            means[f], covariances[f] = mean, covariance
        return Gaussians(means, covariances)

    def _forward(self, y: Tensor, H: Tensor, R: Tensor) -> tuple[Gaussians, Gaussians]:
        """Return filtered and predicted Gaussians."""
        size = self.A.shape[0]
        mean, covariance = torch.zeros(size, dtype=torch.float64), self.P0
        filtered, predicted = [], []
        for f in range(y.shape[0]):
            if f > 0:
                mean, covariance = self.A @ mean, self.A @ covariance @ self.A.T + self.Q
            predicted.append((mean, covariance))
            mean, covariance = _update(
                mean, covariance, y[f], H if H.ndim == 2 else H[f], R if R.ndim == 2 else R[f]
            )
            filtered.append((mean, covariance))
        return _stacked(filtered), _stacked(predicted)


def _update(mean: Tensor, covariance: Tensor, y: Tensor, H: Tensor, R: Tensor) -> tuple[Tensor, Tensor]:
    """Condition a Gaussian on the entries of ``y`` that are no NaN (Joseph form: stays positive)."""
    seen = ~y.isnan()
    y, H, R = y[seen], H[seen], R[seen][:, seen]
    if not len(y):
        return mean, covariance
    gain = torch.linalg.solve(H @ covariance @ H.T + R, H @ covariance).T
    rest = torch.eye(len(mean), dtype=torch.float64) - gain @ H
    return mean + gain @ (y - H @ mean), rest @ covariance @ rest.T + gain @ R @ gain.T


def _stacked(pairs: list[tuple[Tensor, Tensor]]) -> Gaussians:
    means, covariances = zip(*pairs, strict=True)
    return Gaussians(torch.stack(means), torch.stack(covariances))


def _root(covariance: Tensor) -> Tensor:
    """Return a square root of a covariance that may be singular."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp(min=0).sqrt()
    return root


class LinearGaussian(System):
    """A field on a ring that moves, spreads and is damped, with correlated model error; stationary.

    Attributes:
        size: points of the ring.
        damping: factor per frame.
        drift: share of a point's value that moves to its neighbour on the right per frame.
        deviation: of the stationary field.
        reach: correlation length of the model error in points.
        frame: model time between two frames; one unit of model time is one second.
    """

    name: Literal["linear-gaussian"] = "linear-gaussian"
    size: int = Field(32, ge=3)
    damping: float = Field(0.95, gt=0, lt=1)
    drift: float = Field(0.6, ge=0, le=0.9)
    deviation: PositiveFloat = 1.0
    reach: PositiveFloat = 2.0
    frame: PositiveFloat = 1.0

    @property
    def variables(self) -> tuple[Variable, ...]:
        """One value per point."""
        return (Variable("state", "1"),)

    @property
    def grid(self) -> Grid:
        """One row of points."""
        return ring(self.size)

    @property
    def spin_up(self) -> int:
        """None: the start is stationary."""
        return 0

    def chain(self, frames: int) -> LinearGaussianChain:
        """Return the same system as matrices."""
        return LinearGaussianChain(*_matrices(self), frames)

    def start(
        self, count: int, draws: Draws, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "b k y x"]:
        """Return draws from the stationary law."""
        root = _root(self.chain(1).P0)
        return (normal(draws, count, (1, 1, self.size), dtype=torch.float64) @ root.T).to(dtype)

    def step(self, state: Float[Tensor, "b k y x"], draws: Draws) -> Float[Tensor, "b k y x"]:
        """Return A x plus a draw of the model error."""
        chain = self.chain(2)
        noise = normal(draws, state.shape[0], (1, 1, self.size), dtype=torch.float64)
        return (state.double() @ chain.A.T + noise @ _root(chain.Q).T).to(state.dtype)


def ring(size: int) -> Grid:
    """Return a periodic row of points at distance 1."""
    return Grid(np.zeros(1), np.arange(float(size)), "plane", "1", (False, True))


@lru_cache(maxsize=16)
def _matrices(system: LinearGaussian) -> tuple[Tensor, Tensor, Tensor]:
    """Return A, Q and the stationary covariance P0 = A P0 A^T + Q."""
    stay = np.zeros(system.size)
    stay[[-1, 0, 1]] = 0.1, 0.9 - system.drift, system.drift
    A = system.damping * circulant(stay)
    apart = np.arange(system.size)
    apart = np.minimum(apart, system.size - apart)
    # A sum of two exponentials around the ring is a valid covariance at any reach and size.
    correlation = np.exp(-apart / system.reach) + np.exp(-(system.size - apart) / system.reach)
    Q = circulant(correlation)
    P0 = solve_discrete_lyapunov(A, Q)
    scale = system.deviation**2 / P0[0, 0]
    A, Q, P0 = (torch.from_numpy(np.ascontiguousarray(matrix)) for matrix in (A, scale * Q, scale * P0))
    return A, (Q + Q.T) / 2, (P0 + P0.T) / 2
