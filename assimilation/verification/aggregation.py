"""Averages of statistics that add: totals per trajectory, time, variable and region.

For a statistic s with values s_p at points p and weights w_p (area times region, zero where missing) a table keeps

    total = sum_p w_p s_p        weight = sum_p w_p        for each (trajectory, time, variable, region)

and any average is (sum of totals) / (sum of weights) over the rows wanted. A metric is a function of such averages,
so a score over a year is exact although no more than one field was ever in memory, and tables of parts of an
archive can be merged.

Intervals come from the bootstrap: rows are drawn with replacement, whole trajectories where there are at least
``TRAJECTORIES`` of them, else circular blocks of ceil(T^(1/3)) consecutive times, since errors at neighbouring
times resemble each other (Politis and Romano 1992).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from assimilation.fields import Grid
from assimilation.verification.statistics import Pair, Statistic
from priors.runtime.errors import InputError

TRAJECTORIES = 8
EVERYWHERE = "all"

Averages = Mapping[Statistic, np.ndarray]


@dataclass(frozen=True)
class Region:
    """A box of the grid: y (or latitude) and x (or longitude) from low to high, both included."""

    name: str
    y: tuple[float, float]
    x: tuple[float, float]

    def mask(self, grid: Grid) -> Bool[np.ndarray, "y x"]:
        """Return which points lie inside.

        Raises:
            InputError: none does.
        """
        rows = (grid.y >= self.y[0]) & (grid.y <= self.y[1])
        columns = (grid.x >= self.x[0]) & (grid.x <= self.x[1])
        if not (rows.any() and columns.any()):
            raise InputError(f"region '{self.name}': found no grid point in y {self.y}, x {self.x}")
        return np.outer(rows, columns)


@dataclass(frozen=True)
class Metric:
    """A score: which statistics it needs, and what it makes of their averages (arrays of any leading shape)."""

    name: str
    statistics: tuple[Statistic, ...]
    value: Callable[[Averages], np.ndarray]


@dataclass(frozen=True, order=True)
class Row:
    """What one entry of a table is about; ``time`` and ``variable`` are places in the archive."""

    trajectory: int
    time: int
    variable: int


class Table:
    """Totals and weights of statistics, row by row."""

    def __init__(self, statistics: Iterable[Statistic], grid: Grid, regions: Sequence[Region] = ()) -> None:
        """Begin an empty table; the region ``all`` always exists."""
        self.statistics = tuple(dict.fromkeys(statistics))
        self.regions = (EVERYWHERE, *(region.name for region in regions))
        masks = np.stack([np.ones(grid.shape), *(region.mask(grid) for region in regions)])
        self._weights: Float[np.ndarray, "r y x"] = masks * grid.area_weights()
        self._rows: dict[Row, dict[Statistic, tuple[np.ndarray, np.ndarray]]] = {}

    @property
    def rows(self) -> list[Row]:
        """Return the rows in order."""
        return sorted(self._rows)

    def add(self, row: Row, pair: Pair) -> None:
        """Add the statistics of one pair; a row can be given once.

        Raises:
            ValueError: the row is there already.
        """
        if row in self._rows:
            raise ValueError(f"{row} is in the table already")
        self._rows[row] = {
            statistic: self._total(statistic.compute(pair), statistic.pointwise)
            for statistic in self.statistics
        }

    def merge(self, other: "Table") -> None:
        """Take over the rows of a table of the same statistics and regions."""
        if (self.statistics, self.regions) != (
            other.statistics,
            other.regions,
        ) or self._rows.keys() & other._rows:
            raise ValueError("tables to merge need the same statistics and regions and different rows")
        self._rows.update(other._rows)

    def score(
        self, metric: Metric, rows: Iterable[Row] | None = None, region: str = EVERYWHERE
    ) -> np.ndarray:
        """Return a metric over some rows (all by default); NaN where nothing was compared."""
        chosen = list(self._rows) if rows is None else list(rows)
        return np.asarray(metric.value(self._averages(metric, chosen, region, np.ones((1, len(chosen)))))[0])

    def interval(
        self,
        metric: Metric,
        rows: Iterable[Row] | None = None,
        *,
        seed: int = 0,
        draws: int = 1000,
        level: float = 0.95,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the bootstrap interval of a metric; NaN where fewer than two units exist."""
        chosen = sorted(self._rows if rows is None else rows)
        counts = _resample(chosen, np.random.default_rng(seed), draws)
        if counts is None:
            missing = np.full_like(self.score(metric, chosen), np.nan)
            return missing, missing
        values = metric.value(self._averages(metric, chosen, EVERYWHERE, counts))
        tail = (1 - level) / 2
        with np.errstate(invalid="ignore"):
            low, high = np.quantile(values, [tail, 1 - tail], axis=0)
        return np.asarray(low), np.asarray(high)

    def _total(self, values: np.ndarray, pointwise: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return total and weight, (region, c..)."""
        finite = np.isfinite(values)
        filled = np.where(finite, values, 0.0)
        if not pointwise:
            rest = np.zeros((len(self.regions) - 1, *values.shape))
            return np.stack([filled, *rest]), np.stack([finite.astype(np.float64), *rest])
        weights = self._weights.reshape(len(self.regions), -1).T
        shape = (*values.shape[:-2], len(self.regions))
        flat = (-1, weights.shape[0])
        total = (filled.reshape(flat) @ weights).reshape(shape)
        weight = (finite.reshape(flat).astype(np.float64) @ weights).reshape(shape)
        return np.moveaxis(total, -1, 0), np.moveaxis(weight, -1, 0)

    def _averages(
        self, metric: Metric, rows: Sequence[Row], region: str, counts: Float[np.ndarray, "draws rows"]
    ) -> Averages:
        """Return the averages over rows counted ``counts`` times, (draws, c..)."""
        if region not in self.regions:
            raise InputError(f"region: found '{region}', expected one of {', '.join(self.regions)}")
        place = self.regions.index(region)
        averages: dict[Statistic, np.ndarray] = {}
        for statistic in metric.statistics:
            held = [self._rows[row][statistic] for row in rows]
            total = np.tensordot(counts, np.stack([entry[0][place] for entry in held]), 1)
            weight = np.tensordot(counts, np.stack([entry[1][place] for entry in held]), 1)
            averages[statistic] = ratio(total, weight)
        return averages


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below, NaN where below is not positive."""
    positive = below > 0
    return np.where(positive, above / np.where(positive, below, 1.0), np.nan)


def _resample(
    rows: Sequence[Row], generator: np.random.Generator, draws: int
) -> Float[np.ndarray, "draws rows"] | None:
    """Return how often each row is counted in each draw; None where there is nothing to draw from."""
    trajectories = np.array([row.trajectory for row in rows])
    times = np.array([row.time for row in rows])
    use_times = np.unique(trajectories).size < TRAJECTORIES
    units, place = np.unique(times if use_times else trajectories, return_inverse=True)
    count = units.size
    if count < 2:
        return None
    length = int(np.ceil(count ** (1 / 3))) if use_times else 1
    starts = generator.integers(count, size=(draws, int(np.ceil(count / length))))
    drawn = (starts[:, :, None] + np.arange(length)).reshape(draws, -1)[:, :count] % count
    counts = np.zeros((draws, count))
    np.add.at(counts, (np.arange(draws)[:, None], drawn), 1.0)
    return counts[:, place]
