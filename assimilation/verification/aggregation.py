"""Averages of statistics that add: totals per trajectory, time, variable and region.

For a statistic s with values s_p at points p and weights w_p (area times region, zero where missing) a table keeps

    total = sum_p w_p s_p        weight = sum_p w_p        for each (trajectory, time, variable, region)

and any average is (sum of totals) / (sum of weights) over the rows wanted. A metric is a function of such averages,
so a score over a year is exact although no more than one field was ever in memory, and tables of parts of an
archive can be merged. A table grows by about a kilobyte per field; what is larger (spectra) is summed per variable.

Intervals come from the bootstrap: rows are drawn with replacement, whole trajectories where there are at least
``TRAJECTORIES`` of them or more of them than blocks of times, else circular blocks of ceil(T^(1/3)) consecutive times,
since errors at neighbouring times resemble each other (Politis and Romano 1992).

Percentiles of few units are too narrow: the bootstrap's variance is (n - 1)/n of the unbiased one, and its tails are
those of a normal law. With n units (trajectories or blocks) the ends are therefore moved away from the score by

    sqrt(n / (n - 1)) t_{n-1} / z       (t, z: quantiles of Student's and the normal law; Hesterberg 2015, section 5)

and held within the metric's range. With fewer than ``FEWEST`` units there is no interval.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import special

from assimilation.fields.fields import Grid
from assimilation.verification.statistics import Pair, Statistic
from priors.runtime.errors import InputError

TRAJECTORIES = 8
FEWEST = 3  # units; of two, t is 12.7 at 95 %, and nothing shows whether they are alike
EVERYWHERE = "all"
_HELD = 1 << 18  # counts of resampled units held at once

Averages = Mapping[Statistic, np.ndarray]


@dataclass(frozen=True)
class Region:
    """A box of the grid: y (or latitude) from low to high and x (or longitude) from west to east, both included.

    Longitudes may lie any turn away; of the two ways from a larger to a smaller one (170 to -170, 10 to -10) the
    shorter is meant.
    """

    name: str
    y: tuple[float, float]
    x: tuple[float, float]

    def mask(self, grid: Grid) -> Bool[np.ndarray, "y x"]:
        """Return which points lie inside.

        Raises:
            InputError: none does.
        """
        rows = (grid.y >= self.y[0]) & (grid.y <= self.y[1])
        columns = self._columns(grid)
        if not (rows.any() and columns.any()):
            raise InputError(f"region '{self.name}': found no grid point in y {self.y}, x {self.x}")
        return np.outer(rows, columns)

    def _columns(self, grid: Grid) -> Bool[np.ndarray, " x"]:
        west, east = self.x
        if grid.kind == "plane":
            return np.asarray((grid.x >= min(west, east)) & (grid.x <= max(west, east)))
        if east < west and (east - west) % 360 > 180:
            west, east = east, west
        width = min(east - west if east >= west else (east - west) % 360, 360.0)
        slack = 1e-9
        return np.asarray((grid.x - west + slack) % 360 <= width + 2 * slack)


@dataclass(frozen=True)
class Metric:
    """A score: which statistics it needs, and what it makes of their averages (arrays of any leading shape).

    Attributes:
        name: of the score.
        statistics: it needs.
        value: made of their averages.
        lowest: value it can have, which an interval does not pass.
        highest: likewise.
    """

    name: str
    statistics: tuple[Statistic, ...]
    value: Callable[[Averages], np.ndarray]
    lowest: float = -np.inf
    highest: float = np.inf


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


@dataclass(frozen=True, order=True, slots=True)
class Row:
    """What one entry of a table is about; ``time`` and ``variable`` are places in the archive."""

    trajectory: int
    time: int
    variable: int


class _Column:
    """Totals and weights of one statistic, (row, region, c..), in arrays that double when they are full."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Begin without rows; ``shape`` is that of one row's totals."""
        self._held = np.empty((2, 8, *shape))
        self._count = 0

    def append(self, total: np.ndarray, weight: np.ndarray) -> None:
        """Add a row."""
        if self._count == self._held.shape[1]:
            self._held = np.concatenate([self._held, np.empty_like(self._held)], axis=1)
        self._held[0, self._count], self._held[1, self._count] = total, weight
        self._count += 1

    def rows(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield totals and weights of every row, (region, c..)."""
        for place in range(self._count):
            yield self._held[0, place], self._held[1, place]

    def at(self, places: np.ndarray, region: int) -> tuple[np.ndarray, np.ndarray]:
        """Return totals and weights of some rows, (row, c..)."""
        total, weight = self._held[:, places, region]
        return total, weight


class Table:
    """Totals and weights of statistics, row by row."""

    def __init__(self, statistics: Iterable[Statistic], grid: Grid, regions: Sequence[Region] = ()) -> None:
        """Begin an empty table; the region ``all`` always exists."""
        self.statistics = tuple(dict.fromkeys(statistics))
        self.regions = (EVERYWHERE, *(region.name for region in regions))
        masks = np.stack([np.ones(grid.shape), *(region.mask(grid) for region in regions)])
        self._weights: Float[np.ndarray, "r y x"] = masks * grid.area_weights()
        self._places: dict[Row, int] = {}
        self._columns: dict[Statistic, _Column] = {}
        self._summed: dict[tuple[Statistic, int], np.ndarray] = {}
        self.compared, self.offered = 0, 0

    @property
    def rows(self) -> list[Row]:
        """Return the rows in order."""
        return sorted(self._places)

    def add(self, row: Row, pair: Pair) -> None:
        """Add the statistics of one pair; a row can be given once.

        Raises:
            ValueError: the row is there already.
        """
        if row in self._places:
            raise ValueError(f"{row} is in the table already")
        for statistic in self.statistics:
            total, weight = self._total(statistic.compute(pair), statistic.pointwise)
            if statistic.by_row:
                self._columns.setdefault(statistic, _Column(total.shape)).append(total, weight)
            else:
                self._add_to_sum((statistic, row.variable), np.stack([total, weight]))
        self._places[row] = len(self._places)

    def merge(self, other: "Table") -> None:
        """Take over the rows of a table of the same statistics and regions."""
        if (self.statistics, self.regions) != (
            other.statistics,
            other.regions,
        ) or self._places.keys() & other._places:
            raise ValueError("tables to merge need the same statistics and regions and different rows")
        for statistic, column in other._columns.items():
            for total, weight in column.rows():
                self._columns.setdefault(statistic, _Column(total.shape)).append(total, weight)
        for name, part in other._summed.items():
            self._add_to_sum(name, part)
        first = len(self._places)
        self._places.update({row: first + place for row, place in other._places.items()})

    def score(
        self, metric: Metric, rows: Iterable[Row] | None = None, region: str = EVERYWHERE
    ) -> np.ndarray:
        """Return a metric over some rows (all by default); NaN where nothing was compared.

        Raises:
            ValueError: a statistic is kept by variable, and the rows are not all of some variables.
        """
        sums = self._sums(metric, self._places if rows is None else rows, region)
        means = {
            statistic: ratio(total.sum(axis=0, keepdims=True), weight.sum(axis=0, keepdims=True))
            for statistic, (total, weight) in sums.items()
        }
        return np.asarray(metric.value(means)[0])

    def interval(
        self,
        metric: Metric,
        rows: Iterable[Row] | None = None,
        *,
        seed: int = 0,
        draws: int = 1000,
        level: float = 0.95,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the bootstrap interval of a metric; NaN where fewer than ``FEWEST`` units exist.

        Raises:
            ValueError: a statistic is kept by variable, so that there is nothing to draw from.
        """
        if not all(statistic.by_row for statistic in metric.statistics):
            raise ValueError(f"{metric.name}: is kept by variable, expected a metric of rows")
        chosen = sorted(self._places if rows is None else rows)
        units, score = independent_units(chosen), self.score(metric, chosen)
        if units.independent < FEWEST:
            missing = np.full_like(score, np.nan)
            return missing, missing
        place, count = units.index, int(units.index.max()) + 1
        sums = {
            statistic: (_gathered(total, place, count), _gathered(weight, place, count))
            for statistic, (total, weight) in self._sums(metric, chosen, EVERYWHERE).items()
        }
        parts = [
            metric.value(
                {
                    statistic: ratio(np.tensordot(counts, total, 1), np.tensordot(counts, weight, 1))
                    for statistic, (total, weight) in sums.items()
                }
            )
            for counts in _resampled(count, np.random.default_rng(seed), draws, block=units.block)
        ]
        tail = (1 - level) / 2
        with np.errstate(invalid="ignore"):
            ends = np.quantile(np.concatenate(parts), [tail, 1 - tail], axis=0)
            ends = score + _widening(units.independent, tail) * (ends - score)
        low, high = np.clip(ends, metric.lowest, metric.highest)
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

    def _sums(
        self, metric: Metric, rows: Iterable[Row], region: str
    ) -> dict[Statistic, tuple[np.ndarray, np.ndarray]]:
        """Return totals and weights of some rows, (row, c..)."""
        if region not in self.regions:
            raise InputError(f"region: found '{region}', expected one of {', '.join(self.regions)}")
        chosen = list(rows)
        places = np.array([self._places[row] for row in chosen], np.int64)
        number = self.regions.index(region)
        return {
            statistic: self._columns[statistic].at(places, number)
            if statistic.by_row
            else self._sum_of(statistic, chosen, number)
            for statistic in metric.statistics
        }

    def _add_to_sum(self, name: tuple[Statistic, int], part: np.ndarray) -> None:
        held = self._summed.get(name)
        self._summed[name] = part if held is None else held + part

    def _sum_of(
        self, statistic: Statistic, rows: Sequence[Row], region: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return totals and weights of whole variables, (variable, c..)."""
        variables = {row.variable for row in rows}
        if len(rows) != sum(row.variable in variables for row in self._places):
            raise ValueError(f"{statistic} is kept by variable, expected all rows of some variables")
        total, weight = np.stack([self._summed[statistic, place] for place in sorted(variables)], axis=1)
        return total[:, region], weight[:, region]


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below, NaN where below is not positive."""
    positive = below > 0
    return np.where(positive, above / np.where(positive, below, 1.0), np.nan)


def independent_units(rows: Sequence[Row]) -> Units:
    """Return the independent samples among rows: trajectories where there are enough, else blocks of times."""
    trajectories = np.unique([row.trajectory for row in rows], return_inverse=True)[1]
    times = np.unique([row.time for row in rows], return_inverse=True)[1]
    block = int(np.ceil((times.max() + 1) ** (1 / 3)))
    by_times = Units(times, block, by_times=True)
    by_trajectories = Units(trajectories, 1, by_times=False)
    enough = min(TRAJECTORIES, by_times.independent)
    return by_trajectories if by_trajectories.independent >= enough else by_times


def _widening(count: int, tail: float) -> float:
    """Return by how much the percentiles of ``count`` units are too near the score."""
    return float(np.sqrt(count / (count - 1)) * special.stdtrit(count - 1, tail) / special.ndtri(tail))


def _gathered(values: np.ndarray, place: np.ndarray, count: int) -> np.ndarray:
    """Return the sums over the rows of each unit, (unit, c..)."""
    sums = np.zeros((count, *values.shape[1:]))
    np.add.at(sums, place, values)
    return sums


def _resampled(
    count: int, generator: np.random.Generator, draws: int, *, block: int
) -> Iterator[Float[np.ndarray, "draws units"]]:
    """Yield how often each unit is counted in each draw, some draws at a time."""
    starts = generator.integers(count, size=(draws, int(np.ceil(count / block))))
    together = max(1, _HELD // count)
    for first in range(0, draws, together):
        some = starts[first : first + together, :, None]
        drawn = (some + np.arange(block)).reshape(len(some), -1)[:, :count] % count
        flat = (drawn + count * np.arange(len(some))[:, None]).ravel()
        yield np.bincount(flat, minlength=len(some) * count).reshape(len(some), count).astype(np.float64)
