r"""Gaussian processes in space and time whose spatial modes are independent: exact estimates and covariances.

    x_i = mean + sum_m phi_m a_m(i),    Cov[a_m(i), a_m(j)] = c_m(|i - j|)

With frames seen as y_j = alpha_j x_j + sigma_j z_j, one noise level per frame, the modes stay independent, and each
is a small problem along time. Of frame i the frames V(i) are visible:

    E[a_i | y] = sum_j w_ij y_j,    w_i (A C_VV A + S^2) = C_iV A,    A = diag(alpha), S = diag(sigma)

Where every V(i) is a beginning 0 .. p_i of the frames (a whole window, or the past), one Cholesky factor
A C A + S^2 = L L^T serves all of them, because the factor of a leading block is the leading block of L:

    w_i = [(C A L^-T) restricted to j <= p_i] L^-1

In u-coordinates (u = y / alpha, s = sigma / alpha) the posterior covariance of the frames in flight, given clean
frames before them, is  V = C - C (C + diag(s^2))^-1 C  (Tweedie: V = w A diag(s^2)).
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Table = Float[Tensor, "m lags"]
Covariance = Callable[[Tensor], Tensor]
"""A covariance as a map on states."""


def is_covariance(values: tuple[float, ...], *, frames: int) -> bool:
    """Tell whether c(0), c(1), ..., zero beyond, make a positive definite matrix of that many frames."""
    table = torch.tensor([values], dtype=torch.float64)
    return bool(torch.linalg.eigvalsh(in_time(table, frames))[0, 0] > 0)


def in_time(table: Table, frames: int) -> Float[Tensor, "m n n"]:
    """Return every mode's covariance of that many frames, float64; lags beyond the table are zero."""
    time = torch.arange(frames, device=table.device)
    lag = (time[:, None] - time).abs()
    padded = torch.nn.functional.pad(table.double(), (0, 1))
    return padded[:, lag.clamp(max=table.shape[1])]


def gains(
    table: Table, log_ratio: Float[Tensor, "g"], visible: Bool[Tensor, "f g"]
) -> Float[Tensor, "m f g"]:
    """Return the weights w of the last f frames, float64.

    Args:
        table: c_m(0), c_m(1), ...
        log_ratio: log(sigma / alpha) of all g frames.
        visible: V(i) of each of the last f.
    """
    ratio = log_ratio.double().exp()
    alpha = torch.rsqrt(1 + ratio**2)
    f, g = visible.shape
    covariance = in_time(table, g)
    noisy = alpha[:, None] * covariance * alpha + torch.diag((alpha * ratio) ** 2)
    right = covariance[:, g - f :] * alpha
    frame = torch.arange(g, device=visible.device)
    if bool((visible == (frame < visible.sum(1, keepdim=True))).all()):
        factor = torch.linalg.cholesky(noisy)
        innovations = torch.linalg.solve_triangular(factor, right.mT, upper=False).mT * visible
        weights: Tensor = torch.linalg.solve_triangular(factor, innovations, upper=False, left=False)
        return weights
    weights = torch.zeros_like(right)
    for row, seen in enumerate(visible):
        visible_frames = seen.nonzero()[:, 0]
        system = noisy[:, visible_frames[:, None], visible_frames]
        weights[:, row, visible_frames] = torch.linalg.solve(system, right[:, row, visible_frames])
    return weights


def posterior(table: Table, ratio: Float[Tensor, "f"], past: int) -> Float[Tensor, "m f f"]:
    """Return V of the frames in flight, float64.

    Args:
        table: c_m(0), c_m(1), ...
        ratio: s of the frames in flight.
        past: clean frames directly before them; as many as the table has lags for are used.
    """
    frames = len(ratio)
    past = max(0, min(past, table.shape[1] - frames))
    whole = in_time(table, past + frames)
    own = whole[:, past:, past:]
    if past:
        # A hair of noise: clean frames of a smooth process are nearly dependent.
        hair = 1e-6 * table[:, 0].double().clamp(min=1e-30)[:, None, None]
        clean = whole[:, :past, :past] + hair * torch.eye(past, dtype=whole.dtype, device=whole.device)
        across = whole[:, :past, past:]
        own = own - across.mT @ torch.linalg.solve(clean, across)
    noise = torch.diag(ratio.double() ** 2)
    covariance: Tensor = own - own @ torch.linalg.solve(own + noise, own)
    return 0.5 * (covariance + covariance.mT)
