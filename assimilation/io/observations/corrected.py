"""Observations with other errors and without the biases of stations, as a file for the next run.

A bias belongs to a place and a variable; a value is corrected by the bias of the place nearest to it, within a 32nd of
a cell. What is written is what was read: a table stays a table, with the units, the grid and the times of the state.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from assimilation.fields.grid import Grid
from assimilation.io.observations.files import check_observation_path, write_observations
from assimilation.io.observations.layout import Layout
from assimilation.io.observations.tables import SUFFIXES, write_table
from assimilation.observation.base import ObservationStream
from assimilation.observation.places import Places
from assimilation.observation.stream import GriddedStream, TableStream, within_cells
from priors.runtime.errors import InputError

NEAR = 1 / 32  # of a cell


@dataclass(frozen=True, eq=False)
class Biases:
    """Biases of the stations of one variable.

    Attributes:
        y, x: fractional indices of the stations.
        bias: to be subtracted, in the unit of the state.
    """

    y: np.ndarray
    x: np.ndarray
    bias: np.ndarray

    def at(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return the bias at fractional indices, 0 where no station is."""
        from scipy.spatial import cKDTree

        if not len(self.bias):
            return np.zeros(y.shape)
        distance, nearest = cKDTree(np.stack([self.y, self.x], 1)).query(
            np.stack([y, x], 1), distance_upper_bound=NEAR
        )
        return np.where(np.isfinite(distance), np.append(self.bias, 0.0)[nearest], 0.0)


def write_corrected(
    stream: ObservationStream, path: Path, *, factors: Mapping[int, float], biases: Mapping[int, Biases]
) -> None:
    """Write observations with sigma times the factor and values less the bias of their variable.

    Args:
        stream: as read, of a file.
        path: to write; a table where a table was read.
        factors: of sigma, by variable.
        biases: by variable.

    Raises:
        InputError: the name does not fit, or the stream is no file's.
    """
    if isinstance(stream, TableStream):
        if path.suffix not in SUFFIXES:
            raise InputError(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}, as a table is")
        _write_rows(stream, path, factors, biases)
    elif isinstance(stream, GriddedStream):
        check_observation_path(path, stream.observed.instrument)
        _write_gridded(stream, path, factors, biases)
    else:
        raise InputError(f"{path}: the observations come from no file that could be written again")


def _write_rows(
    stream: TableStream, path: Path, factors: Mapping[int, float], biases: Mapping[int, Biases]
) -> None:
    rows, grid = stream.rows, stream.grid
    value, sigma = rows.value.astype(np.float64), rows.sigma.astype(np.float64)
    y, x = _indices(grid, rows.y, rows.x)
    for channel in range(len(stream.variables)):
        mine = rows.channel == channel
        sigma[mine] *= factors.get(channel, 1.0)
        if channel in biases:
            value[mine] -= biases[channel].at(y[mine], x[mine])
    names = np.array([one.name for one in stream.variables])
    units = np.array([one.unit for one in stream.variables])
    columns = {
        "time": rows.time,
        grid.names[0]: rows.y,
        grid.names[1]: rows.x,
        "variable": names[rows.channel],
        "value": value.astype(np.float32),
        "sigma": sigma.astype(np.float32),
        "unit": units[rows.channel],
    }
    if stream.trajectories > 1:
        columns = {"trajectory": rows.trajectory, **columns}
    write_table(path, columns, Layout(grid, stream.variables, stream.times))


def _write_gridded(
    stream: GriddedStream, path: Path, factors: Mapping[int, float], biases: Mapping[int, Biases]
) -> None:
    observed = stream.observed
    where = Places((len(stream.variables), *stream.grid.shape))
    operator = observed.instrument.operator(observed.variables)
    shape = observed.fields.values.shape
    variable = where.variables(operator)
    y, x = (where.index_of(key) for key in where.keys(operator))
    factor, bias = np.ones(variable.shape), np.zeros(variable.shape)
    for channel in {*factors, *biases}:
        mine = variable == channel
        factor[mine] = factors.get(channel, 1.0)
        if channel in biases:
            bias[mine] = biases[channel].at(y[mine], x[mine])
    values = observed.fields.values - bias.reshape(shape[2:]).astype(np.float32)
    sigma = np.broadcast_to(observed.sigma, shape) * factor.reshape(shape[2:]).astype(np.float32)
    write_observations(replace(observed, fields=replace(observed.fields, values=values), sigma=sigma), path)


def _indices(grid: Grid, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return grid.fractional_index(*within_cells(grid, y, x))
