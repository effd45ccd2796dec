r"""From the deviation of M draws to the deviation of their mean's error, and to intervals.

    s_tot^2 = (1 + 1/M) (a rho(h))^2 G(sd^2) + b^2,      90 %: mean +- 1.645 s_tot

G is a Gaussian of `SMOOTHING_PIXELS` in every slice: a variance of few draws is noisy, and neighbours share theirs. h
is the mean in HU, smoothed by `TISSUE_PIXELS` so that a factor belongs to a tissue, not to noise. Without
a calibration a rho = 1 and b = 0: such an interval tells where draws differ, not how far the truth is.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter
from torch import Tensor

from recon.data.units import attenuation_to_hu
from recon.ensembles.calibration import Scale
from recon.ensembles.moments import Moments

Volumes = Float[Tensor, "z y x"]
SMOOTHING_PIXELS = 1.5
TISSUE_PIXELS = 1.0
QUANTILE_90 = 1.645
"""The 95 % quantile of the normal distribution: 5 % lie beyond either end."""


@dataclass(frozen=True)
class Intervals:
    """Volumes in 1/mm: the deviation of the mean's error and the ends of the 90 % interval."""

    deviation: Volumes
    lower: Volumes
    upper: Volumes


def smoothed_variance(moments: Moments) -> Volumes:
    """Return (1 + 1/M) G(sd^2)."""
    variance = moments.variance().cpu().numpy()
    smooth = gaussian_filter(variance, (0, SMOOTHING_PIXELS, SMOOTHING_PIXELS), mode="nearest")
    return (1 + 1 / moments.count) * torch.from_numpy(smooth)


def tissue_hu(mean_hu: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, "z y x"]:
    """Return h, the mean in HU smoothed in every slice."""
    smooth: Float[np.ndarray, "z y x"] = gaussian_filter(
        mean_hu, (0, TISSUE_PIXELS, TISSUE_PIXELS), mode="nearest"
    )
    return smooth


def intervals(moments: Moments, scale: Scale | None, *, mu_water: float) -> Intervals:
    """Return the intervals around the mean.

    Args:
        moments: of the draws, 1/mm.
        scale: the calibration, None where there is none.
        mu_water: attenuation of water in 1/mm, which places HU.
    """
    variance = smoothed_variance(moments)
    if scale is not None:
        mean = moments.mean.detach().cpu().contiguous().numpy()
        factor = torch.from_numpy(scale.factor(tissue_hu(attenuation_to_hu(mean, mu_water))))
        variance = factor**2 * variance + (scale.b_hu * mu_water / 1000) ** 2
    deviation = variance.sqrt()
    reach = QUANTILE_90 * deviation
    # No matter amplifies: an interval does not reach below vacuum.
    return Intervals(deviation, (moments.mean - reach).clamp(min=0), moments.mean + reach)
