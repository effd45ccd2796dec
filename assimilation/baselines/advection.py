"""Lagrangian persistence: the last state moves on with the motion of the frames before it (Germann and Zawadzki 2002).

    v: displacement per frame that maps one frame onto the next, by iterative Lucas-Kanade optical flow (Le Besnerais
       and Champagnat 2005) on log(1 + r / r0) of the last frames, averaged
    x(t + n, p) = x(t, p - d_n(p)),    d_n(p) = d_{n-1}(p) + v(p - d_{n-1}(p) - v / 2)

Departure points are found backward with the midpoint rule and the last state is sampled bilinearly once, so that a
long lead does not smooth it more than a short one. What comes from outside the grid is set to ``outside``.
"""

from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy import ndimage
from skimage.registration import optical_flow_ilk

from assimilation.fields import Ensemble, Fields
from priors.runtime.errors import InputError

RADIUS = 12  # of the neighbourhood that shares a displacement, cells
SMOOTHING = 8.0  # of the displacements, cells: motion is larger than the showers it carries


def motion(frames: Float[np.ndarray, "f y x"], *, reference: float = 0.1) -> Float[np.ndarray, "2 y x"]:
    """Return the displacement (rows, columns) per frame that carries each frame onto the next.

    Args:
        frames: two or more, at equal steps, NaN as 0.
        reference: r0, in the frames' unit.

    Raises:
        InputError: there is one frame only.
    """
    if len(frames) < 2:
        raise InputError(f"advection: found {len(frames)} frame, expected two or more to see motion")
    scaled = np.log1p(np.maximum(np.nan_to_num(frames), 0) / reference)
    # optical_flow_ilk returns u with later(p + u) = earlier(p): the displacement itself.
    flows = [optical_flow_ilk(a, b, radius=RADIUS) for a, b in pairwise(scaled)]
    wet = [ndimage.gaussian_filter(np.maximum(a, b), SMOOTHING) for a, b in pairwise(scaled)]
    # Where nothing rains nothing is seen to move: rain decides how much each place counts.
    weight = sum(wet) + 1e-6 * (1 + sum(part.mean() for part in wet))
    total = sum(flow * part for flow, part in zip(flows, wet, strict=True))
    smooth = [ndimage.gaussian_filter(part, 2 * SMOOTHING) for part in (*total, weight)]
    return np.stack([smooth[0] / smooth[2], smooth[1] / smooth[2]])


def advected(
    state: Float[np.ndarray, "y x"], velocity: Float[np.ndarray, "2 y x"], steps: int, *, outside: float = 0.0
) -> Float[np.ndarray, "steps y x"]:
    """Return the state moved by 1 ... ``steps`` frames."""
    points = np.stack(np.meshgrid(*(np.arange(float(n)) for n in state.shape), indexing="ij"))
    gone, moved = np.zeros_like(points), []

    def at(place: np.ndarray) -> np.ndarray:
        return np.stack([ndimage.map_coordinates(part, place, order=1, mode="nearest") for part in velocity])

    filled = np.nan_to_num(state)
    for _ in range(steps):
        middle = points - gone - 0.5 * at(points - gone)
        gone = gone + at(middle)
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
