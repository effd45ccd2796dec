r"""The correlation of two points by their displacement in space and time only, estimated from fields by FFT.

    rho_j(d) = mean over points and samples of z_{t,p} z_{t+j,p+d},    z standardised, NaN where missing

Sums are circular correlations; an axis that is not periodic is padded with as many zeros as it has points, so that
no pair wraps around. There rho is tapered to zero at displacements of the whole domain, where few pairs are left to
average. Space and time do not separate: what drifts is correlated with where it will be, and rho_j is not symmetric
in d. For F frames the Hermitian matrices

    T_ab(q) = the transform of rho_{a-b} at wavenumber q,   a, b = 0 .. F - 1

hold everything. A correlation estimated with another number of pairs at every displacement need not be positive
definite: negative eigenvalues of T(q) are set to zero, which changes it least in the mean square.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class StationaryCorrelation:
    """A correlation of unit variance of F frames on a grid, variables uncorrelated with each other.

    Attributes:
        blocks: T, real transform of the padded grid.
        padded: size of that grid.
    """

    blocks: Complex[Tensor, "f f k py px2"]
    padded: tuple[int, int]

    def apply(self, fields: Float[Tensor, "*b k y x"], a: int, b: int) -> Float[Tensor, "*b k y x"]:
        """Return the correlation of frame ``a`` with frame ``b``, times fields of frame ``b``."""
        rows, columns = fields.shape[-2:]
        waves = self.blocks[a, b] * torch.fft.rfft2(fields, s=self.padded)
        filtered: Tensor = torch.fft.irfft2(waves, s=self.padded)[..., :rows, :columns]
        return filtered

    def draw(
        self, count: int, size: tuple[int, int], generator: torch.Generator
    ) -> Float[Tensor, "b f k y x"]:
        """Return draws of all frames on a grid of ``size``."""
        matrices = self.blocks.movedim((0, 1), (-2, -1))
        values, vectors = torch.linalg.eigh(matrices)
        root = (vectors * values.clamp(min=0).sqrt()[..., None, :]) @ vectors.mH
        shape = (count, *self.blocks.shape[1:3], *self.padded)
        white = torch.fft.rfft2(torch.randn(shape, generator=generator, dtype=torch.float64))
        waves = torch.einsum("kyxab,nbkyx->nakyx", root, white)
        drawn: Tensor = torch.fft.irfft2(waves, s=self.padded)[..., : size[0], : size[1]]
        return drawn

    def by_displacement(self) -> Float[Tensor, "k py px"]:
        """Return rho of one time; negative displacements stand at the end of each axis."""
        rho: Tensor = torch.fft.irfft2(self.blocks[0, 0], s=self.padded)
        return rho

    def matrix(self, rows: int, columns: int) -> Float[Tensor, "p p"]:
        """Return the correlation of all values of a field of ``rows`` x ``columns`` points, flattened (k, y, x)."""
        y, x = torch.arange(rows), torch.arange(columns)
        dy, dx = (y[:, None] - y) % self.padded[0], (x[:, None] - x) % self.padded[1]
        planes = [
            rho[dy[:, None, :, None], dx[None, :, None, :]].reshape(rows * columns, -1)
            for rho in self.by_displacement()
        ]
        matrix: Tensor = torch.block_diag(*planes)
        return matrix


def stationary_correlation(
    standardised: Float[Tensor, "n k y x"], *, periodic: Sequence[bool] = (False, False)
) -> StationaryCorrelation:
    """Return the correlation of single fields of zero mean and unit variance, float64.

    Args:
        standardised: NaN where missing.
        periodic: axes y and x that close on themselves.
    """
    return space_time_correlation(standardised[:, None], frames=1, periodic=periodic)


def space_time_correlation(
    standardised: Float[Tensor, "n t k y x"], *, frames: int, periodic: Sequence[bool]
) -> StationaryCorrelation:
    """Return the correlation of ``frames`` consecutive fields of zero mean and unit variance, float64.

    Args:
        standardised: trajectories, NaN where missing; lags they do not hold count as uncorrelated.
        frames: F.
        periodic: axes y and x that close on themselves.
    """
    x = standardised.double()
    size = x.shape[-2:]
    rows, columns = (n if closed else 2 * n for n, closed in zip(size, periodic, strict=True))
    padded = rows, columns
    waves = torch.fft.rfft2(x.nan_to_num(0.0), s=padded)
    masks = torch.fft.rfft2(torch.isfinite(x).double(), s=padded)
    taper = _taper(size, periodic)
    lags: list[Tensor] = []
    for lag in range(frames):
        if lag >= x.shape[1]:
            lags.append(torch.zeros_like(lags[0]))
            continue
        products, pairs = (
            torch.fft.irfft2(
                (transform[:, lag:] * transform[:, : x.shape[1] - lag].conj()).mean(dim=(0, 1)), s=padded
            )
            for transform in (waves, masks)
        )
        # Rounding leaves no pair at all a little above zero; one pair is 1 / samples or more.
        samples = len(x) * (x.shape[1] - lag)
        rho = torch.where(pairs > 0.5 / samples, products / pairs.clamp(min=1e-12), 0.0)
        lags.append(torch.fft.rfft2(taper * rho))
    blocks = torch.stack(
        [
            torch.stack([lags[a - b] if a >= b else lags[b - a].conj() for b in range(frames)])
            for a in range(frames)
        ]
    )
    return StationaryCorrelation(_positive(blocks, padded), padded)


def _taper(size: Sequence[int], periodic: Sequence[bool]) -> Float[Tensor, "py px"]:
    """Return factors from 1 at no displacement to 0 at that of a whole domain that does not close."""
    factors = []
    for n, closed in zip(size, periodic, strict=True):
        lag = torch.fft.fftfreq(2 * n, 1 / (2 * n)).double().abs()
        factors.append(
            torch.ones(n, dtype=torch.float64) if closed else 0.5 * (1 + torch.cos(torch.pi * lag / n))
        )
    return factors[0][:, None] * factors[1]


def _positive(
    blocks: Complex[Tensor, "f f k py px2"], padded: tuple[int, int]
) -> Complex[Tensor, "f f k py px2"]:
    """Return the nearest positive semi-definite matrices, with unit variance in every frame."""
    values, vectors = torch.linalg.eigh(blocks.movedim((0, 1), (-2, -1)))
    clipped = (vectors * values.clamp(min=0)[..., None, :]) @ vectors.mH
    blocks = clipped.movedim((-2, -1), (0, 1))
    frames = range(len(blocks))
    variance = torch.stack([torch.fft.irfft2(blocks[a, a], s=padded)[:, 0, 0] for a in frames])
    scale = variance.rsqrt()
    return blocks * (scale[:, None] * scale[None])[..., None, None]
