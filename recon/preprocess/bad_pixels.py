"""Detector pixels that do not measure: found by their statistics over the views, interpolated, given no weight.

A pixel, or up to ``WIDEST`` side by side, is bad (hot, cold, dead) if in most views it reads more, or less, than
both of the good pixels beside the group. An edge of the object does not: it lies between its neighbours, even where
it stands in the same column in every view. How much beyond them is the median over the views, compared with
``deviations`` times the scatter of the row, 1.4826 times the median absolute deviation of a pixel from the mean of
its two neighbours, with ``LEAST`` of the largest line integral, and with ``ROUGHER`` times the same deviation of the
good pixels beyond its neighbours; by as much it must leave the cubic through two good pixels on either side. The top
of a narrow object exceeds both of its neighbours too, but bends there as much as all around, and smoothly. What is at
most four columns wide and hardly moves (a wire near the rotation axis) cannot be told from bad pixels. The worst group
is taken out before the next is looked for: a dead pixel must not make its neighbours look wrong. A pixel is stuck if
its change from view to view is less than a tenth of that on both of its sides.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field

from priors.runtime.errors import InputError
from recon.data.scan import Scan
from recon.preprocess.base import Step, corrected
from recon.preprocess.radiographs import fill_dead

STUCK = 0.1
WIDEST = 3
"""Bad pixels side by side that are found; more are a module that fails, which nobody can interpolate."""
ROUGHER = 5.0
"""How many times more than the pixels around it a group must stand out."""
BESIDE = 5
"""Pixels on either side of a group, from the second on, that say how rough it is around it."""
LEAST = 2e-3
"""Share of the largest line integral below which a deviation is not worth a pixel."""
MOST = 0.2
"""A row with more bad pixels than this fraction is not a row with bad pixels."""


class BadPixels(Step):
    """Bad pixels found and interpolated along their row.

    Attributes:
        deviations: robust standard deviations from the neighbours beyond which a pixel is hot or cold.
        neighbours: columns on either side whose change a stuck pixel is compared with.
    """

    name: Literal["bad-pixels"] = "bad-pixels"
    deviations: float = Field(8.0, gt=0)
    neighbours: int = Field(4, ge=1)

    def __call__(self, data: Scan) -> Scan:
        """Return the scan with bad pixels interpolated and of weight 0.

        Raises:
            InputError: more pixels of a row deviate than bad pixels can explain.
        """
        bad = self.find(data.sinogram)
        share = bad.mean(axis=1)
        if (share > MOST).any():
            row = int(np.argmax(share))
            raise InputError(
                f"bad-pixels: found {100 * share[row]:.0f} % of detector row {row}, expected at most "
                f"{100 * MOST:.0f} %; raise deviations"
            )
        weights = data.weights.copy()
        weights[:, bad] = 0
        where = [[int(i) for i in pixel] for pixel in np.argwhere(bad)[:1000]]
        return corrected(data, self, fill_dead(data.sinogram, bad), weights, pixels=where)

    def find(self, sinogram: Float[np.ndarray, "v r c"]) -> Bool[np.ndarray, "r c"]:
        """Return which pixels are bad."""
        rows = [self._row(sinogram[:, row].astype(np.float64)) for row in range(sinogram.shape[1])]
        return np.stack(rows)

    def _row(self, lines: Float[np.ndarray, "v c"]) -> Bool[np.ndarray, " c"]:
        """Return the bad pixels of one detector row."""
        bad = self._stuck(lines)
        # Beyond the ends a row goes on as a straight line would: reflected through its last value.
        wide = np.pad(lines, ((0, 0), (WIDEST, WIDEST)), mode="reflect", reflect_type="odd")
        good = np.flatnonzero(np.pad(~bad, WIDEST, constant_values=True))
        while len(good) > 2 * WIDEST + lines.shape[1] // 2:
            first, count = self._worst(wide[:, good])
            if not count:
                break
            good = np.delete(good, np.arange(first, first + count))
        inside = good[(good >= WIDEST) & (good < WIDEST + lines.shape[1])] - WIDEST
        bad = np.ones(lines.shape[1], dtype=bool)
        bad[inside] = False
        return bad

    def _worst(self, lines: Float[np.ndarray, "v c"]) -> tuple[int, int]:
        """Return the first column and the width of the group that stands out most, width 0 where none does."""
        columns = lines.shape[1]
        middle = lines[:, 1:-1] - (lines[:, :-2] + lines[:, 2:]) / 2
        scatter = 1.4826 * float(np.median(abs(np.median(middle, axis=0))))
        limit = max(self.deviations * scatter, LEAST * float(np.quantile(abs(lines), 0.99)), 1e-12)
        typical = np.pad(abs(np.median(middle, axis=0)), 1)
        band, most = (0, 0), 1.0
        for width in range(1, WIDEST + 1):
            start = np.arange(WIDEST, columns - WIDEST - width + 1)
            one, other = lines[:, start - 1], lines[:, start + width]
            low, high = np.minimum(one, other), np.maximum(one, other)
            inside = np.stack([lines[:, start + k] for k in range(width)])
            # Beyond its neighbours on one side in every pixel of the group; signed, 0 between them.
            above, below = np.maximum(inside.min(axis=0) - high, 0), np.minimum(inside.max(axis=0) - low, 0)
            # And beyond what a smooth line through two pixels on either side says, as the top of an object is not.
            apart = inside - _smooth(lines, start, width)
            beyond = np.minimum(above, np.maximum(apart.min(axis=0), 0))
            beyond += np.maximum(below, np.minimum(apart.max(axis=0), 0))
            # Most views, or so many of them that their mean shows it; a single spike counts as eight limits.
            mean = abs(np.clip(beyond, -8 * limit, 8 * limit).mean(axis=0))
            steady = abs(np.median(beyond, axis=0))
            excess = np.maximum(
                steady / np.maximum(limit, np.minimum(*_beside(typical, start, width))),
                mean / np.maximum(limit, np.maximum(*_beside(mean, start - start[:1], width))),
            )
            best = int(np.argmax(excess)) if excess.size else 0
            if excess.size and excess[best] > most:
                band, most = (int(start[best]), width), float(excess[best])
        return band

    def _stuck(self, lines: Float[np.ndarray, "v c"]) -> Bool[np.ndarray, " c"]:
        """Return the pixels that hardly change from view to view while those on both sides do."""
        views, columns = lines.shape
        if views < 3:
            return np.zeros(columns, dtype=bool)
        change = abs(np.diff(lines, axis=0)).mean(axis=0)
        wide = np.pad(change, self.neighbours, mode="reflect") if columns > self.neighbours else None
        if wide is None:
            return np.zeros(columns, dtype=bool)
        at = np.arange(columns) + self.neighbours
        left, right = (
            np.median([wide[at + side * k] for k in range(1, self.neighbours + 1)], axis=0)
            for side in (-1, 1)
        )
        return np.asarray(change < STUCK * np.minimum(left, right))


def _beside(
    rough: Float[np.ndarray, " c"], start: np.ndarray, width: int
) -> tuple[Float[np.ndarray, " g"], Float[np.ndarray, " g"]]:
    """Return ``ROUGHER`` times how rough it is to the left and to the right of groups of pixels."""
    last = len(rough) - 1
    left, right = (
        ROUGHER * np.median([rough[np.clip(place, 0, last)] for place in places], axis=0)
        for places in (
            [start - k for k in range(2, BESIDE + 1)],
            [start + width - 1 + k for k in range(2, BESIDE + 1)],
        )
    )
    return left, right


def _smooth(lines: Float[np.ndarray, "v c"], start: np.ndarray, width: int) -> Float[np.ndarray, "k v g"]:
    """Return the cubic through the two pixels on either side of groups, at each pixel of a group."""
    places = np.array([-2, -1, width, width + 1])
    weights = [[np.prod([(k - q) / (p - q) for q in places if q != p]) for p in places] for k in range(width)]
    beside = np.stack([lines[:, start + place] for place in places])
    return np.asarray(np.tensordot(np.array(weights), beside, axes=1))
