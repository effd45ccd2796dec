"""Persistence: what was last seen stays.

Of a forecast: the state at its start. Of an analysis: every point keeps the value of the last observation that saw
it (their weighted mean where several do); points not seen yet have the mean of the first observed frame.
"""

import numpy as np
import torch

from assimilation.baselines.localisation import jacobian
from assimilation.fields import Ensemble, Fields
from assimilation.observation.base import ObservationStream


def persisted(start: Fields, times: np.ndarray) -> Ensemble:
    """Return the last frame of ``start`` at every one of ``times``."""
    members = np.repeat(start.values[:, None, -1:], times.size, axis=2)
    return Ensemble(members, times, start.variables, start.grid, {})


def held_observations(stream: ObservationStream) -> Ensemble:
    """Return the last observation of every point, for linear observation operators."""
    shape = (stream.trajectories, stream.times.size, len(stream.variables), *stream.grid.shape)
    held = np.full(shape, np.nan, np.float32)
    for trajectory in range(stream.trajectories):
        state = torch.full(shape[2:], float("nan"))
        for index in range(stream.times.size):
            observation = stream.at(trajectory, index)
            if observation is not None:
                rows = jacobian(observation.operator, torch.zeros(shape[2:]), observation.values.shape[0])
                weight = rows.sum(dim=0)
                seen = weight > 0
                value = torch.einsum("nkyx,n->kyx", rows, observation.values) / weight.clamp(min=1e-12)
                count = seen.sum(dim=(1, 2), keepdim=True).clamp(min=1)
                mean = torch.where(seen, value, 0.0).sum(dim=(1, 2), keepdim=True) / count
                state = torch.where(seen, value, torch.where(state.isnan(), mean, state))
            held[trajectory, index] = state.numpy()
    return Ensemble(held[:, None], stream.times, stream.variables, stream.grid, {})
