"""Averages of statistics that add: totals per trajectory, time, variable and region.

For a statistic s with values s_p at points p and weights w_p (area times region, zero where missing) a table keeps

    total = sum_p w_p s_p        weight = sum_p w_p        for each (trajectory, time, variable, region)

and any average is (sum of totals) / (sum of weights) over the rows wanted. A metric is a function of such averages,
so a score over a year is exact although no more than one field was ever in memory, and tables of parts of an
archive can be merged. A table grows by about a kilobyte per field; what is larger (spectra) is summed per variable.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from assimilation.fields.fields import Grid
from assimilation.verification.bootstrap import FEWEST, Row, independent_units, resampled, unit_sums, widening
from assimilation.verification.metrics import Metric, ratio
from assimilation.verification.statistics import Pair, Statistic
from priors.runtime.errors import InputError

EVERYWHERE = "all"


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
        for row in range(self._count):
            yield self._held[0, row], self._held[1, row]

    def at(self, rows: np.ndarray, region: int) -> tuple[np.ndarray, np.ndarray]:
        """Return totals and weights of some rows, (row, c..)."""
        total, weight = self._held[:, rows, region]
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
        for name, sums in other._summed.items():
            self._add_to_sum(name, sums)
        first = len(self._places)
        self._places.update({row: first + number for row, number in other._places.items()})

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
            raise ValueError(f"{metric.key}: is kept by variable, expected a metric of rows")
        wanted = sorted(self._places if rows is None else rows)
        units, score = independent_units(wanted), self.score(metric, wanted)
        if units.independent < FEWEST:
            missing = np.full_like(score, np.nan)
            return missing, missing
        index, count = units.index, int(units.index.max()) + 1
        sums = {
            statistic: (unit_sums(total, index, count), unit_sums(weight, index, count))
            for statistic, (total, weight) in self._sums(metric, wanted, EVERYWHERE).items()
        }
        scores = [
            metric.value(
                {
                    statistic: ratio(np.tensordot(counts, total, 1), np.tensordot(counts, weight, 1))
                    for statistic, (total, weight) in sums.items()
                }
            )
            for counts in resampled(count, np.random.default_rng(seed), draws, block=units.block)
        ]
        tail = (1 - level) / 2
        with np.errstate(invalid="ignore"):
            ends = np.quantile(np.concatenate(scores), [tail, 1 - tail], axis=0)
            ends = score + widening(units.independent, tail) * (ends - score)
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
        scored = list(rows)
        indices = np.array([self._places[row] for row in scored], np.int64)
        number = self.regions.index(region)
        return {
            statistic: self._columns[statistic].at(indices, number)
            if statistic.by_row
            else self._sum_of(statistic, scored, number)
            for statistic in metric.statistics
        }

    def _add_to_sum(self, name: tuple[Statistic, int], sums: np.ndarray) -> None:
        held = self._summed.get(name)
        self._summed[name] = sums if held is None else held + sums

    def _sum_of(
        self, statistic: Statistic, rows: Sequence[Row], region: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return totals and weights of whole variables, (variable, c..)."""
        variables = {row.variable for row in rows}
        if len(rows) != sum(row.variable in variables for row in self._places):
            raise ValueError(f"{statistic} is kept by variable, expected all rows of some variables")
        total, weight = np.stack(
            [self._summed[statistic, variable] for variable in sorted(variables)], axis=1
        )
        return total[:, region], weight[:, region]
