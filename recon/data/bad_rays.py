"""Rays that were not measured, filled in along their detector row."""

import numpy as np
from jaxtyping import Bool, Float


def fill_along_rows(
    sinogram: Float[np.ndarray, "v r c"], bad: Bool[np.ndarray, "v r c"] | Bool[np.ndarray, "r c"]
) -> Float[np.ndarray, "v r c"]:
    """Return the sinogram with bad rays interpolated linearly between their good neighbours in the row.

    Beyond the last good ray of a row its value is repeated; a row without any good ray becomes zero.

    Args:
        sinogram: line integrals (view, row, column).
        bad: which rays to replace, or which detector pixels in every view.
    """
    everywhere = np.broadcast_to(bad, sinogram.shape)
    if not everywhere.any():
        return sinogram
    filled, column = sinogram.copy(), np.arange(sinogram.shape[2])
    for view, row in np.argwhere(everywhere.any(axis=2)):
        gaps = everywhere[view, row]
        line = filled[view, row]
        line[gaps] = 0.0 if gaps.all() else np.interp(column[gaps], column[~gaps], line[~gaps])
    return filled
