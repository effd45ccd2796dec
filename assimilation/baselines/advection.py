"""Lagrangian persistence: the last state moves on with the motion of the frames before it (Germann and Zawadzki 2002).

Motion and departure points are those of ``assimilation.inference.motion``; the last state is sampled bilinearly
once. What comes from outside the grid is set to ``outside``.
"""

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from assimilation.fields.fields import Ensemble, Fields
from assimilation.inference.motion import cells, displaced, motion


def advected(
    state: Float[np.ndarray, "y x"], velocity: Float[np.ndarray, "2 y x"], steps: int, *, outside: float = 0.0
) -> Float[np.ndarray, "steps y x"]:
    """Return the state moved by 1 ... ``steps`` frames."""
    points, filled = cells(state.shape), np.nan_to_num(state)
    gone, moved = np.zeros_like(points), []
    for _ in range(steps):
        gone = displaced(velocity, 1, since=gone)
        moved.append(ndimage.map_coordinates(filled, points - gone, order=1, mode="constant", cval=outside))
    return np.stack(moved)


def lagrangian_persistence(start: Fields, times: np.ndarray) -> Ensemble:
    """Return the last frame of ``start`` moved to ``times``, which follow at the same step.

    Raises:
        InputError: ``start`` holds one frame only.
    """
    members = np.empty((start.values.shape[0], 1, times.size, *start.values.shape[2:]), np.float32)
    for trajectory, variable in np.ndindex(start.values.shape[0], start.values.shape[2]):
        frames = start.values[trajectory, :, variable]
        members[trajectory, 0, :, variable] = advected(frames[-1], motion(frames), times.size)
    return Ensemble(members, times, start.variables, start.grid, {})
