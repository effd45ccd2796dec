"""Persistence: what was last seen stays.

Of a forecast: the state at its start. Of an analysis: every point keeps the value of the last observation that saw
it (their weighted mean where several do); a point that was never seen has the value of the nearest one that was.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage

from assimilation.baselines.localisation import jacobian
from assimilation.fields.fields import Ensemble, Fields
from assimilation.observation.base import Observation, ObservationStream


def persisted(start: Fields, times: np.ndarray) -> Ensemble:
    """Return the last frame of ``start`` at every one of ``times``."""
    members = np.repeat(start.values[:, None, -1:], times.size, axis=2)
    return Ensemble(members, times, start.variables, start.grid, {})


def held_observations(stream: ObservationStream) -> Ensemble:
    """Return the last observation of every point, for linear operators; NaN before the first observation."""
    shape = (stream.trajectories, stream.times.size, len(stream.variables), *stream.grid.shape)
    held = np.full(shape, np.nan, np.float32)
    for trajectory in range(stream.trajectories):
        state = np.full(shape[2:], np.nan, np.float32)
        for index in range(stream.times.size):
            observation = stream.at(trajectory, index)
            if observation is not None:
                values, seen = _seen(observation, shape[2:])
                state = np.where(seen, values, state)
            held[trajectory, index] = np.stack([_nearest(field) for field in state])
    return Ensemble(held[:, None], stream.times, stream.variables, stream.grid, {})


def _seen(
    observation: Observation, shape: tuple[int, ...]
) -> tuple[Float[np.ndarray, "k y x"], Bool[np.ndarray, "k y x"]]:
    """Return the mean of the observations that see each point, and which points are seen."""
    rows = jacobian(observation.operator, torch.zeros(shape), observation.values.shape[0])
    weight = rows.sum(dim=0)
    values = torch.einsum("nkyx,n->kyx", rows, observation.values) / weight.clamp(min=1e-12)
    return values.numpy(), (weight > 0).numpy()


def _nearest(field: Float[np.ndarray, "y x"]) -> Float[np.ndarray, "y x"]:
    """Return the field with missing points filled from the nearest one that is not."""
    missing = np.isnan(field)
    if missing.all() or not missing.any():
        return field
    indices = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
    return np.asarray(field[tuple(indices)])
