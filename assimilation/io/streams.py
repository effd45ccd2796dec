"""Observation files as streams: what a file states, or what the caller expects, on the grid and steps of the state."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from assimilation.fields.grid import Grid, Variable
from assimilation.io.observations.files import gridded_of
from assimilation.io.observations.layout import Layout
from assimilation.io.observations.tables import SUFFIXES, read_table, to_rows
from assimilation.io.registry import open_dataset
from assimilation.observation.base import ObservationStream
from assimilation.observation.stream import GriddedStream, TableStream
from assimilation.observation.superobbing import coarser, coarser_by, on_coarser_grid, on_steps
from priors.runtime.errors import InputError


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
    if path.suffix in SUFFIXES:
        with _named(path):
            frame, layout = read_table(path)
        return table_stream(
            frame, layout, path, grid=grid, variables=variables, step_s=step_s, spacing=spacing
        )
    with _named(path), open_dataset(path) as dataset:
        return gridded_stream(dataset, path, grid=grid, variables=variables, step_s=step_s, spacing=spacing)


def gridded_stream(
    dataset: xr.Dataset,
    path: Path,
    *,
    grid: Grid | None = None,
    variables: tuple[Variable, ...] | None = None,
    step_s: float | None = None,
    spacing: tuple[float, float] | None = None,
) -> GriddedStream:
    """Return the stream of a normalised dataset, which messages call ``path``; see `read_observations`."""
    spacing = grid.spacing if spacing is None and grid is not None else spacing
    with _named(path):
        observed = gridded_of(dataset, path, variables=variables)
        if step_s is not None:
            observed = on_steps(observed, step_s)
        if spacing is not None:
            observed = on_coarser_grid(observed, coarser_by(observed.grid, spacing))
        _check_grid(observed.grid, grid)
        return GriddedStream(observed)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Begin every message with the name of the file."""
    try:
        yield
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


def table_stream(
    frame: Any,
    layout: Layout | None,
    path: Path,
    *,
    grid: Grid | None = None,
    variables: tuple[Variable, ...] | None = None,
    step_s: float | None = None,
    spacing: tuple[float, float] | None = None,
) -> TableStream:
    """Return the stream of a data frame (see `tables`), which messages call ``path``; see `read_observations`."""
    spacing = grid.spacing if spacing is None and grid is not None else spacing
    with _named(path):
        return _table_stream(frame, layout, path, grid, variables, step_s, spacing)


def _table_stream(
    frame: Any,
    layout: Layout | None,
    path: Path,
    grid: Grid | None,
    variables: tuple[Variable, ...] | None,
    step_s: float | None,
    spacing: tuple[float, float] | None,
) -> TableStream:
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
