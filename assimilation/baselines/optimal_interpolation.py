"""Optimal interpolation: the best linear estimate from climatology and the observations of a few frames.

    x_t = c + sum_j C_{tj} H_j^T w_j,    w = (S + R)^{-1} (y - H c),    S_ij = H_i C_ij H_j^T,   C_ij = Cov(x_i, x_j)

over the frames j of a window around t: ``before`` earlier ones and ``after`` later ones (0 for filtering). It is
the exact posterior mean of a stationary Gaussian process, which need not separate in space and time. Members are
draws of its posterior (Matheron's rule): a draw of the process, observed with a draw of the errors, is corrected like
the mean.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from assimilation.baselines.climatology import Climatology, climatology
from assimilation.baselines.covariance import StationaryCovariance, stationary
from assimilation.baselines.localisation import jacobian
from assimilation.fields.fields import Ensemble, Fields
from assimilation.observation.base import Observation, ObservationOperator, ObservationStream
from priors.runtime.system.seeds import generator_of


@dataclass(frozen=True, eq=False)
class _Seen:
    """The observations of one frame: operator, rows of H, y - H c, and R."""

    operator: ObservationOperator
    rows: Float[Tensor, "n k y x"]
    innovation: Float[Tensor, "n"]
    variance: Float[Tensor, "n"]


@dataclass(frozen=True, eq=False)
class OptimalInterpolation:
    """A Gaussian process with the training data's statistics.

    Attributes:
        climate: mean and deviation.
        covariance: C of ``before + after + 1`` frames.
        before: earlier frames whose observations are used.
        after: later frames.
    """

    climate: Climatology
    covariance: StationaryCovariance
    before: int = 0
    after: int = 0

    @staticmethod
    def fitted(training: Fields, *, before: int = 0, after: int = 0) -> "OptimalInterpolation":
        """Return the interpolation with statistics of training fields, whose frames are the stream's step apart."""
        climate = climatology(training)
        covariance = stationary(training, climate, frames=before + after + 1)
        return OptimalInterpolation(climate, covariance, before, after)

    def run(self, stream: ObservationStream, *, members: int, seed: int) -> Ensemble:
        """Return the analysis of every time of every trajectory; a single member is the posterior mean.

        Args:
            stream: with linear observation operators.
            members: of the posterior.
            seed: of the draws.
        """
        generator = generator_of(seed)
        analyses = []
        for trajectory in range(stream.trajectories):
            seen: dict[int, _Seen | None] = {}
            states = []
            for index, time in enumerate(stream.times):
                window = range(max(index - self.before, 0), min(index + self.after + 1, stream.times.size))
                for frame in window:
                    if frame not in seen:
                        seen[frame] = self._seen(stream.at(trajectory, frame), stream.times[frame])
                seen = {frame: one for frame, one in seen.items() if frame >= window.start}
                # By position in the window the covariance is for; frame ``index`` is at ``before``.
                observed = {
                    frame - index + self.before: one for frame in window if (one := seen[frame]) is not None
                }
                mean = torch.from_numpy(self.climate.at(time))
                states.append(self._analysis(mean, observed, members=members, generator=generator))
            analyses.append(np.stack(states, axis=1))
        return Ensemble(np.stack(analyses), stream.times, stream.variables, stream.grid, {})

    def _seen(self, observation: Observation | None, time: np.datetime64) -> _Seen | None:
        """Return what the update needs of one frame."""
        if observation is None:
            return None
        mean = torch.from_numpy(self.climate.at(time))
        rows = jacobian(observation.operator, mean, observation.values.shape[0])
        innovation = observation.values.double() - observation.operator(mean)
        return _Seen(observation.operator, rows, innovation, observation.variance.double())

    def _analysis(
        self,
        mean: Float[Tensor, "k y x"],
        observed: dict[int, _Seen],
        *,
        members: int,
        generator: torch.Generator,
    ) -> np.ndarray:
        """Return the members of one time, float32."""
        frames = self.before + self.after + 1
        draws = torch.zeros(1, frames, *mean.shape, dtype=torch.float64)
        if members > 1:
            draws = self.covariance.draw(members, generator)
        result = mean + draws[:, self.before]
        if observed:
            result = result + self._correction(draws, observed, generator=generator)
        return np.asarray(result.float().numpy())

    def _correction(
        self, draws: Float[Tensor, "m f k y x"], observed: dict[int, _Seen], *, generator: torch.Generator
    ) -> Float[Tensor, "m k y x"]:
        """Return C H^T (S + R)^{-1} (innovations less what the draws would have shown)."""
        blocks: dict[tuple[int, int], Tensor] = {}
        for (a, one), (b, other) in product(observed.items(), observed.items()):
            if a >= b:
                blocks[a, b] = one.operator(self.covariance.apply(other.rows, a, b)).T
                # S is symmetric.
                blocks[b, a] = blocks[a, b].T
        lines = [torch.cat([blocks[a, b] for b in observed], dim=1) for a in observed]
        matrix = torch.cat(lines) + torch.diag(torch.cat([one.variance for one in observed.values()]))
        innovations = []
        for a, one in observed.items():
            shown = one.operator(draws[:, a])
            if len(draws) > 1:
                noise = torch.randn(shown.shape, generator=generator, dtype=shown.dtype)
                shown = shown + noise * one.variance.sqrt()
            innovations.append(one.innovation - shown)
        weights = torch.linalg.solve(matrix, torch.cat(innovations, dim=1).T)
        gains = [self.covariance.apply(one.rows, self.before, a).flatten(1) for a, one in observed.items()]
        correction: Tensor = (weights.T @ torch.cat(gains)).reshape(draws[:, 0].shape)
        return correction
