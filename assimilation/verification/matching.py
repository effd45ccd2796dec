"""Bringing an ensemble and the truth to the same variables, times, trajectories and grid points.

Nothing is interpolated: the truth is used where it has the points of the analysis, else block averages of it are
used where the analysis' cells are whole blocks of the truth's. A block with fewer than half of its values is missing.
Times both have, up to a hundredth of a step, are compared; how many are left out is told.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from assimilation.fields.fields import Ensemble, Fields, Grid, Variable
from assimilation.fields.grid import EDGE
from assimilation.fields.streams import FieldStream
from assimilation.fields.times import places_of
from assimilation.fields.variables import column_of
from priors.blocks import block_means
from priors.runtime.errors import InputError, warn


@dataclass(frozen=True, eq=False)
class Matched:
    """An ensemble and a truth with the same times, variables, trajectories and grid, read frame by frame.

    ``offered`` is how many times the ensemble had before.
    """

    ensemble: FieldStream
    truth: FieldStream
    offered: int = 0


def match(ensemble: Ensemble | FieldStream, truth: Fields | FieldStream) -> Matched:
    """Return the part of both that can be compared.

    Args:
        ensemble: the analysis; its grid and variables decide.
        truth: on the same grid, or on a finer one whose points or blocks are those of the analysis; one
            trajectory for all of the ensemble's, or as many.

    Raises:
        InputError: a variable, its unit, the grid, the trajectories or the times do not fit, or the truth has
            members.
    """
    mine, theirs = FieldStream.of(ensemble), FieldStream.of(truth)
    _check_truth(theirs, mine.trajectories)
    columns = [_column(variable, theirs.variables) for variable in mine.variables]
    valid = mine.valid_times()
    there = places_of(valid.ravel(), theirs.times).reshape(valid.shape)
    here = np.flatnonzero((there >= 0).any(axis=0))
    if here.size == 0:
        raise InputError(
            f"truth: found times {theirs.times[0]} to {theirs.times[-1]}, expected some of the analysis' "
            f"{valid.min()} to {valid.max()}"
        )
    dropped = int((there < 0).sum())
    if dropped:
        warn(
            f"truth: {dropped} of {there.size} times of the analysis are absent from it ({theirs.times.size} times) "
            "and not compared"
        )
    moved, shared = regridding(theirs.grid, mine.grid), theirs.trajectories == 1 or mine.starts is not None

    def read_truth(trajectory: int, time: int) -> np.ndarray:
        index = int(there[trajectory if mine.starts is not None else 0, here[time]])
        if index < 0:
            return np.full((1, len(columns), *mine.grid.shape), np.nan, np.float32)
        frame = theirs.read(0 if shared else trajectory, index)
        return moved(frame[:, columns]).astype(np.float32)

    times = mine.times[here]
    return Matched(
        replace(mine, times=times, read=lambda trajectory, time: mine.read(trajectory, int(here[time]))),
        replace(
            theirs,
            trajectories=mine.trajectories,
            times=times,
            variables=mine.variables,
            grid=mine.grid,
            read=read_truth,
        ),
        mine.times.size,
    )


def _check_truth(truth: FieldStream, trajectories: int) -> None:
    """Refuse a truth that is an ensemble, a set of forecasts, or of another number of trajectories.

    Raises:
        InputError: it is one of these.
    """
    if truth.members > 1:
        raise InputError(f"truth: found the dimension member ({truth.members}), expected single fields")
    if truth.trajectories not in (1, trajectories):
        raise InputError(
            f"truth: found {truth.trajectories} trajectories, expected {trajectories} as in the analysis, or one"
        )
    if truth.starts is not None:
        raise InputError(
            "truth: found several starts by several leads, expected fields of one time each (--lead)"
        )


def to_grid(values: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
    """Return values (.., y, x) on another grid by selection or block averages.

    Raises:
        InputError: the target's points are neither points nor block centres of the source.
    """
    return regridding(source, target)(values)


def regridding(source: Grid, target: Grid) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that brings values (.., y, x) to another grid.

    Raises:
        InputError: the target's points are neither points nor block centres of the source.
    """
    if source.kind != target.kind:
        raise InputError(
            f"truth: found a grid on a {source.kind}, expected a {target.kind} as in the analysis"
        )
    rows = _blocks(source.y, target.y, target.names[0])
    columns = (
        _turned(source, target) if source.kind == "sphere" else _blocks(source.x, target.x, target.names[1])
    )

    def move(values: np.ndarray) -> np.ndarray:
        result = np.empty((*values.shape[:-2], *target.shape), values.dtype)
        for index in np.ndindex(values.shape[:-2]):
            result[index] = _average(values[index], rows, columns)
        return result

    return move


def _turned(source: Grid, target: Grid) -> np.ndarray:
    """Return `_blocks` of longitudes, any turn of which is the same place."""
    size = source.x.size
    axis = np.concatenate([source.x, source.x + 360]) if source.periodic[1] else source.x
    errors = []
    for turns in (0, 360, -360):
        try:
            return _blocks(axis + turns, target.x, target.names[1]) % size
        except InputError as error:
            errors.append(error)
    raise errors[0]


def _blocks(have: np.ndarray, want: np.ndarray, name: str) -> np.ndarray:
    """Return which points of ``have`` make each of ``want``, (points, block).

    Raises:
        InputError: there are none.
    """
    step = _step(have)
    block = max(round(_step(want) / step), 1) if want.size > 1 else 1
    for size in dict.fromkeys((1, block)):
        start = round((want[0] - (size - 1) / 2 * step - have[0]) / step)
        starts = start + size * np.arange(want.size) if size > 1 else _nearest(have, want)
        if starts[0] < 0 or starts[-1] + size > have.size:
            continue
        indices = starts[:, None] + np.arange(size)
        if np.allclose(have[indices].mean(axis=1), want, rtol=0, atol=EDGE * step):
            return np.asarray(indices)
    raise InputError(
        f"truth: {name}: found {have.size} points {have[0]:g} to {have[-1]:g}, expected the analysis' "
        f"{want.size} points {want[0]:g} to {want[-1]:g}, or a finer grid whose blocks have these centres"
    )


def _nearest(have: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Return the place of the nearest point."""
    return np.asarray(np.abs(have[None, :] - want[:, None]).argmin(axis=1))


def _average(field: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the mean of the finite values of each block, NaN where fewer than half are finite."""
    cells = field[np.ix_(rows.ravel(), columns.ravel())]
    return block_means(cells, (rows.shape[1], columns.shape[1]), least=0.5)[0].astype(np.float64)


def _step(axis: np.ndarray) -> float:
    """Return the mean distance of neighbours, 1 for a single point."""
    return float(axis[-1] - axis[0]) / (axis.size - 1) if axis.size > 1 else 1.0


def _column(variable: Variable, held: tuple[Variable, ...]) -> int:
    """Return where the truth holds a variable: by name, else by standard name where that leaves no choice."""
    try:
        column = column_of(variable, held)
    except InputError as error:
        raise InputError(f"truth: {error}") from error
    if held[column].name != variable.name:
        warn(
            f"truth: {held[column].name} is compared with {variable.name}, whose standard name "
            f"{variable.standard_name} it shares"
        )
    if held[column].unit != variable.unit:
        raise InputError(
            f"truth: {variable.name}: found unit '{held[column].unit}', expected '{variable.unit}'"
        )
    return column
