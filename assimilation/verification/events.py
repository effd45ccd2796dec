"""Events: a variable at or above a threshold q, such as rain of 1 mm/h and more.

Counts a hits, b false alarms, c misses, d correct rejections (averages of indicators, so that they add):

    CSI = a / (a + b + c)     POD = a / (a + c)     FAR = b / (a + b)
    HSS = 2 (a d - b c) / ((a + c)(c + d) + (a + b)(b + d))

The forecast of a yes or no is the ensemble mean (``of="mean"``), or each member in turn with averaged counts
(``of="members"``): the mean is smooth and misses heavy rain, single members have the truth's extremes.

Fractions skill score at a scale of n cells (Roberts and Lean 2008): P is the share of event cells in the n x n
neighbourhood (across the seam of periodic axes), for an ensemble the mean over members (Duc et al. 2013), and
FSS = 1 - mean (P_f - P_o)^2 / (mean P_f^2 + mean P_o^2). Where the neighbourhood leaves the field, ``border`` decides:

    valid   P is the share among the cells that exist and have a value; every valid cell is a centre
    zeros   cells outside or without a value hold no event, P divides by n^2 (pysteps); every valid cell is a centre
    cut     as ``valid``, but only neighbourhoods that lie in the field as a whole count (the ``scores`` library)

Reliability: of the times when k of M members showed the event, how often it happened.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from assimilation.verification.statistics import Pair, PerPoint, Statistic
from priors.runtime.errors import InputError

Source = Literal["mean", "members"]
Border = Literal["valid", "zeros", "cut"]


@dataclass(frozen=True)
class Contingency(Statistic):
    """Hits, false alarms, misses, correct rejections at a threshold in the variable's unit."""

    threshold: float
    of: Source = "mean"

    def compute(self, pair: Pair) -> PerPoint:
        """Return the four indicators (averaged over members for ``members``), (4, y, x)."""
        observed = pair.y >= self.threshold
        forecast = pair.mean[None] if self.of == "mean" else pair.x
        share = (forecast >= self.threshold).mean(axis=0)
        cells = [share * observed, share * ~observed, (1 - share) * observed, (1 - share) * ~observed]
        return np.where(pair.valid, np.stack(cells), np.nan)


@dataclass(frozen=True)
class Fractions(Statistic):
    """(P_f - P_o)^2, P_f^2 and P_o^2 at a threshold and a scale in cells (odd); ``border``: see the module."""

    threshold: float
    scale: int
    border: Border = "valid"

    def __post_init__(self) -> None:
        """Check the scale (an even window has no centre) and the border."""
        if self.scale < 1 or self.scale % 2 == 0:
            raise ValueError(f"scale: found {self.scale}, expected an odd number of cells")
        if self.border not in get_args(Border):
            raise InputError(
                f"fss_border: found '{self.border}', expected one of {', '.join(get_args(Border))}"
            )

    def compute(self, pair: Pair) -> PerPoint:
        """Return the three squares, (3, y, x)."""
        events = (pair.x >= self.threshold).mean(axis=0)
        forecast = self._fraction(events, pair)
        observed = self._fraction((pair.y >= self.threshold).astype(np.float64), pair)
        squares = np.stack([(forecast - observed) ** 2, forecast**2, observed**2])
        return np.where(pair.valid & self._centres(pair), squares, np.nan)

    def _centres(self, pair: Pair) -> Bool[np.ndarray, "y x"]:
        """Return the cells whose neighbourhoods count."""
        if self.border != "cut":
            return np.ones(pair.grid.shape, bool)
        half = self.scale // 2
        rows, columns = (
            np.full(count, True) if periodic else np.minimum(np.arange(count), np.arange(count)[::-1]) >= half
            for count, periodic in zip(pair.grid.shape, pair.grid.periodic, strict=True)
        )
        return np.outer(rows, columns)

    def _fraction(self, events: Float[np.ndarray, "y x"], pair: Pair) -> Float[np.ndarray, "y x"]:
        """Return the share of events in each neighbourhood."""
        mode = ["wrap" if periodic else "constant" for periodic in pair.grid.periodic]
        inside: Bool[np.ndarray, "y x"] = pair.valid
        share = ndimage.uniform_filter(np.where(inside, events, 0.0), self.scale, mode=mode)
        # The filter's running sums leave rounding of either sign in empty windows.
        if self.border == "zeros":
            return np.asarray(np.clip(share, 0.0, 1.0))
        weight = ndimage.uniform_filter(inside.astype(np.float64), self.scale, mode=mode)
        return np.asarray(np.clip(share / np.maximum(weight, 0.5 / self.scale**2), 0.0, 1.0))


@dataclass(frozen=True)
class ReliabilityCounts(Statistic):
    """For each number k of members that show the event: how often it was forecast, and how often it happened."""

    threshold: float

    def compute(self, pair: Pair) -> PerPoint:
        """Return the two sets of indicators, (2, M + 1, y, x)."""
        count = (pair.x >= self.threshold).sum(axis=0)
        forecast = np.arange(len(pair.x) + 1)[:, None, None] == count
        happened = forecast & (pair.y >= self.threshold)
        return np.where(pair.valid, np.stack([forecast, happened]).astype(np.float64), np.nan)
