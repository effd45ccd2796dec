"""Stationary covariances: the correlation of two values depends on their displacement in space and time only.

    Cov(x_{t,p}, x_{u,q}) = s_p rho_{t-u}(p - q) s_q        s: standard deviation of each point (climatology)

rho is estimated from standardised anomalies of training fields (`priors.gaussian.stationary`). Space and time are not
taken apart: a pattern that drifts is correlated with where it was, not with where it stood. Products with the
covariance and draws are two FFTs each, exact on the grid because axes that are not periodic are embedded in twice their
length. Variables are taken as uncorrelated with each other.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from assimilation.baselines.climatology import Climatology
from assimilation.fields.fields import Fields
from priors.gaussian.stationary import StationaryCorrelation, space_time_correlation

# A point whose deviation is below this share of the largest one is standardised with that share: dry corners.
LEAST_DEVIATION = 1e-2


@dataclass(frozen=True, eq=False)
class StationaryCovariance:
    """The covariance of consecutive frames, diag(s) rho diag(s).

    Attributes:
        correlation: rho of as many frames as an analysis uses.
        deviation: s, physical units.
    """

    correlation: StationaryCorrelation
    deviation: Float[Tensor, "k y x"]

    def apply(self, fields: Float[Tensor, "*b k y x"], a: int = 0, b: int = 0) -> Float[Tensor, "*b k y x"]:
        """Return Cov(frame a, frame b) times fields."""
        return self.deviation * self.correlation.apply(self.deviation * fields, a, b)

    def draw(self, count: int, generator: torch.Generator) -> Float[Tensor, "b f k y x"]:
        """Return draws of all frames."""
        rows, columns = self.deviation.shape[-2:]
        return self.deviation * self.correlation.draw(count, (rows, columns), generator)


def anomalies(training: Fields, climate: Climatology) -> Float[np.ndarray, "n time k y x"]:
    """Return (x - c) / s of every training field, NaN where missing."""
    scaled = np.empty(training.values.shape)
    for index, time in enumerate(training.times):
        scaled[:, index] = (training.values[:, index] - climate.at(time)) / floored(
            climate.deviation_at(time)
        )
    return scaled


def floored(deviation: Float[np.ndarray, "k y x"]) -> Float[np.ndarray, "k y x"]:
    """Return deviations with a least value per variable, so that anomalies stay finite."""
    largest = np.nanmax(deviation, axis=(-2, -1), keepdims=True)
    return np.asarray(np.fmax(deviation, np.maximum(LEAST_DEVIATION * largest, 1e-12)))


def stationary(training: Fields, climate: Climatology, *, frames: int = 1) -> StationaryCovariance:
    """Return the covariance of ``frames`` frames, with the deviations of the first time's hour."""
    scaled = torch.from_numpy(anomalies(training, climate))
    correlation = space_time_correlation(scaled, frames=frames, periodic=training.grid.periodic)
    deviation = torch.from_numpy(floored(climate.deviation_at(training.times[0])))
    return StationaryCovariance(correlation, deviation)
