"""Streams: observations of one frame after the other, from gridded values or from a table.

Gridded: the entries of H(state) that are finite. Table: rows (time, place, variable, value, sigma), each read by
bilinear sampling and assigned to the analysis time nearest to it, within half the step between them.
"""

from pathlib import Path

import numpy as np
import torch

from assimilation.grid import Grid, Variable
from assimilation.io.observations import read_gridded
from assimilation.io.tables import SUFFIXES, Rows, read_table, to_rows
from assimilation.observation.base import Observation, ObservationStream
from assimilation.observation.observing import Observed
from assimilation.observation.point import PointSampling, Selection
from priors.runtime.errors import InputError

HALF_STEP = 0.5


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
        wrong = np.isfinite(values) & ~((self._sigma > 0) & np.isfinite(self._sigma))
        if wrong.any():
            found = float(self._sigma[wrong][0])
            raise InputError(f"sigma: found {found:g} at an observed value, expected a positive number")
        self._operator = observed.instrument.operator(observed.variables)

    def at(self, trajectory: int, index: int) -> Observation | None:
        """Return the finite values of one frame, None where there are none."""
        values = self.observed.fields.values[trajectory, index].ravel()
        places = np.flatnonzero(np.isfinite(values))
        if places.size == 0:
            return None
        sigma = self._sigma[trajectory, index].ravel()[places]
        chosen = Selection(self._operator, torch.from_numpy(places))
        return Observation(torch.from_numpy(values[places]), torch.from_numpy(sigma**2), chosen)


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
            self._y, self._x = grid.fractional_index(rows.y, rows.x)
        except InputError as error:
            raise InputError(f"{source}: {error}") from error
        self._rows, self._frame = rows, nearest_time(rows.time, times, source=source)

    def at(self, trajectory: int, index: int) -> Observation | None:
        """Return the rows of one frame, None where there are none."""
        mine = np.flatnonzero((self._rows.trajectory == trajectory) & (self._frame == index))
        if mine.size == 0:
            return None

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(array[mine].astype(np.float32))

        channel = torch.from_numpy(self._rows.channel[mine].astype(np.int64))
        operator = PointSampling(tensor(self._y), tensor(self._x), channel, self.grid.periodic)
        return Observation(tensor(self._rows.value), tensor(self._rows.sigma) ** 2, operator)


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


def read_observations(
    path: Path,
    *,
    grid: Grid | None = None,
    variables: tuple[Variable, ...] | None = None,
    times: np.ndarray | None = None,
    step_s: float | None = None,
) -> ObservationStream:
    """Return the stream of a gridded file or a table.

    Args:
        path: NetCDF, Zarr, CSV or Parquet.
        grid: of the state; the one the file tells where not given.
        variables: of the state; those the file tells where not given.
        times: analysis times of a table; those it tells, or steps of ``step_s``, where not given.
        step_s: seconds between the analysis times of a table.

    Raises:
        InputError: the file is damaged, does not fit the state, or does not tell it and nothing was given.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        try:
            return GriddedStream(read_gridded(path, grid=grid, variables=variables))
        except InputError as error:
            raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    frame, layout = read_table(path)
    grid = grid or (layout.grid if layout else None)
    variables = variables or (layout.variables if layout else None)
    if grid is None or variables is None:
        raise InputError(f"{path}: tells no grid, expected one to be given beside the table")
    rows = to_rows(frame, variables=variables, grid=grid, source=str(path))
    if times is None and layout is not None and step_s is None:
        times = layout.times
    return TableStream(
        rows,
        times=_analysis_times(rows.time, times, step_s, path),
        variables=variables,
        grid=grid,
        source=str(path),
    )


def _analysis_times(
    observed: np.ndarray, times: np.ndarray | None, step_s: float | None, path: Path
) -> np.ndarray:
    """Return given times, or every step from the one nearest to the first observation to the last."""
    if times is not None:
        return times.astype("datetime64[ns]")
    if step_s is None:
        raise InputError(f"{path}: tells no analysis times, expected a step to be given beside the table")
    step = round(step_s * 1e9)
    first, last = (round(int(edge.astype("int64")) / step) for edge in (observed.min(), observed.max()))
    return (np.arange(first, last + 1) * step).astype("datetime64[ns]")
