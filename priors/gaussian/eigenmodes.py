r"""Spatial modes and their covariances in time, from the trajectories a prior trains on.

A few weeks hold a few dozen independent fields: their sample covariance C_0 = mean of a a^T says too much about
large patterns and nothing of the rest. It is mixed with a stationary one of the same deviations d,

    C = (1 - w) C_0 + w diag(d) R diag(d) + s^2 1 1^T,    R_pq = rho(p - q)

rho the correlation by displacement, estimated by FFT and tapered; s is the deviation of the constant that
training adds to whole windows (``shift``). The leading eigenvectors of C are the modes. In time a mode keeps its
sample's autocorrelation, estimated with one divisor for all lags, which makes every Toeplitz matrix of it positive
semi-definite; the constant has correlation one. What the modes leave of a pixel has the mean autocorrelation.

The mixing follows Ledoit and Wolf (J. Multivariate Anal. 88, 2004, 365) in form; the weight is given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from priors.gaussian.linear_filter import EigenFilter
from priors.gaussian.stationary import stationary_correlation
from priors.runtime.errors import InputError

Series = Float[Tensor, "t p"]


@dataclass(frozen=True)
class Eigenmodes:
    """What an `EigenFilter` holds."""

    mean: Float[Tensor, "p"]
    basis: Float[Tensor, "m p"]
    table: Float[Tensor, "m1 lags"]

    def put(self, into: EigenFilter) -> None:
        """Copy the numbers into a filter."""
        into.mean.copy_(self.mean)
        into.basis.copy_(self.basis)
        into.table.copy_(self.table)


def eigenmodes(
    trajectories: Sequence[Float[Tensor, "t k y x"]],
    *,
    modes: int,
    lags: int,
    mixing: float = 0.3,
    shift: Sequence[float] = (),
) -> Eigenmodes:
    """Return the modes of trajectories in network units, float64.

    Args:
        trajectories: of the training data.
        modes: how many.
        lags: of the covariances in time, 0 included.
        mixing: w, the stationary share of the spatial covariance.
        shift: s by variable, network units.

    Raises:
        InputError: a value is missing.
    """
    fields = [field.double() for field in trajectories]
    if not all(bool(torch.isfinite(field).all()) for field in fields):
        raise InputError("network.modes: found missing values in the training data, expected none")
    shape = fields[0].shape[1:]
    mean = torch.cat(fields).mean(0)
    anomalies = [field - mean for field in fields]
    constants = _constants(shape, shift)
    series = [field.flatten(1) for field in anomalies]
    samples = torch.cat(series)
    sample = samples.T @ samples / len(samples)
    deviation = sample.diagonal().clamp(min=1e-12).sqrt()
    correlation = stationary_correlation(torch.cat(anomalies) / deviation.reshape(shape))
    smooth = deviation[:, None] * correlation.matrix(*shape[1:]) * deviation
    covariance = (1 - mixing) * sample + mixing * smooth
    vectors = torch.linalg.eigh(covariance + constants.T @ constants)[1]
    basis = vectors.T.flip(0)[:modes].contiguous()
    return Eigenmodes(mean.flatten(), basis, _table(series, basis, covariance, constants, lags))


def _table(
    series: Sequence[Series], basis: Tensor, covariance: Tensor, constants: Float[Tensor, "k p"], lags: int
) -> Float[Tensor, "m1 lags"]:
    """Return the covariance in time of every mode, and of a pixel's rest."""
    amplitudes = [anomalies @ basis.T for anomalies in series]
    rest = [anomalies - projected @ basis for anomalies, projected in zip(series, amplitudes, strict=True)]
    variance = ((basis @ covariance) * basis).sum(1)
    left = (covariance.trace() - variance.sum()).clamp(min=1e-12) / max(1, basis.shape[1] - len(basis))
    steady = (basis @ constants.T).square().sum(1, keepdim=True)
    table = variance[:, None] * _autocorrelation(amplitudes, lags) + steady
    mean = _autocovariance(rest, lags).mean(0)
    return torch.cat([table, (left * mean / mean[0].clamp(min=1e-30))[None]])


def _autocovariance(series: Sequence[Series], lags: int) -> Float[Tensor, "p lags"]:
    """Return sums of products over lags, one divisor for all."""
    total = sum(len(anomalies) for anomalies in series)
    covariance = torch.zeros(series[0].shape[1], lags, dtype=torch.float64)
    for anomalies in series:
        for lag in range(min(lags, len(anomalies))):
            covariance[:, lag] += (anomalies[lag:] * anomalies[: len(anomalies) - lag]).sum(0) / total
    return covariance


def _autocorrelation(series: Sequence[Series], lags: int) -> Float[Tensor, "p lags"]:
    covariance = _autocovariance(series, lags)
    return covariance / covariance[:, :1].clamp(min=1e-30)


def _constants(shape: torch.Size, shift: Sequence[float]) -> Float[Tensor, "k p"]:
    """Return the field each variable's constant adds, times its deviation."""
    fields = torch.zeros(shape[0], *shape, dtype=torch.float64)
    for channel, size in enumerate(shift):
        fields[channel, channel] = size
    return fields.flatten(1)
