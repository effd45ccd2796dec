r"""Whether a prior's samples are copies of its training slices: nearest neighbours, with a null that knows of series.

Slices become thumbnails of 32 x 32. The distance of a sample is the root mean square to its nearest training thumbnail.
Neighbouring slices of one patient resemble each other more than any copy must: the null is therefore the distance of
a training slice to the nearest slice of another series, and its 1 % quantile the threshold. Slices of one of N series
hang together, so the null knows N values rather than many: the share of a generalising prior's samples below the least
of N exceeds 1 - 0.05^(1/N) in one case of twenty only (it is Beta(1, N)). Beyond that, and beyond 5 %, a prior copies.

Faint samples of a network that has learned little lie near the mean of all slices, nearer to each than the slices to
each other. They are no copies: a copy is also nearer to its slice than to any slice of another series, by a factor of
0.8 at least, and an exact one by a factor of 3.
"""

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from priors.codec import Codec
from priors.training.slices.data import PreparedArrays

SIDE = 32
QUANTILE = 0.01
MOST = 0.05
FALSE_ALARMS = 0.05
NEARER, EXACT = 0.8, 1 / 3
"""Distance to the nearest slice, relative to that of another series, below which a sample may be a copy, and is one."""
PER_SERIES = 60
MOST_THUMBNAILS = 3000
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


def series_thumbnails(codec: Codec, data: PreparedArrays, *, mirrored: bool) -> dict[str, Thumbnails]:
    """Return the thumbnails of training slices by series, spread over each; fewer of each where there are many series.

    Args:
        codec: of the prior.
        data: its training slices.
        mirrored: their mirror images were trained on as well, and copies of those are copies.
    """
    per = max(2, min(PER_SERIES, MOST_THUMBNAILS // len(data.arrays)))
    found = {}
    for series, array in zip(data.series, data.arrays, strict=True):
        chosen = sorted({int(k) for k in np.linspace(0, len(array) - 1, per).round()})
        values = torch.from_numpy(np.asarray(array[chosen], np.float32))
        shown = torch.cat([values, values.flip(-1)]) if mirrored else values
        found[series.file] = thumbnails(codec.encode(shown.clamp(codec.low, codec.high)))
    return found


def null_distances(series: Mapping[str, Thumbnails]) -> Float[np.ndarray, "_"]:
    """Return the distance of every training slice to the nearest one of another series."""
    parts = []
    for name, own in series.items():
        others = np.concatenate([other for key, other in series.items() if key != name])
        parts.append(nearest(own, others))
    return np.concatenate(parts)


def copying(samples: Thumbnails, series: Mapping[str, Thumbnails]) -> dict[str, float]:
    """Return threshold, share of samples below it, share of exact copies, and median distances of samples and null.

    Args:
        samples: of the prior.
        series: training thumbnails by series, at least two.
    """
    return of_distances(np.stack([nearest(samples, own) for own in series.values()]), null_distances(series))


def of_distances(by_series: Float[np.ndarray, "series n"], null: Float[np.ndarray, "_"]) -> dict[str, float]:
    """Return the figures of `copying` from distances.

    Args:
        by_series: of every sample to the nearest slice of every series.
        null: of training slices to the nearest of another series.
    """
    threshold = float(np.quantile(null, QUANTILE))
    ordered = np.sort(by_series, axis=0)
    distance, elsewhere = ordered[0], ordered[1]
    return {
        "threshold": threshold,
        "share_below": float(((distance < threshold) & (distance < NEARER * elsewhere)).mean()),
        "exact_share": float((distance < EXACT * elsewhere).mean()),
        "nearest_median": float(np.median(distance)),
        "null_median": float(np.median(null)),
        "limit": max(MOST, 1 - FALSE_ALARMS ** (1 / len(by_series))),
        "samples": float(len(distance)),
    }


def copies(figures: Mapping[str, float]) -> bool:
    """Tell whether so many samples are copies that the prior is suspect."""
    return figures["share_below"] > figures["limit"]
