"""Means over blocks of cells, missing cells left out.

    mean[j] = sum of the finite cells of block j / their number,    NaN where too few of them are finite

Blocks begin at the first cell of every axis; what is left at the other end is cut. Sums are float64: the mean of a
block of a million float32 cells would lose half of its digits otherwise.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


def block_means(
    values: Float[np.ndarray, "..."], factors: Sequence[int], *, least: float = 0.0
) -> tuple[Float[np.ndarray, "..."], Int[np.ndarray, "..."]]:
    """Return the mean of every block, in the dtype of the values, and how many of its cells are finite.

    Args:
        values: NaN where missing.
        factors: cells of a block along each of the last axes.
        least: share of a block's cells that must be finite; one cell always must.
    """
    leading = values.ndim - len(factors)
    cut = [slice(None)] * leading
    shape = list(values.shape[:leading])
    for size, factor in zip(values.shape[leading:], factors, strict=True):
        cut.append(slice(0, size // factor * factor))
        shape += [size // factor, factor]
    cells = values[tuple(cut)].reshape(shape)
    inner = tuple(range(leading + 1, cells.ndim, 2))
    finite = np.isfinite(cells)
    count = finite.sum(axis=inner)
    # Whole volumes pass through here: no copy with zeros where nothing is missing.
    known = cells if finite.all() else np.where(finite, cells, 0)
    total = known.sum(axis=inner, dtype=np.float64)
    enough = count >= max(1.0, least * float(np.prod(factors)))
    means = np.where(enough, total / np.maximum(count, 1), np.nan)
    return means.astype(values.dtype), count
