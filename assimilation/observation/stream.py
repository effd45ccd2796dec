"""Streams: observations of one frame after the other, from gridded values or from a table.

Gridded: the entries of H(state) that are finite. Table: rows (time, place, variable, value, sigma), each read by
bilinear sampling and assigned to the analysis time nearest to it, within half the step between them.
"""

from dataclasses import dataclass

import numpy as np
import torch

from assimilation.fields.grid import Grid, Variable
from assimilation.observation.base import Observation, ObservationStream
from assimilation.observation.observing import Observed
from assimilation.observation.point import PointSampling, Selection
from priors.runtime.errors import InputError

HALF_STEP = 0.5
_SIGMAS = 1e-18, 1e18


@dataclass(frozen=True, eq=False)
class Rows:
    """Observations at places, one entry per observation in every array.

    Attributes:
        trajectory: which trajectory it belongs to.
        time: datetime64[ns].
        y, x: coordinates in the grid's unit (latitude and longitude on a sphere).
        channel: position of its variable on the state's axis k.
        value, sigma: physical units.
    """

    trajectory: np.ndarray
    time: np.ndarray
    y: np.ndarray
    x: np.ndarray
    channel: np.ndarray
    value: np.ndarray
    sigma: np.ndarray


class GriddedStream(ObservationStream):
    """Observations on an instrument's lattice."""

    def __init__(self, observed: Observed) -> None:
        """Wrap gridded observations.

        Raises:
            InputError: an error is not positive where there is a value.
        """
        self.observed = observed
        values = observed.fields.values
        self.times, self.variables, self.grid = observed.fields.times, observed.variables, observed.grid
        self.trajectories = values.shape[0]
        self._sigma = np.broadcast_to(observed.sigma, values.shape)
        check_sigma(self._sigma, np.isfinite(values))
        self._operator = observed.instrument.operator(observed.variables)

    def at(self, trajectory: int, index: int) -> Observation | None:
        """Return the finite values of one frame, None where there are none."""
        values = self.observed.fields.values[trajectory, index].ravel()
        points = np.flatnonzero(np.isfinite(values))
        if points.size == 0:
            return None
        sigma = self._sigma[trajectory, index].ravel()[points]
        operator = Selection(self._operator, torch.from_numpy(points))
        return Observation(torch.from_numpy(values[points]), torch.from_numpy(sigma**2), operator)


class TableStream(ObservationStream):
    """Observations from a table."""

    def __init__(
        self,
        rows: Rows,
        *,
        times: np.ndarray,
        variables: tuple[Variable, ...],
        grid: Grid,
        source: str = "table",
    ) -> None:
        """Assign every row to an analysis time.

        Args:
            rows: the table.
            times: analysis times, ascending.
            variables: of the state.
            grid: of the state.
            source: what messages call the table.

        Raises:
            InputError: a place outside the grid, or a time further than half a step from every analysis.
        """
        self.times, self.variables, self.grid = times, variables, grid
        self.trajectories = int(rows.trajectory.max()) + 1
        try:
            self._y, self._x = grid.fractional_index(*within_cells(grid, rows.y, rows.x))
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
        check_sigma(rows.sigma, np.ones(rows.sigma.shape, bool))
        self.rows, self._frame = rows, nearest_time(rows.time, times, source=source)

    def at(self, trajectory: int, index: int) -> Observation | None:
        """Return the rows of one frame, None where there are none."""
        mine = np.flatnonzero((self.rows.trajectory == trajectory) & (self._frame == index))
        if mine.size == 0:
            return None

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array[mine].astype(np.float32))

        channel = torch.from_numpy(self.rows.channel[mine].astype(np.int64))
        operator = PointSampling(tensor(self._y), tensor(self._x), channel, self.grid.periodic)
        return Observation(tensor(self.rows.value), tensor(self.rows.sigma) ** 2, operator)


def check_sigma(sigma: np.ndarray, observed: np.ndarray) -> None:
    """Check that the errors of observations have a variance in single precision.

    Raises:
        InputError: one is not positive, or its square overflows or vanishes.
    """
    low, high = _SIGMAS
    wrong = observed & ~((sigma >= low) & (sigma <= high))
    if wrong.any():
        found = float(sigma[wrong][0])
        expected = f"{low:g} to {high:g}" if found > 0 else "a positive number"
        raise InputError(f"sigma: found {found:g} at an observed value, expected {expected}")


def within_cells(grid: Grid, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return places with those in the outer half of an edge cell moved to its centre, where the grid ends."""
    moved = []
    for axis, step, values, closed in zip((grid.y, grid.x), grid.spacing, (y, x), grid.periodic, strict=True):
        edge = 0.5 * step * (1 + 1e-6)
        near = (values >= axis[0] - edge) & (values <= axis[-1] + edge)
        moved.append(values if closed else np.where(near, np.clip(values, axis[0], axis[-1]), values))
    return moved[0], moved[1]


def nearest_time(time: np.ndarray, times: np.ndarray, *, source: str) -> np.ndarray:
    """Return the index of the analysis time nearest to each observation.

    A single analysis time takes every observation. Halfway between two, the earlier one does.

    Raises:
        InputError: one is further than half a step away.
    """
    stamps, analyses = time.astype("int64"), times.astype("int64")
    if analyses.size == 1:
        return np.zeros(stamps.size, np.int64)
    middles = (analyses[:-1] + analyses[1:]) / 2
    frame = np.searchsorted(middles, stamps, side="left")
    reach = HALF_STEP * np.diff(analyses).max()
    far = np.abs(stamps - analyses[frame]) > reach
    if far.any():
        raise InputError(
            f"{source}: time: found {np.datetime_as_string(time[far][0], unit='s')} ({int(far.sum())} of "
            f"{far.size} observations lie outside), expected {np.datetime_as_string(times[0], unit='s')} to "
            f"{np.datetime_as_string(times[-1], unit='s')} within half a step"
        )
    return frame
