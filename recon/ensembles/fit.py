r"""Fitting a and b of the intervals on a volume whose truth is known.

    s_tot^2 = a^2 v + b^2,    v = (1 + 1/M) G(sd^2)        |x - truth| <= 1.645 s_tot in 90 % of the voxels of the body

For every b of a grid, a is bisected to a coverage of 90 %; of these pairs the one is kept whose worst region or HU bin
is nearest to 90 %. One number for the whole body makes the coverage right; the floor moves it between regions.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from recon.ensembles.intervals import QUANTILE_90
from recon.score.coverage import FEWEST, bins_of, regions_of

VolumeHU = Float[np.ndarray, "z y x"]
Mask = Bool[np.ndarray, "z y x"]
WANTED = 0.9
FLOORS_HU = np.arange(0.0, 41.0, 1.0)
LARGEST_A = 100.0


@dataclass(frozen=True)
class Fitted:
    """A pair with the coverage it gives by region and HU bin."""

    a: float
    b_hu: float
    coverage: dict[str, float]


def fit_scale(error: VolumeHU, variance: VolumeHU, reference: VolumeHU) -> Fitted:
    """Return the best pair.

    Args:
        error: mean minus reference, HU.
        variance: (1 + 1/M) G(sd^2) of the draws, HU^2.
        reference: HU, NaN where it has no value.

    Raises:
        InputError: the reference shows no body.
    """
    regions = regions_of(reference)
    body = regions["body"]
    masks = {**regions, **bins_of(reference, body)}
    inner = {name: mask[body] for name, mask in masks.items() if mask.sum() >= FEWEST}
    squared, spread = error[body].astype(np.float64) ** 2, variance[body].astype(np.float64)
    tried = [_at_floor(squared, spread, float(b), inner) for b in FLOORS_HU]
    return min(tried, key=lambda each: max(abs(share - WANTED) for share in each.coverage.values()))


def _at_floor(squared: np.ndarray, spread: np.ndarray, b_hu: float, masks: dict[str, np.ndarray]) -> Fitted:
    """Bisect a for one floor; a floor that alone covers more keeps a at its least."""
    low, high = 1e-3, LARGEST_A
    for _ in range(40):
        middle = np.sqrt(low * high)
        if _inside(squared, spread, middle, b_hu).mean() < WANTED:
            low = middle
        else:
            high = middle
    inside = _inside(squared, spread, high, b_hu)
    return Fitted(float(high), b_hu, {name: float(inside[mask].mean()) for name, mask in masks.items()})


def _inside(squared: np.ndarray, spread: np.ndarray, a: float, b_hu: float) -> np.ndarray:
    return squared <= QUANTILE_90**2 * (a**2 * spread + b_hu**2)
