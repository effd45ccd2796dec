"""Seeded ensembles with their truth, for the tests of verification."""

import numpy as np

from assimilation.fields.fields import Grid
from assimilation.verification.statistics import Pair


def plane(rows: int = 12, columns: int = 15, *, periodic: bool = False) -> Grid:
    """Return a grid of unit spacing."""
    y, x = np.arange(rows) * 1.0, np.arange(columns) * 1.0
    return Grid(y, x, "plane", "1", (periodic, periodic), "")


def sphere() -> Grid:
    """Return a coarse grid from the equator to 80 degrees north."""
    return Grid(np.arange(0.0, 81.0, 10.0), np.arange(-20.0, 21.0, 10.0), "sphere", "degree", (False, False))


def pair(seed: int = 0, *, members: int = 5, grid: Grid | None = None, missing: float = 0.0) -> Pair:
    """Return rain-like fields (many zeros, long tail), NaN at a share of the truth's points."""
    generator = np.random.default_rng(seed)
    grid = grid or plane()
    both = np.maximum(generator.normal(0.2, 1.5, (members + 1, *grid.shape)), 0) ** 1.5
    truth = both[0].astype(np.float32)
    truth[generator.random(grid.shape) < missing] = np.nan
    return Pair(both[1:].astype(np.float32), truth, grid)
