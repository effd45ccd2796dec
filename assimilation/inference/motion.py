"""Motion of what is seen in frames, and sampling along it (semi-Lagrangian; Germann and Zawadzki 2002).

    v: displacement per frame that maps one frame onto the next, by iterative Lucas-Kanade optical flow (Le Besnerais
       and Champagnat 2005) on log(1 + r / r0) of the last frames, averaged
    d_n(p) = d_{n-1}(p) + v(p - d_{n-1}(p) - v / 2)         how far what is at p has come in n frames (midpoint rule)
    x(t + n, p) = x(t, p - d_n(p))                          a state that moves and does not change

Places and displacements are in cells, rows before columns. A state is sampled once, however long the lead, so that
a long lead does not smooth it more than a short one.
"""

from itertools import pairwise

import numpy as np
from jaxtyping import Float
from scipy import ndimage
from skimage.registration import optical_flow_ilk

from priors.runtime.errors import InputError

RADIUS = 12  # of the neighbourhood that shares a displacement, cells
SMOOTHING = 8.0  # of the displacements, cells: motion is larger than the showers it carries
CREDIBLE = (
    6.0  # cells a displacement may differ from the usual one where it rains: the flow diverges in places
)

Plane = Float[np.ndarray, "y x"]
Places = Float[np.ndarray, "2 y x"]


def motion(frames: Float[np.ndarray, "f y x"], *, reference: float = 0.1) -> Places:
    """Return the displacement (rows, columns) per frame that carries each frame onto the next.

    Args:
        frames: two or more, at equal steps, NaN as 0.
        reference: r0, in the frames' unit.

    Raises:
        InputError: there is one frame only.
    """
    if len(frames) < 2:
        raise InputError(f"advection: found {len(frames)} frame, expected two or more to see motion")
    # The logarithm keeps heavy cores from deciding alone: optical flow minimises squared differences of brightness.
    scaled = np.log1p(np.maximum(np.nan_to_num(frames), 0) / reference)
    # optical_flow_ilk returns u with later(p + u) = earlier(p): the displacement itself.
    flows = np.stack([optical_flow_ilk(a, b, radius=RADIUS) for a, b in pairwise(scaled)])
    wet = np.stack([ndimage.gaussian_filter(np.maximum(a, b), SMOOTHING) for a, b in pairwise(scaled)])
    usual = [_median(flows[:, axis], wet) for axis in (0, 1)]
    odd = np.hypot(flows[:, 0] - usual[0], flows[:, 1] - usual[1]) > CREDIBLE
    # Where nothing rains nothing is seen to move: rain decides how much each cell counts, and far from it the usual.
    weight = np.where(odd, 0, wet)
    flows = np.where(odd[:, None], 0, flows)
    smooth = [
        ndimage.gaussian_filter(plane, 2 * SMOOTHING)
        for plane in (*(flows * weight[:, None]).sum(axis=0), weight.sum(axis=0))
    ]
    # A small weight of the median motion: it decides where no rain is near, and keeps the quotient defined.
    little = 1e-6 * (1 + wet.mean())
    return np.stack([(smooth[axis] + little * usual[axis]) / (smooth[2] + little) for axis in (0, 1)])


def _median(values: Float[np.ndarray, "f y x"], weight: Float[np.ndarray, "f y x"]) -> float:
    """Return the value with half of the weight on either side; 0 where nothing weighs."""
    order = np.argsort(values, axis=None)
    total = np.cumsum(weight.ravel()[order])
    return float(values.ravel()[order[np.searchsorted(total, total[-1] / 2)]]) if total[-1] > 0 else 0.0


def cells(shape: tuple[int, ...]) -> Places:
    """Return the position of every cell of a grid."""
    return np.stack(np.meshgrid(*(np.arange(float(n)) for n in shape), indexing="ij"))


def at(field: Float[np.ndarray, "2 y x"], position: Places) -> Places:
    """Return a vector field at places, bilinearly; beyond the grid as at its edge."""
    return np.stack([ndimage.map_coordinates(axis, position, order=1, mode="nearest") for axis in field])


def displaced(velocity: Places, steps: int, *, since: Places | None = None) -> Places:
    """Return d_n after ``steps`` more frames; ``since`` is the displacement before them, 0 if left out."""
    points = cells(velocity.shape[1:])
    displacement = np.zeros_like(points) if since is None else since
    for _ in range(steps):
        # Midpoint rule: second order, so that rain that turns stays on its circle; Euler's would drift outwards.
        middle = points - displacement - 0.5 * at(velocity, points - displacement)
        displacement = displacement + at(velocity, middle)
    return displacement


def beyond(position: Places) -> Plane:
    """Return how far places lie from the grid, 0 on it."""
    out = [
        np.maximum(np.maximum(-p, p - (n - 1)), 0) for p, n in zip(position, position.shape[1:], strict=True)
    ]
    distance: Plane = np.hypot(*out)
    return distance


def mirrored(position: Places, shape: tuple[int, ...]) -> Places:
    """Return places with those beyond the grid reflected at its edges, half a cell outside the outermost cells."""
    folded = []
    for axis, count in zip(position, shape, strict=True):
        period = np.mod(axis + 0.5, 2 * count)
        inside = np.where(period > count, 2 * count - period, period) - 0.5
        folded.append(np.clip(inside, 0, count - 1))
    return np.stack(folded)


def sampled(field: Plane, position: Places) -> Plane:
    """Return the field at places by cubic splines cut to the four cells around (Bermejo and Staniforth 1992).

    The cut keeps what is dry dry and makes no peak higher; beyond the grid the edge's value counts.
    """
    smooth = ndimage.map_coordinates(field, position, order=3, mode="nearest")
    rows, columns = (
        np.clip(np.floor(p).astype(int), 0, n - 2) for p, n in zip(position, field.shape, strict=True)
    )
    # Cubic splines overshoot at sharp edges: negative rain beside showers, and peaks above any that was seen.
    around = np.stack([field[rows + i, columns + j] for i in (0, 1) for j in (0, 1)])
    cut: Plane = np.clip(smooth, around.min(axis=0), around.max(axis=0))
    return cut
