"""Climatology: the mean state, and how far states lie from it.

    c_h = mean of the states at hour h of the day        s_h^2 = their variance (divisor: their number)

Where every hour of the day that occurs does so on ``DAYS`` days or more the mean follows the hour; otherwise, and for
systems whose step is not a part of a day, one mean serves all times. Missing values are left out.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from assimilation.fields import Fields, Grid, Variable
from priors.runtime.errors import InputError

DAYS = 5
_DAY = np.timedelta64(1, "D").astype("timedelta64[ns]")


@dataclass(frozen=True, eq=False)
class Climatology:
    """Mean and deviation by time of day.

    Attributes:
        hours: time of day of each entry, timedelta64[ns]; one entry serves every time where there is only one.
        mean: physical units, NaN where never observed.
        deviation: standard deviation about the mean.
        variables: along k.
        grid: along y and x.
    """

    hours: np.ndarray
    mean: Float[np.ndarray, "hour k y x"]
    deviation: Float[np.ndarray, "hour k y x"]
    variables: tuple[Variable, ...]
    grid: Grid

    def at(self, time: np.datetime64) -> Float[np.ndarray, "k y x"]:
        """Return the mean state at a time (of the nearest hour of the day)."""
        return np.asarray(self.mean[self._place(time)])

    def deviation_at(self, time: np.datetime64) -> Float[np.ndarray, "k y x"]:
        """Return the standard deviation about the mean at a time."""
        return np.asarray(self.deviation[self._place(time)])

    def _place(self, time: np.datetime64) -> int:
        distance = np.abs(self.hours - _hour(np.array([time]))[0])
        return int(np.argmin(np.minimum(distance, _DAY - distance)))


def climatology(training: Fields) -> Climatology:
    """Return the climatology of training fields, over their trajectories and times.

    Raises:
        InputError: there is no value at all.
    """
    if not np.isfinite(training.values).any():
        raise InputError("climatology: found no value in the training fields, expected some")
    hours = _hour(training.times)
    kinds, counts = np.unique(hours, return_counts=True)
    if kinds.size > 1 and counts.min() >= DAYS:
        slots = [hours == kind for kind in kinds]
    else:
        kinds, slots = np.zeros(1, "timedelta64[ns]"), [np.ones(hours.size, bool)]
    pairs = [_moments(training.values[:, slot].astype(np.float64)) for slot in slots]
    mean, deviation = (np.stack(part) for part in zip(*pairs, strict=True))
    return Climatology(kinds, mean, deviation, training.variables, training.grid)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation over trajectories and times, NaN where nothing was observed."""
    valid = np.isfinite(values)
    count = valid.sum(axis=(0, 1))
    mean = np.where(valid, values, 0.0).sum(axis=(0, 1)) / np.maximum(count, 1)
    square = (np.where(valid, values - mean, 0.0) ** 2).sum(axis=(0, 1)) / np.maximum(count, 1)
    seen = count > 0
    return np.where(seen, mean, np.nan), np.where(seen, np.sqrt(square), np.nan)


def _hour(times: np.ndarray) -> np.ndarray:
    """Return the time of day."""
    return np.asarray((times - times.astype("datetime64[D]")).astype("timedelta64[ns]"))
