"""A swath: the strip of the grid a polar-orbiting instrument sees, moving from frame to frame.

A strip of width w in the direction of its normal n = (cos i, sin i), |n| = 1, covers at frame f the cells with

    0 <= frac(y cos i + x sin i - s f - phase) < w,

y and x being measured in fractions of the grid, so that strips repeat once per grid and leave it by one side
while the next one enters by the other.
"""

import math

import numpy as np
from jaxtyping import Bool


def strip(
    shape: tuple[int, int], *, width: float, shift: float, inclination_deg: float, phase: float
) -> Bool[np.ndarray, "y x"]:
    """Return the cells inside the strip.

    Args:
        shape: (y, x) of the grid.
        width: share of the grid the strip covers.
        shift: how far it has moved, in fractions of the grid.
        inclination_deg: direction of its normal, 0 = along y, 90 = along x.
        phase: where the first strip begins, in fractions of the grid.
    """
    y, x = np.meshgrid(*(np.arange(size) / size for size in shape), indexing="ij")
    angle = math.radians(inclination_deg)
    distance = (y * math.cos(angle) + x * math.sin(angle) - shift - phase) % 1.0
    return distance < width
