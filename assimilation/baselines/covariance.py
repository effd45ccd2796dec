"""Stationary covariances: the correlation of two points depends on their displacement only.

    B(p, q) = s_p c(p - q) s_q        s: standard deviation of each point (climatology)

c is estimated from standardised anomalies z of training fields as the mean of z_p z_{p+d} over points and samples
(both computed by FFT, with missing values left out), tapered to zero at displacements of the whole domain along
axes that are not periodic, and made positive definite by clipping its spectrum at zero. Products with B and draws
of N(0, B) are then two FFTs each, exact on the grid because non-periodic axes are embedded in twice their length.
Variables are taken as uncorrelated with each other. Time separates: the correlation of frames j steps apart is
rho_j c, rho from the same anomalies.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from assimilation.baselines.climatology import Climatology
from assimilation.fields.fields import Fields
from priors.gaussian.stationary import stationary_correlation

# A point whose deviation is below this share of the largest one is standardised with that share: dry corners.
LEAST_DEVIATION = 1e-2


@dataclass(frozen=True, eq=False)
class StationaryCovariance:
    """B = diag(s) C diag(s).

    Attributes:
        spectrum: eigenvalues of the circulant that embeds C, real transform of the padded grid.
        padded: size of that grid.
        deviation: s, physical units.
    """

    spectrum: Float[Tensor, "k py px2"]
    padded: tuple[int, int]
    deviation: Float[Tensor, "k y x"]

    def apply(self, fields: Float[Tensor, "*b k y x"]) -> Float[Tensor, "*b k y x"]:
        """Return B v."""
        return self.deviation * self._filtered(self.deviation * fields, self.spectrum)

    def draw(self, count: int, generator: torch.Generator) -> Float[Tensor, "b k y x"]:
        """Return draws of N(0, B)."""
        shape = (count, self.spectrum.shape[0], *self.padded)
        white = torch.randn(shape, generator=generator, dtype=self.deviation.dtype)
        return self.deviation * self._filtered(white, self.spectrum.sqrt())

    def _filtered(self, fields: Tensor, spectrum: Tensor) -> Tensor:
        rows, columns = self.deviation.shape[-2:]
        waves = spectrum * torch.fft.rfft2(fields, s=self.padded)
        filtered: Tensor = torch.fft.irfft2(waves, s=self.padded)[..., :rows, :columns]
        return filtered


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


def stationary(training: Fields, climate: Climatology) -> StationaryCovariance:
    """Return the covariance estimated from training fields, with the deviations of the first time's hour."""
    scaled = torch.from_numpy(anomalies(training, climate)).flatten(0, 1)
    correlation = stationary_correlation(scaled, periodic=training.grid.periodic)
    deviation = torch.from_numpy(floored(climate.deviation_at(training.times[0])))
    return StationaryCovariance(correlation.spectrum, correlation.padded, deviation)


def time_correlation(training: Fields, climate: Climatology, longest: int) -> Float[np.ndarray, "lags"]:
    """Return rho_0 = 1, rho_1, ... rho_longest; lags the training has no pairs for are 0."""
    scaled = anomalies(training, climate)
    found = np.zeros(longest + 1)
    for lag in range(min(longest + 1, scaled.shape[1])):
        product = scaled[:, lag:] * scaled[:, : scaled.shape[1] - lag]
        found[lag] = np.nanmean(product)
    return np.asarray(found / found[0])
