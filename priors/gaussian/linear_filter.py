r"""The best linear estimate from all visible frames at their noise levels: what a network need not learn.

A network that adds to it begins as the exact denoiser of a Gaussian process (see `priors.gaussian.modes`) and learns
what is left. Two processes:

    TimeFilter     every pixel on its own, with one covariance in time
    EigenFilter    spatial modes phi_m (empirical orthogonal functions of the training data), each with its own
                   covariance in time, and one more for what the modes leave of a pixel:

        x = mean + sum_m phi_m a_m + (1 - sum_m phi_m phi_m^T) r

Frames of pure noise weigh nothing, a clean frame just before i nearly everything. Written for the velocity
parametrisation of variance-preserving schedules, alpha^2 + sigma^2 = 1:

    v = alpha z - sigma x = (alpha x_t - x) / sigma
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from priors.gaussian.modes import Covariance, gains, posterior

Pixels = Float[Tensor, "b g p"]
Estimates = Float[Tensor, "b f p"]


class LinearFilter(nn.Module, ABC):
    """Interface: linear estimation from frames of pixels."""

    def estimate(
        self, pixels: Pixels, log_ratio: Float[Tensor, "b g"], visible: Bool[Tensor, "... f g"]
    ) -> Estimates:
        """Return E[x] of the last f frames.

        Args:
            pixels: noisy frames y.
            log_ratio: log(sigma / alpha) of each.
            visible: V(i), for all samples or for each.
        """
        if visible.ndim == 2 and bool((log_ratio == log_ratio[:1]).all()):
            return self._estimate(pixels, log_ratio[0], visible)
        each = visible if visible.ndim == 3 else visible.expand(len(pixels), -1, -1)
        samples = zip(pixels.split(1), log_ratio, each, strict=True)
        return torch.cat([self._estimate(*sample) for sample in samples])

    @abstractmethod
    def _estimate(
        self, pixels: Pixels, log_ratio: Float[Tensor, "g"], visible: Bool[Tensor, "f g"]
    ) -> Estimates:
        """Return the estimate of samples that share levels and visibility."""

    @abstractmethod
    def spread(self, ratio: Float[Tensor, "f"], past: int) -> Covariance | None:
        """Return the covariance of the frames in flight after ``past`` clean ones, None if it says nothing of space."""


class TimeFilter(LinearFilter):
    """Linear estimation along time, per pixel.

    Args:
        covariance: c(0), c(1), ... in network units; zero beyond. Estimated with one divisor for all lags it is
            positive semi-definite.
    """

    table: Tensor

    def __init__(self, covariance: tuple[float, ...]) -> None:
        super().__init__()
        table = torch.tensor([covariance], dtype=torch.float64)
        self.register_buffer("table", table, persistent=False)

    def _estimate(self, pixels: Pixels, log_ratio: Tensor, visible: Tensor) -> Estimates:
        weights = gains(self.table.to(log_ratio.device), log_ratio, visible)[0]
        return weights.to(pixels.dtype) @ pixels

    def spread(self, ratio: Tensor, past: int) -> None:
        """See `LinearFilter`: pixels of one frame are taken as independent."""


class EigenFilter(LinearFilter):
    """Linear estimation in space and time; its numbers come from training data (`priors.gaussian.eigenmodes`).

    Args:
        modes: spatial modes.
        pixels: of a frame, all variables.
        lags: of the covariances in time, 0 included.
    """

    mean: Tensor
    basis: Tensor
    table: Tensor

    def __init__(self, modes: int, pixels: int, lags: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("basis", torch.zeros(modes, pixels))
        self.register_buffer("table", torch.zeros(modes + 1, lags))

    def _estimate(self, pixels: Pixels, log_ratio: Tensor, visible: Tensor) -> Estimates:
        weights = gains(self.table, log_ratio, visible).to(pixels.dtype)
        alpha = torch.rsqrt(1 + log_ratio.double().exp() ** 2)[:, None].to(pixels)
        anomaly = pixels - alpha * self.mean
        filtered: Tensor = self.mean + self._by_mode(weights, anomaly)
        return filtered

    def _by_mode(self, weights: Float[Tensor, "m f g"], pixels: Pixels) -> Estimates:
        """Return the pixels with a matrix along time applied to every mode and to what the modes leave."""
        amplitudes = pixels @ self.basis.T
        rest = pixels - amplitudes @ self.basis
        moved = torch.einsum("mfg,bgm->bfm", weights[:-1], amplitudes)
        out: Tensor = moved @ self.basis + weights[-1] @ rest
        return out

    def spread(self, ratio: Tensor, past: int) -> Covariance:
        """See `LinearFilter`."""
        covariance = posterior(self.table, ratio, past).to(self.basis.dtype)
        return lambda x: self._by_mode(covariance, x.flatten(2)).reshape(x.shape)
