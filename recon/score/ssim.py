r"""Structural similarity with a Gaussian window (Wang et al. 2004; the variant of MONAI).

    ssim = (2 m m' + c1) (2 s_xy + c2) / ((m^2 + m'^2 + c1) (s_x^2 + s_y^2 + c2))

Local means m and covariances s are taken under a Gaussian of deviation 1.5, with c1 = (0.01 R)^2, c2 = (0.03 R)^2 and
biased covariances. The window has 11 taps along an axis of at least 11 samples; along a shorter one the same Gaussian
is cut to the largest odd number of taps that fits, so that a volume of a few slices has a value too. A single slice has
a window of one tap along z: there the 3-D figure is the 2-D one.

Only voxels count whose whole window lies inside the volume and holds reference values: beside missing voxels there is
nothing to compare with, and filling them in from the result would call the result right.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import correlate1d, minimum_filter1d

TAPS = 11
SIGMA = 1.5
K1, K2 = 0.01, 0.03


def ssim_map(
    x: Float[np.ndarray, "z y x"], y: Float[np.ndarray, "z y x"], axes: Sequence[int], *, data_range: float
) -> Float[np.ndarray, "z y x"]:
    """Return the similarity at every voxel, with a window that extends along ``axes``; finite values only."""

    def smooth(values: np.ndarray) -> np.ndarray:
        for axis in axes:
            values = correlate1d(values, _gaussian(_taps(values.shape[axis])), axis, mode="nearest")
        return values

    mean_x, mean_y = smooth(x), smooth(y)
    var_x, var_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    likeness = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return np.asarray(likeness / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)))


def whole_windows(present: Bool[np.ndarray, "z y x"], axes: Sequence[int]) -> Bool[np.ndarray, "z y x"]:
    """Return the voxels whose whole window along ``axes`` lies inside the volume and on values that are present."""
    whole = present.astype(np.uint8)
    for axis in axes:
        whole = minimum_filter1d(whole, _taps(present.shape[axis]), axis, mode="constant", cval=0)
    return whole.astype(bool)


def _taps(count: int) -> int:
    """Return the width of the window along an axis."""
    return min(TAPS, count - (1 - count % 2))


def _gaussian(taps: int) -> Float[np.ndarray, " taps"]:
    lag = np.arange(taps) - taps // 2
    weights = np.exp(-0.5 * (lag / SIGMA) ** 2)
    return np.asarray(weights / weights.sum())
