"""Detector pixels that do not measure: found by their statistics over the views, interpolated, given no weight.

What a pixel should read on average over the views is the median, over pairs of neighbours at equal distances left and
right, of their mean: exact where the row is straight, whatever one neighbour does. A pixel is bad (hot, cold) if it
deviates from that by more than ``deviations`` robust standard deviations of its row, 1.4826 times the median absolute
deviation, or (stuck) if its change from view to view is less than a tenth of its neighbours' median.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from pydantic import Field
from scipy.ndimage import median_filter

from priors.runtime.errors import InputError
from recon.data.scan import Scan
from recon.preprocess.base import Step, corrected
from recon.preprocess.radiographs import fill_dead

STUCK = 0.1
MOST = 0.2
"""A row with more bad pixels than this fraction is not a row with bad pixels."""


class BadPixels(Step):
    """Bad pixels found and interpolated along their row.

    Attributes:
        deviations: robust standard deviations from the neighbours beyond which a pixel is hot or cold.
        neighbours: pairs of columns that a pixel is compared with.
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
        where = [[int(i) for i in place] for place in np.argwhere(bad)[:1000]]
        return corrected(data, self, fill_dead(data.sinogram, bad), weights, pixels=where)

    def find(self, sinogram: Float[np.ndarray, "v r c"]) -> Bool[np.ndarray, "r c"]:
        """Return which pixels are bad."""
        level = sinogram.mean(axis=0, dtype=np.float64)
        away = abs(level - self._expected(level))
        spread = 1.4826 * np.median(away, axis=1, keepdims=True)
        wild = away > self.deviations * np.maximum(spread, 1e-6 * abs(level).max())
        if len(sinogram) < 3:
            return np.asarray(wild)
        change = abs(np.diff(sinogram, axis=0)).mean(axis=0, dtype=np.float64)
        return np.asarray(wild | (change < STUCK * median_filter(change, size=(1, 2 * self.neighbours + 1))))

    def _expected(self, level: Float[np.ndarray, "r c"]) -> Float[np.ndarray, "r c"]:
        reach, columns = self.neighbours, level.shape[1]
        # Beyond the ends a row goes on as a straight line would: reflected through its last value.
        wide = np.pad(level, ((0, 0), (reach, reach)), mode="reflect", reflect_type="odd")
        at = np.arange(columns) + reach
        pairs = [(wide[:, at - k] + wide[:, at + k]) / 2 for k in range(1, reach + 1)]
        return np.asarray(np.median(pairs, axis=0))
