"""Streams: observations of one frame after the other, from gridded values or from a table.

Gridded: the entries of H(state) that are finite. Table: rows (time, place, variable, value, sigma), each read by
bilinear sampling and assigned to the analysis time nearest to it, within half the step between them.
"""

from pathlib import Path

import numpy as np
import torch

from assimilation.fields.grid import Grid, Variable
from assimilation.io.observations import read_gridded
from assimilation.io.tables import SUFFIXES, Rows, read_table, to_rows
from assimilation.observation.base import Observation, ObservationStream
from assimilation.observation.observing import Observed
from assimilation.observation.point import PointSampling, Selection
from assimilation.observation.superobbing import coarser, coarser_by, on_coarser_grid, on_steps
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
            self._y, self._x = grid.fractional_index(*within_cells(grid, rows.y, rows.x))
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


def read_observations(
    path: Path,
    *,
    grid: Grid | None = None,
    variables: tuple[Variable, ...] | None = None,
    step_s: float | None = None,
    spacing: tuple[float, float] | None = None,
) -> ObservationStream:
    """Return the stream of a gridded file or a table.

    Args:
        path: NetCDF, Zarr, CSV or Parquet.
        grid: of the state; the one the file tells where not given.
        variables: of the state; those the file tells where not given.
        step_s: seconds between analysis times; where not given, those the file tells.
        spacing: of the state along y and x: observations of a finer grid that fits evenly are averaged to it.

    Raises:
        InputError: the file is damaged, does not fit the state, or does not tell it and nothing was given.
    """
    path = Path(path)
    spacing = grid.spacing if spacing is None and grid is not None else spacing
    try:
        if path.suffix in SUFFIXES:
            return _table_stream(path, grid, variables, step_s=step_s, spacing=spacing)
        observed = read_gridded(path, variables=variables)
        if step_s is not None:
            observed = on_steps(observed, step_s)
        if spacing is not None:
            observed = on_coarser_grid(observed, coarser_by(observed.grid, spacing))
        _check_grid(observed.grid, grid)
        return GriddedStream(observed)
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def _check_grid(found: Grid, wanted: Grid | None) -> None:
    """Refuse observations of another grid than the wanted one."""
    if wanted is None or wanted.same_as(found):
        return
    told, expected = (
        f"{grid.shape[0]} x {grid.shape[1]} with spacing {grid.spacing[0]:g} {grid.unit} from "
        f"({grid.y[0]:g}, {grid.x[0]:g})"
        for grid in (found, wanted)
    )
    raise InputError(f"found observations of a grid of {told}, expected {expected}")


def _table_stream(
    path: Path,
    grid: Grid | None,
    variables: tuple[Variable, ...] | None,
    *,
    step_s: float | None,
    spacing: tuple[float, float] | None,
) -> TableStream:
    frame, layout = read_table(path)
    if layout is not None:
        # What the table tells of its own place goes before a grid that only has the prior's shape.
        variables = variables or layout.variables
        grid = layout.grid
        factor = 1 if spacing is None else coarser_by(grid, spacing)
        grid = grid if factor == 1 else coarser(grid, factor)
    if grid is None or variables is None:
        raise InputError("tells no grid, expected one to be given beside the table")
    rows = to_rows(frame, variables=variables, grid=grid, source=str(path))
    times = None if layout is None else layout.times
    if step_s is not None:
        times = _whole_steps(rows.time, step_s) if times is None else _every(times, step_s)
    if times is None:
        raise InputError("tells no analysis times, expected a step to be given beside the table")
    return TableStream(rows, times=times, variables=variables, grid=grid, source=str(path))


def _whole_steps(observed: np.ndarray, step_s: float) -> np.ndarray:
    """Return whole steps (full hours, say) from the one nearest to the first observation to that of the last."""
    step = round(step_s * 1e9)
    first, last = (round(int(edge.astype("int64")) / step) for edge in (observed.min(), observed.max()))
    return (np.arange(first, last + 1) * step).astype("datetime64[ns]")


def _every(times: np.ndarray, step_s: float) -> np.ndarray:
    """Return steps from the first time to the last, or all times where their own step is no shorter."""
    step = np.timedelta64(round(step_s * 1e9), "ns")
    if times.size < 2 or np.diff(times).min() >= step:
        return times
    return np.arange(times[0], times[-1] + np.timedelta64(1, "ns"), step)
