r"""The correlation of two points by their displacement only, estimated from fields by FFT.

    rho(d) = mean over points and samples of z_p z_{p+d} / (number of pairs),    z standardised, NaN where missing

Both sums are circular correlations; an axis that is not periodic is padded with as many zeros as it has points,
so that no pair wraps around. There rho is tapered to zero at displacements of the whole domain, where few pairs are
left to average. A correlation estimated with a different number of pairs at every displacement need not be positive
definite: its spectrum is clipped at zero, which changes it least in the mean square.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class StationaryCorrelation:
    """A correlation of unit variance on a grid, variables uncorrelated with each other.

    Attributes:
        spectrum: eigenvalues of the circulant that embeds it, real transform of the padded grid.
        padded: size of that grid.
    """

    spectrum: Float[Tensor, "k py px2"]
    padded: tuple[int, int]

    def by_displacement(self) -> Float[Tensor, "k py px"]:
        """Return rho; negative displacements stand at the end of each axis."""
        rho: Tensor = torch.fft.irfft2(self.spectrum, s=self.padded)
        return rho

    def matrix(self, rows: int, columns: int) -> Float[Tensor, "p p"]:
        """Return the correlation of all values of a field of ``rows`` x ``columns`` points, flattened (k, y, x)."""
        y, x = torch.arange(rows), torch.arange(columns)
        dy, dx = (y[:, None] - y) % self.padded[0], (x[:, None] - x) % self.padded[1]
        blocks = [
            rho[dy[:, None, :, None], dx[None, :, None, :]].reshape(rows * columns, -1)
            for rho in self.by_displacement()
        ]
        matrix: Tensor = torch.block_diag(*blocks)
        return matrix


def stationary_correlation(
    standardised: Float[Tensor, "n k y x"], *, periodic: Sequence[bool] = (False, False)
) -> StationaryCorrelation:
    """Return the correlation of fields of zero mean and unit variance, float64.

    Args:
        standardised: NaN where missing.
        periodic: axes y and x that close on themselves.
    """
    x = standardised.double()
    size = x.shape[-2:]
    rows, columns = (n if closed else 2 * n for n, closed in zip(size, periodic, strict=True))
    padded = rows, columns
    products, pairs = (
        torch.fft.irfft2((torch.fft.rfft2(part, s=padded).abs() ** 2).mean(dim=0), s=padded)
        for part in (x.nan_to_num(0.0), torch.isfinite(x).double())
    )
    # Half a pair per sample set tells none from one after rounding.
    correlation = torch.where(pairs > 0.5 / len(x), products / pairs.clamp(min=1e-9), 0.0)
    for axis, (n, closed) in enumerate(zip(size, periodic, strict=True), start=-2):
        if not closed:
            lag = torch.fft.fftfreq(2 * n, 1 / (2 * n)).double().abs()
            taper = 0.5 * (1 + torch.cos(torch.pi * lag / n))
            correlation = correlation * (taper[:, None] if axis == -2 else taper)
    spectrum = torch.fft.rfft2(correlation).real.clamp(min=0)
    variance = torch.fft.irfft2(spectrum, s=padded)[:, :1, :1]
    return StationaryCorrelation(spectrum / variance, padded)
