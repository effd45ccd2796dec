"""Observations on the points of the state, to be looked at.

Every observation y_i = H_i(x) is spread over the points it depends on: with g_ip = |dH_i / dx_p|,

    shown_p = sum_i g_ip y_i / sum_i g_ip,     missing where no observation depends on p

from two vector-Jacobian products per frame, so any differentiable operator will do. A point observation appears
at its point, a block average over its block; a nonlinear one in its own unit at the points it senses.
"""

import numpy as np
import torch
from torch import Tensor

from assimilation.fields.fields import Ensemble, Fields
from assimilation.observation.base import Observation, ObservationStream


def observed_fields(stream: ObservationStream, ensemble: Ensemble) -> Fields:
    """Return the observations at the times of an ensemble, on its grid."""
    n, _, frames, *state = ensemble.members.shape
    values = np.full((n, frames, *state), np.nan, np.float32)
    frame_of = {time: index for index, time in enumerate(stream.times.astype("datetime64[ns]"))}
    for trajectory in range(min(n, stream.trajectories)):
        for frame, time in enumerate(ensemble.times):
            if time not in frame_of:
                continue
            observation = stream.at(trajectory, frame_of[time])
            if observation is not None:
                values[trajectory, frame] = _spread(observation, tuple(state))
    return Fields(values, ensemble.times, ensemble.variables, ensemble.grid, {"title": "observations"})


def _spread(observation: Observation, shape: tuple[int, ...]) -> np.ndarray:
    """Return the observed values on the points they depend on, NaN elsewhere."""
    # Not at zero, where a wind speed has no derivative.
    state = torch.ones(shape, requires_grad=True)
    predicted = observation.operator(state)

    def back(vector: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(predicted, state, vector, retain_graph=True)
        return gradient

    held = observation.values.float()
    weight, weighted = back(torch.ones_like(held)), back(held)
    known = weight.abs() > 1e-6
    shown = torch.where(known, weighted / torch.where(known, weight, 1.0), torch.nan)
    return np.asarray(shown.detach().numpy())
