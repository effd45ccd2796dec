"""The bootstrap: intervals of scores from what differs between independent parts of an archive.

Rows are drawn with replacement: whole trajectories where there are at least ``TRAJECTORIES`` of them or more of them
than blocks of times, else circular blocks of ceil(T^(1/3)) consecutive times, since errors at neighbouring times
resemble each other (Politis and Romano 1992).

Percentiles of few units are too narrow: the bootstrap's variance is (n - 1)/n of the unbiased one, and its tails are
those of a normal law. With n units (trajectories or blocks) the ends are therefore moved away from the score by

    sqrt(n / (n - 1)) t_{n-1} / z       (t, z: quantiles of Student's and the normal law; Hesterberg 2015, section 5)

and held within the metric's range. With fewer than ``FEWEST`` units there is no interval.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import special

TRAJECTORIES = 8
FEWEST = 3  # units; of two, t is 12.7 at 95 %, and nothing shows whether they are alike
_HELD = 1 << 18  # counts of resampled units held at once


@dataclass(frozen=True, order=True, slots=True)
class Row:
    """What one entry of a table is about; ``time`` and ``variable`` are indices of the archive."""

    trajectory: int
    time: int
    variable: int


@dataclass(frozen=True)
class Units:
    """What rows count as independent samples.

    Attributes:
        index: unit of every row: its trajectory, or its time.
        block: consecutive units that count as one sample, 1 for trajectories.
    """

    index: Int[np.ndarray, " rows"]
    block: int
    by_times: bool

    @property
    def independent(self) -> int:
        """Return the number of independent samples."""
        return (int(self.index.max()) + 1) // self.block

    @property
    def description(self) -> str:
        """Return what intervals rest on, or why there are none."""
        samples = (
            f"{self.independent} blocks of {self.block} times"
            if self.by_times
            else f"{self.independent} trajectories"
        )
        if self.independent < FEWEST:
            return f"withheld, found {samples}, expected {FEWEST} or more independent samples"
        return f"bootstrap over {samples}, widened by Student's t"


def independent_units(rows: Sequence[Row]) -> Units:
    """Return the independent samples among rows: trajectories where there are enough, else blocks of times."""
    trajectories = np.unique([row.trajectory for row in rows], return_inverse=True)[1]
    times = np.unique([row.time for row in rows], return_inverse=True)[1]
    block = int(np.ceil((times.max() + 1) ** (1 / 3)))
    by_times = Units(times, block, by_times=True)
    by_trajectories = Units(trajectories, 1, by_times=False)
    enough = min(TRAJECTORIES, by_times.independent)
    return by_trajectories if by_trajectories.independent >= enough else by_times


def widening(count: int, tail: float) -> float:
    """Return by how much the percentiles of ``count`` units are too near the score."""
    return float(np.sqrt(count / (count - 1)) * special.stdtrit(count - 1, tail) / special.ndtri(tail))


def unit_sums(values: np.ndarray, unit: np.ndarray, count: int) -> np.ndarray:
    """Return the sums over the rows of each unit, (unit, c..)."""
    sums = np.zeros((count, *values.shape[1:]))
    np.add.at(sums, unit, values)
    return sums


def resampled(
    count: int, generator: np.random.Generator, draws: int, *, block: int
) -> Iterator[Float[np.ndarray, "draws units"]]:
    """Yield how often each unit is counted in each draw, some draws at a time."""
    starts = generator.integers(count, size=(draws, int(np.ceil(count / block))))
    at_once = max(1, _HELD // count)
    for first in range(0, draws, at_once):
        some = starts[first : first + at_once, :, None]
        drawn = (some + np.arange(block)).reshape(len(some), -1)[:, :count] % count
        flat = (drawn + count * np.arange(len(some))[:, None]).ravel()
        yield np.bincount(flat, minlength=len(some) * count).reshape(len(some), count).astype(np.float64)
