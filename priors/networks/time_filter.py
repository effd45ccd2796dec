r"""The best linear estimate of a pixel from its own past and future: what a network need not learn.

Let a pixel's values in time be Gaussian with mean zero and stationary covariance c(lag). Of frame i the frames j in
V(i) are visible, as y_j = alpha_j x_j + sigma_j z_j. Then

    E[x_i | y] = sum_j w_ij y_j,    w_i (A C_VV A + S) = C_iV A,    A = diag(alpha), S = diag(sigma^2)

Frames of pure noise weigh nothing, a clean frame just before i nearly everything. Slowly varying fields (hourly
temperature) are almost all in this estimate; a network that begins as zero learns what is left. Written for
the velocity parametrisation of variance-preserving schedules, alpha^2 + sigma^2 = 1:

    v = alpha z - sigma x = (alpha x_t - x) / sigma
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


def is_covariance(values: tuple[float, ...], *, frames: int) -> bool:
    """Tell whether c(0), c(1), ..., zero beyond, make a positive definite matrix of that many frames."""
    table = torch.zeros(max(frames, len(values)), dtype=torch.float64)
    table[: len(values)] = torch.tensor(values, dtype=torch.float64)
    lag = torch.arange(frames)
    smallest = torch.linalg.eigvalsh(table[(lag[:, None] - lag).abs()])[0]
    return bool(smallest > 0)


class TimeFilter(nn.Module):
    """Linear estimation along time, per pixel.

    Args:
        covariance: c(0), c(1), ... in network units; zero beyond. Estimated with one divisor for all lags it is
            positive semi-definite.
    """

    covariance: Tensor

    def __init__(self, covariance: tuple[float, ...]) -> None:
        super().__init__()
        table = torch.tensor(covariance, dtype=torch.float64)
        self.register_buffer("covariance", table, persistent=False)

    def estimate(
        self,
        pixels: Float[Tensor, "b g p"],
        log_ratio: Float[Tensor, "b g"],
        visible: Bool[Tensor, "... f g"],
    ) -> Float[Tensor, "b f p"]:
        """Return E[x] of the last f frames.

        Args:
            pixels: noisy frames y.
            log_ratio: log(sigma / alpha) of each.
            visible: V(i), for all samples or for each.
        """
        gains = self.gains(log_ratio, visible)
        return gains.to(pixels.dtype) @ pixels

    def gains(
        self, log_ratio: Float[Tensor, "b g"], visible: Bool[Tensor, "... f g"]
    ) -> Float[Tensor, "b f g"]:
        """Return the weights w, float64."""
        ratio = log_ratio.double().exp()
        alpha = torch.rsqrt(1 + ratio**2)
        total = log_ratio.shape[1]
        place = torch.arange(total, device=log_ratio.device)
        lag = (place[:, None] - place).abs()
        table = self.covariance.to(log_ratio.device)
        c = torch.where(lag < len(table), table[lag.clamp(max=len(table) - 1)], 0.0)
        seen = visible.double().expand(len(log_ratio), -1, -1)
        noisy = alpha[:, :, None] * c * alpha[:, None] + torch.diag_embed((alpha * ratio) ** 2)
        # Invisible frames leave the system: their rows and columns become those of the identity.
        pairs = seen[..., None] * seen[..., None, :]
        system = pairs * noisy[:, None] + torch.diag_embed(1 - seen)
        right = seen * alpha[:, None] * c[total - seen.shape[1] :]
        weights: Tensor = torch.linalg.solve(system, right[..., None])[..., 0]
        return weights
