"""Radial power spectra: how much variance lies at each scale.

On a grid periodic in both axes the field is sum_k c_k exp(2 pi i k.r); otherwise it is expanded in cosines
(DCT-II, Denis et al. 2002), which needs no taper and does not mistake a trend for small scales. Each coefficient
counts with its share of the field's variance, in the bin of round(|k| / k_1): k in cycles per unit length, k_1
the larger of the two axes' lowest nonzero wavenumbers.

    sum over all coefficients but the mean's = variance of the field         (Parseval)

Bins stop at the smaller Nyquist wavenumber of the two axes; the corners beyond it are left out.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float
from scipy import fft

from assimilation.fields.fields import Grid
from assimilation.verification.statistics import Pair, Statistic

Of = Literal["truth", "members", "mean"]


def wavenumbers(grid: Grid) -> Float[np.ndarray, "bins"]:
    """Return the centre of each bin in cycles per unit of the grid's spacing, from k_1 on."""
    first, bins = _bins(grid)
    return first * np.arange(1, bins + 1)


def radial_power(field: Float[np.ndarray, "*b y x"], grid: Grid) -> Float[np.ndarray, "*b bins"]:
    """Return the variance in each radial bin; NaN where a field has a missing value.

    Args:
        field: physical unit u.
        grid: spacing and periodic axes; a sphere's part is taken as a plane at its middle latitude.

    Returns:
        u^2, (.., bins), the bins of ``wavenumbers``.
    """
    first, bins = _bins(grid)
    ky, kx = (_axis(n, d, _periodic(grid)) for n, d in zip(grid.shape, _spacing(grid), strict=True))
    index = np.rint(np.hypot(ky[:, None], kx[None, :]) / first).astype(int).ravel()
    field = np.asarray(field, dtype=np.float64)
    missing = ~np.isfinite(field).all(axis=(-2, -1))
    filled = np.where(missing[..., None, None], 0.0, field)
    if _periodic(grid):
        power = np.abs(fft.fft2(filled, norm="forward")) ** 2
    else:
        power = fft.dctn(filled, type=2, axes=(-2, -1), norm="ortho") ** 2 / index.size
    flat = power.reshape(-1, index.size)
    sums = np.stack([np.bincount(index, row, minlength=bins + 1)[1 : bins + 1] for row in flat])
    result = sums.reshape(*field.shape[:-2], bins)
    return np.where(missing[..., None], np.nan, result)


@dataclass(frozen=True)
class RadialPower(Statistic):
    """The radial spectrum of the truth, of the members (averaged) or of the ensemble mean."""

    of: Of
    pointwise: ClassVar[bool] = False
    by_row: ClassVar[bool] = False

    def compute(self, pair: Pair) -> Float[np.ndarray, "bins"]:
        """Return the variance in each bin; NaN where any value is missing."""
        fields = {"truth": pair.y[None], "mean": pair.mean[None], "members": pair.x}[self.of]
        return np.asarray(radial_power(fields, pair.grid).mean(axis=0))


def _periodic(grid: Grid) -> bool:
    """Return whether both axes close on themselves."""
    return bool(grid.periodic[0] and grid.periodic[1])


def _spacing(grid: Grid) -> tuple[float, float]:
    """Return the spacing along y and x; on a sphere meridians draw together."""
    dy, dx = (abs(float(value)) for value in grid.spacing)
    if grid.kind == "sphere":
        dx *= float(np.cos(np.deg2rad(np.mean(grid.y))))
    return dy, dx


def _axis(count: int, spacing: float, periodic: bool) -> Float[np.ndarray, "n"]:
    """Return |k| of each coefficient along one axis, cycles per unit length."""
    if periodic:
        return np.asarray(np.abs(np.fft.fftfreq(count, spacing)))
    return np.arange(count) / (2 * count * spacing)


def _bins(grid: Grid) -> tuple[float, int]:
    """Return the width of a bin and the number of bins."""
    spacing = _spacing(grid)
    waves = 1 if _periodic(grid) else 2
    first = max(1 / (waves * n * d) for n, d in zip(grid.shape, spacing, strict=True))
    nyquist = min(0.5 / d for d in spacing)
    return first, max(int(np.floor(nyquist / first + 1e-9)), 1)
