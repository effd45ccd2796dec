r"""A Gaussian process for any field size: stationary in space and time, by wavenumber.

    Cov[x^(q, i), x^(q, j)] = c(|q|, |i - j|),    x^ the orthonormal Fourier transform of a frame

q in cycles per pixel; c is tabulated at |q| = 0, h, 2 h, ... 1/2, linear between and constant beyond (the corners).
Boundaries count as periodic: it is a guess of how errors of the prior's estimate are correlated, right in
amplitude and length, and wrong within a few pixels of a border.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from priors.gaussian.modes import Covariance, posterior

HIGHEST = 0.5


class Spectrum(BaseModel):
    """Covariance in time by wavenumber, network units.

    Attributes:
        covariance: c by wavenumber (rows, from 0 to 1/2 cycles per pixel) and lag in frames.
        above: noise level s from which on the process says more of a network's errors than its Jacobian does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    covariance: tuple[tuple[float, ...], ...] = Field(min_length=2)
    above: float = Field(4.0, ge=0)

    @model_validator(mode="after")
    def _is_a_table(self) -> "Spectrum":
        lengths = {len(row) for row in self.covariance}
        if len(lengths) != 1 or min(lengths) < 1:
            raise ValueError("covariance: expected rows of equal length, one value per lag")
        if any(row[0] <= 0 for row in self.covariance):
            raise ValueError("covariance: expected positive variances (lag 0)")
        return self

    def spread(self, ratio: Float[Tensor, "f"], past: int) -> Covariance | None:
        """Return the covariance of frames at s = ``ratio`` after ``past`` clean ones, None below ``above``."""
        if float(ratio.min()) < self.above:
            return None
        table = torch.tensor(self.covariance, dtype=torch.float64, device=ratio.device)
        matrices = posterior(table, ratio, past)

        def spread(x: Float[Tensor, "b f k y x"]) -> Float[Tensor, "b f k y x"]:
            return mixed_waves(x, at_wavenumbers(matrices.to(x.dtype), x.shape[-2:]))

        return spread


def at_wavenumbers(matrices: Float[Tensor, "n f f"], size: Sequence[int]) -> Float[Tensor, "y x2 f f"]:
    """Return the matrices of a table for every wave of a field, linear between its rows."""
    return _at(wavenumbers(size, matrices.device), matrices)


def mixed_waves(
    x: Float[Tensor, "b f k y x"], weights: Float[Tensor, "y x2 f f"]
) -> Float[Tensor, "b f k y x"]:
    """Return fields each of whose waves is mixed over frames."""
    waves = torch.fft.rfft2(x)
    moved = torch.einsum("yxfg,bgkyx->bfkyx", weights.to(waves.dtype), waves)
    out: Tensor = torch.fft.irfft2(moved, s=x.shape[-2:])
    return out


def wavenumbers(size: Sequence[int], device: torch.device) -> Float[Tensor, "y x2"]:
    """Return |q| of every coefficient of a real transform, cycles per pixel."""
    rows = torch.fft.fftfreq(size[0], device=device)
    columns = torch.fft.rfftfreq(size[1], device=device)
    return torch.hypot(rows[:, None], columns)


def _at(q: Float[Tensor, "y x2"], table: Float[Tensor, "n f f"]) -> Float[Tensor, "y x2 f f"]:
    """Return the table's matrices at every wavenumber, linear between its rows."""
    position = (q / HIGHEST * (len(table) - 1)).clamp(max=len(table) - 1)
    low = position.floor().long().clamp(max=len(table) - 2)
    share = (position - low)[..., None, None]
    return (1 - share) * table[low] + share * table[low + 1]


def measured_spectrum(
    windows: Float[Tensor, "n f k y x"], *, lags: int, rows: int = 25, periodic: Sequence[bool]
) -> Spectrum:
    """Return the spectrum of windows in network units, their mean taken as zero; variables are averaged.

    Args:
        windows: frames in time order, missing values as zero.
        lags: of the covariance; it is tapered to zero beyond the last.
        rows: wavenumbers of the table.
        periodic: axes y and x; others are tapered by a Hann window of unit mean square.
    """
    x = windows.double()
    for axis, (n, cyclic) in enumerate(zip(x.shape[-2:], periodic, strict=True), start=-2):
        if not cyclic:
            hann = torch.hann_window(n, periodic=False, dtype=x.dtype)
            hann = hann / hann.square().mean().sqrt()
            x = x * (hann[:, None] if axis == -2 else hann)
    waves = torch.fft.rfft2(x, norm="ortho")
    frames = x.shape[1]
    products = [
        (waves[:, lag:] * waves[:, : frames - lag].conj()).real.sum(dim=(0, 1, 2))
        / (len(x) * frames * x.shape[2])
        for lag in range(min(lags, frames))
    ]
    position = wavenumbers(x.shape[-2:], x.device) / HIGHEST * (rows - 1)
    nearest = position.round().long().clamp(max=rows - 1).flatten()
    count = torch.zeros(rows, dtype=x.dtype).index_add_(0, nearest, torch.ones_like(nearest, dtype=x.dtype))
    sums = [
        torch.zeros(rows, dtype=x.dtype).index_add_(0, nearest, product.flatten()) for product in products
    ]
    table = torch.stack(sums, 1) / count.clamp(min=1)[:, None]
    # A wavenumber without any variance, such as the mean of vorticity, keeps a trace: the table stays positive.
    table[:, 0].clamp_(min=1e-6 * float(table.max()))
    return Spectrum(covariance=tuple(tuple(float(f"{v:.4g}") for v in row) for row in table.tolist()))
