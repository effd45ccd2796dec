"""One radar image, and what the readers of the services share."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from assimilation.fields.grid import Grid

MARSHALL_PALMER = (200.0, 1.6)


@dataclass(frozen=True, eq=False)
class Frame:
    """Rain rate at one time.

    Attributes:
        rate: mm/h, y ascending, NaN where missing.
        time: end of what was measured.
        grid: plane in km.
    """

    rate: Float32[np.ndarray, "y x"]
    time: np.datetime64
    grid: Grid


def rain_rate(dbz: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """Return mm/h from reflectivity in dBZ by Marshall and Palmer's relation."""
    a, b = MARSHALL_PALMER
    return (10 ** (dbz / 10) / a) ** (1 / b)


def centres(first_edge: float, step: float, count: int) -> Float[np.ndarray, "n"]:
    """Return the centres of ``count`` cells."""
    return first_edge + step * (np.arange(count) + 0.5)
