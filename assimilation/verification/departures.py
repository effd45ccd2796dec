"""Departures: observations minus their equivalent in an ensemble, where no truth is known.

    d_i = y_i - mean_m H(x_m)_i          expected variance  e_i = R_i + (M + 1)/M var_m H(x_m)_i

With an ensemble that has not seen y (background, O-B) a calibrated system has mean d^2 / mean e = 1: the
innovation's expected variance is that of the observation error plus that of the background. After the
analysis (O-A) the departures are smaller, and their size against R says how closely the data were drawn in.
"""

from dataclasses import asdict, dataclass

import numpy as np
import torch

from assimilation.fields.fields import Ensemble
from assimilation.fields.streams import FieldStream
from assimilation.observation.base import Observation, ObservationStream
from assimilation.verification.metrics import ratio
from priors.runtime.errors import InputError


@dataclass(frozen=True)
class Departures:
    """Departures of one time, or of all: count, mean, root mean square, expected root mean square, their ratio."""

    count: int
    mean: float
    rms: float
    expected: float
    consistency: float

    def as_dict(self) -> dict[str, float | int]:
        """Return the figures by name."""
        return asdict(self)


def departures(
    stream: ObservationStream, ensemble: Ensemble | FieldStream
) -> tuple[Departures, list[Departures]]:
    """Compare observations with an ensemble at the times both have.

    Args:
        stream: observations of the ensemble's trajectories.
        ensemble: analyses, or backgrounds, on the grid the observation operators expect.

    Returns:
        The figures over everything, and of each time of the ensemble (count 0 where nothing was observed).

    Raises:
        InputError: the grids or the numbers of trajectories differ, or no time is common.
    """
    frames = FieldStream.of(ensemble)
    _check(stream, frames)
    observed_at = {time: index for index, time in enumerate(stream.times)}
    sums = np.zeros((frames.times.size, 4))
    for index, time in enumerate(frames.times):
        for trajectory in range(stream.trajectories if time in observed_at else 0):
            observation = stream.at(trajectory, observed_at[time])
            if observation is not None:
                sums[index] += _sums(observation, frames.read(trajectory, index))
    return _figures(sums.sum(axis=0)), [_figures(row) for row in sums]


def _sums(observation: Observation, members: np.ndarray) -> np.ndarray:
    """Return count, sum d, sum d^2 and sum e of one frame; equivalents that are NaN are left out."""
    with torch.no_grad():
        equivalent = observation.operator(torch.from_numpy(members)).double().numpy()
    valid = np.isfinite(equivalent).all(axis=0)
    d = (observation.values.double().numpy() - equivalent.mean(axis=0))[valid]
    count = len(members)
    spread = equivalent.var(axis=0, ddof=1) * (count + 1) / count if count > 1 else np.zeros(valid.shape)
    e = (observation.variance.double().numpy() + spread)[valid]
    return np.array([d.size, d.sum(), (d**2).sum(), e.sum()])


def _figures(sums: np.ndarray) -> Departures:
    """Return the figures of summed departures."""
    means = ratio(sums[1:], np.full(3, sums[0]))
    mean, square, variance = (float(value) for value in means)
    consistency = float(ratio(means[1:2], means[2:3])[0])
    return Departures(int(sums[0]), mean, float(np.sqrt(square)), float(np.sqrt(variance)), consistency)


def _check(stream: ObservationStream, ensemble: FieldStream) -> None:
    """Refuse an ensemble the observations are not about."""
    if not stream.grid.same_as(ensemble.grid):
        raise InputError(
            f"observations: found operators for a grid of {stream.grid.shape}, expected the analysis' grid "
            f"of {ensemble.grid.shape} with the same coordinates"
        )
    if stream.trajectories != ensemble.trajectories:
        raise InputError(
            f"observations: found {stream.trajectories} trajectories, expected {ensemble.trajectories}"
        )
    if not np.isin(stream.times, ensemble.times).any():
        raise InputError(
            f"observations: found times {stream.times[0]} to {stream.times[-1]}, expected some of "
            f"{ensemble.times[0]} to {ensemble.times[-1]}"
        )
