"""Longitudes of a grid: one connected run of columns, wherever the date line lies.

360 degrees around, no wider gap      from -180 on, periodic
otherwise                             from the column east of the widest gap on; they may run past 180
a column that repeats another         (0 and 360, -180 and 180) is left out
"""

import numpy as np

SAME = 1e-3  # of a step: columns closer than this are one


def connected(longitude: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the order of the columns from west to east, their longitudes, and how many repeat another.

    Args:
        longitude: degrees, any turn, any order; finite.
    """
    turned = (longitude.astype(np.float64) + 180) % 360 - 180
    order = np.argsort(turned, kind="stable")
    ascending = turned[order]
    gaps = np.diff(np.append(ascending, ascending[0] + 360)) if ascending.size else np.empty(0)
    if ascending.size < 2:
        return order, ascending, 0
    usual = float(np.median(gaps[gaps > 1e-6])) if (gaps > 1e-6).any() else 1.0
    repeated = gaps <= SAME * usual
    # Of two columns at one place the first in the file stays.
    if repeated.any() and not repeated.all():
        kept = ~repeated
        order, ascending = order[kept], ascending[kept]
        gaps = np.diff(np.append(ascending, ascending[0] + 360))
    widest = int(np.argmax(gaps))
    if gaps[widest] > 1.5 * usual and widest < gaps.size - 1:
        order = np.roll(order, -(widest + 1))
        ascending = np.concatenate([ascending[widest + 1 :], ascending[: widest + 1] + 360])
    return order, ascending, int(repeated.sum()) if not repeated.all() else 0
