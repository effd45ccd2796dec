r"""Whether a prior's samples are copies of its training slices: nearest neighbours, with a null that knows of series.

Slices become thumbnails of 32 x 32. The distance of a sample is the root mean square to its nearest training thumbnail.
Neighbouring slices of one patient resemble each other more than any copy must: the null is therefore the distance of
a training slice to the nearest slice of another series, and its 1 % quantile the threshold. Slices of one of N series
hang together, so the null knows N values rather than many: the share of a generalising prior's samples below the least
of N exceeds 1 - 0.05^(1/N) in one case of twenty only (it is Beta(1, N)). Beyond that, and beyond 5 %, a prior copies.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

SIDE = 32
QUANTILE = 0.01
MOST = 0.05
FALSE_ALARMS = 0.05
Thumbnails = Float[np.ndarray, "_ p"]


def thumbnails(slices: Float[Tensor, "n y x"]) -> Thumbnails:
    """Return means of blocks, flattened; slices that are smaller are interpolated."""
    small = functional.interpolate(slices[:, None].float(), (SIDE, SIDE), mode="area")
    flat: Thumbnails = small.flatten(1).numpy()
    return flat


def nearest(of: Thumbnails, among: Thumbnails) -> Float[np.ndarray, "_"]:
    """Return the root mean square distance of each of ``of`` to the nearest of ``among``."""
    a, b = of.astype(np.float64), among.astype(np.float64)
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    found: Float[np.ndarray, n] = np.sqrt(np.maximum(squared, 0).min(1) / a.shape[1])
    return found


def null_distances(series: Mapping[str, Thumbnails]) -> Float[np.ndarray, "_"]:
    """Return the distance of every training slice to the nearest one of another series."""
    parts = []
    for name, own in series.items():
        others = np.concatenate([other for key, other in series.items() if key != name])
        parts.append(nearest(own, others))
    return np.concatenate(parts)


def copying(samples: Thumbnails, series: Mapping[str, Thumbnails]) -> dict[str, float]:
    """Return threshold, share of samples below it, and median distances of samples and null.

    Args:
        samples: of the prior.
        series: training thumbnails by series, at least two.
    """
    null = null_distances(series)
    threshold = float(np.quantile(null, QUANTILE))
    distance = nearest(samples, np.concatenate(list(series.values())))
    return {
        "threshold": threshold,
        "share_below": float((distance < threshold).mean()),
        "nearest_median": float(np.median(distance)),
        "null_median": float(np.median(null)),
        "limit": max(MOST, 1 - FALSE_ALARMS ** (1 / len(series))),
        "samples": float(len(samples)),
    }


def copies(figures: Mapping[str, float]) -> bool:
    """Tell whether so many samples are copies that the prior is suspect."""
    return figures["share_below"] > figures["limit"]
