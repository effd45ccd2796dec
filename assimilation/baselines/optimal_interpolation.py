"""Optimal interpolation: the best linear estimate from climatology and the observations of a few frames.

    x = c + sum_j rho_{t-j} B H_j^T w_j,    w = (S + R)^{-1} (y - H c),    S_ij = rho_{i-j} H_i B H_j^T

over the frames j of a window around t: ``before`` earlier ones and ``after`` later ones (0 for filtering). It is
the exact posterior mean of a Gaussian process whose covariance separates in space and time. Members are draws of its
posterior (Matheron's rule): a draw of the process, observed with a draw of the errors, is corrected like the mean.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from assimilation.baselines.climatology import Climatology, climatology
from assimilation.baselines.covariance import StationaryCovariance, stationary, time_correlation
from assimilation.baselines.localisation import jacobian
from assimilation.fields.fields import Ensemble, Fields
from assimilation.observation.base import Observation, ObservationOperator, ObservationStream


@dataclass(frozen=True, eq=False)
class _Seen:
    """The observations of one frame: H, B H^T, and y - H c."""

    operator: ObservationOperator
    gain: Float[Tensor, "n k y x"]
    innovation: Float[Tensor, "n"]
    variance: Float[Tensor, "n"]


@dataclass(frozen=True, eq=False)
class OptimalInterpolation:
    """A Gaussian process with the training data's statistics.

    Attributes:
        climate: mean and deviation.
        covariance: B.
        correlation: rho by lag in frames; lags beyond are taken as 0.
        before: earlier frames whose observations are used.
        after: later frames.
    """

    climate: Climatology
    covariance: StationaryCovariance
    correlation: Float[np.ndarray, "lags"]
    before: int = 0
    after: int = 0

    @staticmethod
    def fitted(training: Fields, *, before: int = 0, after: int = 0) -> "OptimalInterpolation":
        """Return the interpolation with statistics of training fields, whose frames are the stream's step apart."""
        climate = climatology(training)
        correlation = time_correlation(training, climate, before + after)
        return OptimalInterpolation(climate, stationary(training, climate), correlation, before, after)

    def run(self, stream: ObservationStream, *, members: int, seed: int) -> Ensemble:
        """Return the analysis of every time of every trajectory; a single member is the posterior mean.

        Args:
            stream: with linear observation operators.
            members: of the posterior.
            seed: of the draws.
        """
        generator = torch.Generator().manual_seed(seed)
        analyses = []
        for trajectory in range(stream.trajectories):
            seen: dict[int, _Seen | None] = {}
            states = []
            for index, time in enumerate(stream.times):
                window = range(max(index - self.before, 0), min(index + self.after + 1, stream.times.size))
                for place in window:
                    if place not in seen:
                        seen[place] = self._seen(stream.at(trajectory, place), stream.times[place])
                seen = {place: part for place, part in seen.items() if place >= window.start}
                chosen = {place: part for place in window if (part := seen[place]) is not None}
                mean = torch.from_numpy(self.climate.at(time))
                states.append(self._analysis(mean, chosen, index, members=members, generator=generator))
            analyses.append(np.stack(states, axis=1))
        return Ensemble(np.stack(analyses), stream.times, stream.variables, stream.grid, {})

    def _seen(self, observation: Observation | None, time: np.datetime64) -> _Seen | None:
        """Return what the update needs of one frame."""
        if observation is None:
            return None
        mean = torch.from_numpy(self.climate.at(time))
        rows = jacobian(observation.operator, mean, observation.values.shape[0])
        innovation = observation.values.double() - observation.operator(mean)
        gain = self.covariance.apply(rows)
        return _Seen(observation.operator, gain, innovation, observation.variance.double())

    def _analysis(
        self,
        mean: Float[Tensor, "k y x"],
        seen: dict[int, _Seen],
        index: int,
        *,
        members: int,
        generator: torch.Generator,
    ) -> np.ndarray:
        """Return the members of one time, float32."""
        frames = [index, *(place for place in seen if place != index)]
        rho = self._rho(np.subtract.outer(frames, frames))
        draws = torch.zeros(1, len(frames), *mean.shape, dtype=torch.float64)
        if members > 1:
            white = self.covariance.draw(members * len(frames), generator)
            values, vectors = torch.linalg.eigh(rho)
            root = vectors * values.clamp(min=0).sqrt()
            draws = torch.einsum("fg,mgkyx->mfkyx", root, white.unflatten(0, (members, len(frames))))
        result = mean + draws[:, 0]
        if seen:
            result = result + self._correction(draws, seen, frames, rho, generator=generator)
        return np.asarray(result.float().numpy())

    def _correction(
        self,
        draws: Float[Tensor, "m f k y x"],
        seen: dict[int, _Seen],
        frames: list[int],
        rho: Float[Tensor, "f f"],
        *,
        generator: torch.Generator,
    ) -> Float[Tensor, "m k y x"]:
        """Return B H^T (S + R)^{-1} (innovations less what the draws would have shown)."""
        places = {place: frames.index(place) for place in seen}
        blocks = [[rho[places[i], places[j]] * seen[i].operator(seen[j].gain).T for j in seen] for i in seen]
        variance = torch.cat([part.variance for part in seen.values()])
        matrix = torch.cat([torch.cat(line, dim=1) for line in blocks]) + torch.diag(variance)
        told = []
        for place, part in seen.items():
            shown = part.operator(draws[:, places[place]])
            if len(draws) > 1:
                noise = torch.randn(shown.shape, generator=generator, dtype=shown.dtype)
                shown = shown + noise * part.variance.sqrt()
            told.append(part.innovation - shown)
        weights = torch.linalg.solve(matrix, torch.cat(told, dim=1).T)
        gains = [rho[0, places[place]] * part.gain.flatten(1) for place, part in seen.items()]
        correction: Tensor = (weights.T @ torch.cat(gains)).reshape(draws[:, 0].shape)
        return correction

    def _rho(self, lags: np.ndarray) -> Float[Tensor, "f f"]:
        """Return the correlation of frames, as a positive semidefinite matrix."""
        held = np.append(self.correlation, 0.0)
        matrix = torch.from_numpy(held[np.minimum(np.abs(lags), held.size - 1)])
        values, vectors = torch.linalg.eigh(matrix)
        matrix = (vectors * values.clamp(min=0)) @ vectors.T
        scale = matrix.diagonal().rsqrt()
        unit: Tensor = scale[:, None] * matrix * scale
        return unit
