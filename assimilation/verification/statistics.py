"""Statistics: numbers per grid point whose averages add, so that an archive of any size can stream through.

One pair is an ensemble x_1 ... x_M and the truth y of one variable at one time; m = mean_i x_i.

    squared error       (m - y)^2               error       m - y             absolute error   |m - y|
    variance            s^2 = sum_i (x_i - m)^2 / (M - 1)
    expected error      (M + 1)/M s^2: what (m - y)^2 is on average when y is one more draw of the same law
    fair CRPS           mean_i |x_i - y| - sum_{i<j} |x_i - x_j| / (M (M - 1))
    ranks               y falls in bin r = #{x_i < y} of 0 ... M; members equal to y share their bins evenly,
                        which is the expectation of breaking ties at random
    anomaly products    (m - c)(y - c), (m - c)^2, (y - c)^2 with the climatology c

The fair CRPS (Ferro 2014) has the expectation of the CRPS of the distribution the members come from, for every M
above 1; a single member has its absolute error. Where the truth or any member is missing (NaN), so is the value.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float

from assimilation.fields.fields import Grid

PerPoint = Float[np.ndarray, "*c y x"]


@dataclass(frozen=True, eq=False)
class Pair:
    """An ensemble and the truth of one variable at one time, in physical units, NaN where missing."""

    members: Float[np.ndarray, "m y x"]
    truth: Float[np.ndarray, "y x"]
    grid: Grid
    climatology: Float[np.ndarray, "y x"] | None = None

    @cached_property
    def valid(self) -> Bool[np.ndarray, "y x"]:
        """Return where the truth and every member have a value."""
        return np.asarray(np.isfinite(self.truth) & np.isfinite(self.members).all(axis=0))

    @cached_property
    def x(self) -> Float[np.ndarray, "m y x"]:
        """Return the members in double precision, NaN outside ``valid``."""
        return np.where(self.valid, self.members.astype(np.float64), np.nan)

    @cached_property
    def y(self) -> Float[np.ndarray, "y x"]:
        """Return the truth in double precision, NaN outside ``valid``."""
        return np.where(self.valid, self.truth.astype(np.float64), np.nan)

    @cached_property
    def mean(self) -> Float[np.ndarray, "y x"]:
        """Return the ensemble mean."""
        return np.asarray(self.x.mean(axis=0))


class Statistic(ABC):
    """One number, or an array of them, per grid point. Instances are hashable: they name columns of a table."""

    pointwise: ClassVar[bool] = True  # False: one value for the whole field, which a region cannot split
    by_row: ClassVar[bool] = True  # False: large, and asked over everything of a variable only

    @abstractmethod
    def compute(self, pair: Pair) -> PerPoint | Float[np.ndarray, "c"]:
        """Return the values (c.., y, x), NaN where missing; (c) where not pointwise."""


@dataclass(frozen=True)
class SquaredError(Statistic):
    """(m - y)^2."""

    def compute(self, pair: Pair) -> PerPoint:
        """Return the squared error of the ensemble mean."""
        return np.asarray((pair.mean - pair.y) ** 2)


@dataclass(frozen=True)
class AbsoluteError(Statistic):
    """|m - y|."""

    def compute(self, pair: Pair) -> PerPoint:
        """Return the absolute error of the ensemble mean."""
        return np.asarray(np.abs(pair.mean - pair.y))


@dataclass(frozen=True)
class Error(Statistic):
    """m - y."""

    def compute(self, pair: Pair) -> PerPoint:
        """Return the error of the ensemble mean."""
        return np.asarray(pair.mean - pair.y)


@dataclass(frozen=True)
class Variance(Statistic):
    """s^2, or the expected squared error (M + 1)/M s^2; missing for a single member."""

    of: Literal["members", "error"] = "members"

    def compute(self, pair: Pair) -> PerPoint:
        """Return the unbiased variance of the members, times (M + 1)/M for ``error``."""
        count = len(pair.x)
        if count < 2:
            return np.full(pair.y.shape, np.nan)
        factor = (count + 1) / count if self.of == "error" else 1.0
        return np.asarray(factor * pair.x.var(axis=0, ddof=1))


@dataclass(frozen=True)
class FairCRPS(Statistic):
    """mean_i |x_i - y| - sum_{i<j} |x_i - x_j| / (M (M - 1))."""

    def compute(self, pair: Pair) -> PerPoint:
        """Return the fair CRPS; for a single member its absolute error."""
        count = len(pair.x)
        distance: PerPoint = np.abs(pair.x - pair.y).mean(axis=0)
        if count < 2:
            return distance
        # sum_{i<j} (x_(j) - x_(i)) over sorted members weighs x_(i) with 2 i - M - 1, i = 1 ... M.
        order = 2.0 * np.arange(1, count + 1) - count - 1
        spread = np.einsum("i,iyx->yx", order, np.sort(pair.x, axis=0))
        return np.asarray(distance - spread / (count * (count - 1)))


@dataclass(frozen=True)
class Ranks(Statistic):
    """The bin of the truth among the members, as M + 1 indicators that sum to one."""

    def compute(self, pair: Pair) -> PerPoint:
        """Return the share of each rank, (M + 1, y, x)."""
        below = (pair.x < pair.y).sum(axis=0)
        ties = (pair.x == pair.y).sum(axis=0)
        bins = np.arange(len(pair.x) + 1)[:, None, None]
        shares = ((bins >= below) & (bins <= below + ties)) / (ties + 1.0)
        return np.where(pair.valid, shares, np.nan)


@dataclass(frozen=True)
class AnomalyProducts(Statistic):
    """(m - c)(y - c), (m - c)^2 and (y - c)^2; missing without a climatology."""

    def compute(self, pair: Pair) -> PerPoint:
        """Return the three products, (3, y, x)."""
        if pair.climatology is None:
            return np.full((3, *pair.y.shape), np.nan)
        forecast, observed = pair.mean - pair.climatology, pair.y - pair.climatology
        return np.stack([forecast * observed, forecast**2, observed**2])
