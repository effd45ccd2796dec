r"""Distances of crops to fields of any size, at the place where they fit best: a copied crop may come from anywhere.

    d^2 = min_p mean_q (a_q - b_{p+q})^2 = min_p ( |a|^2 + (b^2 * 1)_p - 2 (b * a)_p ) / n

over all places p where the crop lies inside the field; * is a correlation, by FFT. Fields as large as the crop have one
place.
"""

import numpy as np
from jaxtyping import Float
from scipy.signal import fftconvolve

Crops = Float[np.ndarray, "n y x"]
Fields = Float[np.ndarray, "m rows columns"]


def nearest_anywhere(crops: Crops, fields: Fields) -> Float[np.ndarray, "_"]:
    """Return the root mean square distance of every crop to the nearest place of the nearest field.

    Args:
        crops: network units.
        fields: at least as large, network units.
    """
    count = crops[0].size
    best = np.full(len(crops), np.inf)
    ones = np.ones(crops.shape[1:])
    for field in fields.astype(np.float64):
        energy = fftconvolve(field**2, ones, mode="valid")
        for index, crop in enumerate(crops.astype(np.float64)):
            both = fftconvolve(field, crop[::-1, ::-1], mode="valid")
            best[index] = min(best[index], float((energy - 2 * both).min() + (crop**2).sum()))
    found: Float[np.ndarray, n] = np.sqrt(np.maximum(best, 0) / count)
    return found
