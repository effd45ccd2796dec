"""Climatology: the mean state, and how far states lie from it.

    c_h = mean of the states at hour h of the day        s_h^2 = their variance (divisor: their number)

Where every hour of the day that occurs does so on ``DAYS`` days or more the mean follows the hour; otherwise, and for
systems whose step is not a part of a day, one mean serves all times. Missing values are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from assimilation.fields.fields import Fields, Grid, Variable
from assimilation.fields.streams import FieldStream
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
        return np.asarray(self.mean[self._hour_index(time)])

    def deviation_at(self, time: np.datetime64) -> Float[np.ndarray, "k y x"]:
        """Return the standard deviation about the mean at a time."""
        return np.asarray(self.deviation[self._hour_index(time)])

    def _hour_index(self, time: np.datetime64) -> int:
        distance = np.abs(self.hours - _hour(np.array([time]))[0])
        return int(np.argmin(np.minimum(distance, _DAY - distance)))


def climatology(training: Fields | FieldStream) -> Climatology:
    """Return the climatology of training fields, over their trajectories and times; streams are read twice.

    Raises:
        InputError: there is no value at all.
    """
    frames = FieldStream.of(training)
    hours = _hour(frames.times)
    kinds, slot, counts = np.unique(hours, return_inverse=True, return_counts=True)
    if not (kinds.size > 1 and counts.min() >= DAYS):
        kinds, slot = np.zeros(1, "timedelta64[ns]"), np.zeros(hours.size, np.int64)
    mean, count = _averages(frames, slot, lambda values, row: values)
    if not count.any():
        raise InputError("climatology: found no value in the training fields, expected some")
    square, _ = _averages(frames, slot, lambda values, row: (values - mean[row]) ** 2)
    seen = count > 0
    deviation = np.where(seen, np.sqrt(square), np.nan)
    return Climatology(kinds, np.where(seen, mean, np.nan), deviation, frames.variables, frames.grid)


def _averages(
    frames: FieldStream, slot: np.ndarray, of: Callable[[np.ndarray, int], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of a function of the finite values in each slot (0 without any), and their number."""
    shape = (int(slot.max()) + 1, len(frames.variables), *frames.grid.shape)
    total, count = np.zeros(shape), np.zeros(shape, np.int64)
    for trajectory, time in np.ndindex(frames.trajectories, frames.times.size):
        values, row = frames.read(trajectory, time)[0].astype(np.float64), int(slot[time])
        valid = np.isfinite(values)
        total[row] += np.where(valid, of(np.where(valid, values, 0.0), row), 0.0)
        count[row] += valid
    return total / np.maximum(count, 1), count


def _hour(times: np.ndarray) -> np.ndarray:
    """Return the time of day."""
    return np.asarray((times - times.astype("datetime64[D]")).astype("timedelta64[ns]"))
