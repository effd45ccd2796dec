"""Photon counting: how a line integral p becomes a count N, and what a count is worth.

    N ~ Poisson(I0 exp(-p) + r) + Normal(0, s^2)        I0 photons per ray, background r, electronic noise s
    y = -log(n / I0)                                     n = max(N - r, FLOOR)
    w = 1 / var(y) = n^2 / (n + r + s^2)                the PWLS weight: (N - r)^2 / (N + s^2) above the floor

The variance follows from var(N) = E[N] + s^2 and dy/dN = -1/n. A ray that counted nothing keeps a finite
value and a weight of order FLOOR, ten thousands of times less than its neighbours.
Source: Thibault, Bouman, Sauer, Hsieh, "A recursive filter for noise reduction in statistical iterative
tomographic imaging", 2006.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from priors.runtime.errors import InputError

FLOOR = 0.5
"""Smallest count that enters a logarithm, in photons."""


@dataclass(frozen=True)
class Exposure:
    """How a detector counts.

    Attributes:
        i0: photons per ray without an object.
        background: photons that reach a pixel past the object (scatter, dark current).
        electronic_sd: standard deviation of the electronic noise in photons.

    Raises:
        InputError: ``i0`` is not positive or another value is negative or not finite.
    """

    i0: float
    background: float = 0.0
    electronic_sd: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.i0) and self.i0 > 0):
            raise InputError(f"i0: found {self.i0}, expected a positive number of photons per ray")
        for name in ("background", "electronic_sd"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name}: found {value}, expected photons, at least 0")


def draw_counts(
    transmission: Float[np.ndarray, "v r c"], exposure: Exposure, generator: np.random.Generator
) -> Float32[np.ndarray, "v r c"]:
    """Return noisy counts of rays of which a fraction ``transmission`` = exp(-p) arrives."""
    expected = exposure.i0 * transmission.astype(np.float64) + exposure.background
    counts = generator.poisson(expected).astype(np.float64)
    if exposure.electronic_sd > 0:
        counts += exposure.electronic_sd * generator.standard_normal(counts.shape)
    return counts.astype(np.float32)


def line_integrals(
    counts: Float[np.ndarray, "v r c"], exposure: Exposure, *, partial: bool = False
) -> tuple[Float32[np.ndarray, "v r c"], Float32[np.ndarray, "v r c"]]:
    """Return the sinogram and its weights (inverse variances), both (view, row, column).

    Args:
        counts: photons.
        exposure: how they were counted.
        partial: they are some rows of a scan, which may lie in the dark.

    Raises:
        InputError: counts that no detector gives; see ``check_counts``.
    """
    check_counts(counts, exposure)
    if not partial:
        check_lit(counts)
    sinogram, weights = np.empty(counts.shape, np.float32), np.empty(counts.shape, np.float32)
    # View by view: in float64 a whole scan would be twice as large, three times over.
    for view, seen in enumerate(counts):
        n = np.maximum(seen.astype(np.float64) - exposure.background, FLOOR)
        sinogram[view] = -np.log(n / exposure.i0)
        weights[view] = n**2 / (n + exposure.background + exposure.electronic_sd**2)
    return sinogram, weights


def check_counts(counts: Float[np.ndarray, "v r c"], exposure: Exposure) -> None:
    """Refuse counts that are not finite, too negative for the electronic noise, or far above i0."""
    if not np.isfinite(counts).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(counts))[0])
        bad = int((~np.isfinite(counts)).sum())
        raise InputError(
            f"counts: {bad} values are NaN or infinite, the first at (view, row, column) {where}"
        )
    lowest = -8 * exposure.electronic_sd
    if counts.min() < lowest:
        where = tuple(int(i) for i in np.argwhere(counts < lowest)[0])
        raise InputError(
            f"counts: found {counts.min():.6g}, the first negative one at (view, row, column) {where}, "
            f"expected photons, at least {lowest:.4g} for the electronic noise of this scan"
        )
    if counts.max() > 10 * (exposure.i0 + exposure.background):
        raise InputError(
            f"counts: found {counts.max():.6g}, more than ten times i0 = {exposure.i0:.6g}; "
            "expected i0 to be the count of a ray without an object"
        )


def check_lit(counts: Float[np.ndarray, "v r c"]) -> None:
    """Refuse counts that are zero over a whole view."""
    dark = (counts <= 0).all(axis=(1, 2))
    if dark.all():
        raise InputError("counts: every value is zero, expected the counts of a scan")
    if dark.any():
        raise InputError(f"counts: view {int(np.flatnonzero(dark)[0])} holds only zeros; was the beam off?")


def estimate_i0(sinogram: Float[np.ndarray, "v r c"]) -> float:
    """Return the photons per ray that explain the noise of a sinogram whose counts are lost.

    The noise is read from second differences d along views or columns, var(d) = 6 var(y) and var(y) = exp(y)
    / I0; structure only adds to it, so the direction with less is believed.
    """
    estimates = []
    for axis in (0, 2):
        if sinogram.shape[axis] < 3:
            continue
        y = np.moveaxis(sinogram.astype(np.float64), axis, 0)
        difference = y[2:] - 2 * y[1:-1] + y[:-2]
        # The median of |x| of a unit normal is 0.6745; a median ignores edges.
        spread = np.median(abs(difference) * np.exp(-np.clip(y[1:-1], -1, 20) / 2)) / 0.6745
        if spread > 0:
            estimates.append(6 / spread**2)
    return float(np.clip(max(estimates, default=1e5), 1e2, 1e8))


def weights_without_counts(sinogram: Float32[np.ndarray, "v r c"], i0: float) -> Float32[np.ndarray, "v r c"]:
    """Return I0 exp(-y), the inverse variance of line integrals of counts without background."""
    weights: Float32[np.ndarray, "v r c"] = (i0 * np.exp(-np.clip(sinogram, -1, 20))).astype(np.float32)
    return weights
