"""How much each ray of a circular scan counts, when some lines are measured twice.

A ray of view angle b leaves the ray through the axis at the signed angle g (parallel rays: the signed
distance s from the axis). The same line is measured from the other side at (b + pi + 2 g, -g), parallel: (b
+ pi, -s), if the arc and the detector reach that far. Weights of such a pair add up to one, a line measured
once has weight one, and

    w = A / (A + A'),     A = sin^2(pi/2 * t / (t + t')) * edge(g)

where t is the angular distance from the end of the arc and primes mark the partner. On a short scan this is
Parker's weight (Med. Phys. 9, 254, 1982), on a full circle the first factor is one, and w is 1/2. ``edge``
falls to zero at the ends of the detector, which blends the two halves of a scan with an offset detector. An
arc shorter than pi plus the fan angle leaves lines that nobody measured; weights cannot repair that.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from priors.runtime.errors import InputError
from recon.geometry.scan import ScanGeometry

TURN = 2 * np.pi


@dataclass(frozen=True, eq=False)
class Fan:
    """Polar coordinates of the rays of a circular scan.

    Attributes:
        view: direction of the ray through the axis, radians, per view.
        ray: angle in radians from that direction, or distance in mm from the axis for parallel rays.
        radius_mm: distance of the source from the axis; 1 for parallel rays.
        parallel: whether ``ray`` is a distance.
    """

    view: Float64[np.ndarray, " v"]
    ray: Float64[np.ndarray, "v c"]
    radius_mm: float
    parallel: bool


def fan_coordinates(geometry: ScanGeometry) -> Fan:
    """Return the polar coordinates of a scan's rays, of a cone beam those of its columns seen along z.

    Raises:
        InputError: the source does not circle the z axis, or a flat detector is tilted.
    """
    column = np.arange(geometry.shape[1]) - (geometry.shape[1] - 1) / 2
    u, detector, source = geometry.u_mm[:, :2], geometry.detector_mm[:, :2], geometry.source_mm[:, :2]
    if geometry.parallel:
        left = np.stack([-source[:, 1], source[:, 0]], axis=1)
        distance = _dot(detector, left)[:, None] + column * _dot(u, left)[:, None]
        return Fan(np.arctan2(source[:, 1], source[:, 0]), distance, 1.0, True)
    radius = np.linalg.norm(source, axis=1)
    if (abs(radius - radius.mean()) > 1e-3 * radius.mean()).any():
        found = f"source distances from {radius.min():.6g} to {radius.max():.6g} mm"
        raise InputError(f"fbp: found {found}, expected a circle around the z axis")
    inward = -source / radius[:, None]
    left = np.stack([-inward[:, 1], inward[:, 0]], axis=1)
    reach, pitch = detector - source, np.linalg.norm(u, axis=1)
    if geometry.detector == "curved":
        middle = np.arctan2(_dot(reach, left), _dot(reach, inward))
        step = np.sign(_dot(u, left)) * pitch / np.linalg.norm(reach, axis=1)
        angle = middle[:, None] + column * step[:, None]
    else:
        if (abs(_dot(u, inward)) > 1e-2 * pitch).any():
            raise InputError(
                "fbp: found a tilted detector, expected one at right angles to the ray through the axis"
            )
        across = _dot(reach, left)[:, None] + column * _dot(u, left)[:, None]
        angle = np.arctan2(across, _dot(reach, inward)[:, None])
    return Fan(np.arctan2(inward[:, 1], inward[:, 0]), angle, float(radius.mean()), False)


def redundancy(fan: Fan) -> tuple[Float64[np.ndarray, " v"], Float64[np.ndarray, "v c"]]:
    """Return the arc in radians that each view stands for, and the weight of each ray."""
    cells, start, arc = _arc(fan.view)
    if arc > TURN - 1e-9:
        return cells, full_turn_weights(fan)
    partner = fan.view[:, None] + np.pi + (0.0 if fan.parallel else 2 * fan.ray)
    edge, edge_of_partner = _edges(fan.ray)
    t, other = (
        _distance_from_ends(fan.view[:, None], start, arc),
        _distance_from_ends(partner, start, arc),
    )
    # A partner outside the arc was not measured: the ray is the only one on its line and counts in full. The sine
    # squared makes weights rise smoothly from the arc's ends, whose jump the ramp filter would turn into streaks.
    share = np.where(other > 0, t / np.maximum(t + other, 1e-12), 1.0)
    near, far = np.sin(np.pi / 2 * share) ** 2, np.cos(np.pi / 2 * share) ** 2
    return cells, _of_pair(near * edge, far * edge_of_partner)


def full_turn_weights(fan: Fan) -> Float64[np.ndarray, "v c"]:
    """Return the weight of each ray where every line is seen from both sides, if the detector reaches it."""
    return _of_pair(*_edges(fan.ray))


def _of_pair(
    own: Float64[np.ndarray, "v c"], rival: Float64[np.ndarray, "v c"]
) -> Float64[np.ndarray, "v c"]:
    """Return the share of a ray in the pair with its partner, 1 where neither has a claim."""
    total = own + rival
    return np.asarray(np.where(total > 0, own / np.where(total > 0, total, 1), 1.0))


def _arc(view: Float64[np.ndarray, " v"]) -> tuple[Float64[np.ndarray, " v"], float, float]:
    """Return the angular cell of every view, the start of the arc and its length (a turn when it closes)."""
    if len(view) == 1:
        return np.array([np.pi]), float(view[0] - np.pi / 2), np.pi
    angle = view % TURN
    order = np.argsort(angle)
    gaps = np.diff(angle[order], append=angle[order][0] + TURN)
    widest = int(np.argmax(gaps))
    # From here on the list starts after the widest gap, which is the last one.
    order, gaps = np.roll(order, -widest - 1), np.roll(gaps, -widest - 1)
    # Views of a full turn leave no gap wider than their spacing; a half more allows for uneven steps.
    closed = gaps[-1] < 1.5 * np.median(gaps[:-1]) + 1e-9
    before = np.roll(gaps, 1)
    # The gap of an open arc was not scanned: its end views stand for as much as their neighbours.
    if not closed:
        before[0], gaps[-1] = gaps[0], gaps[-2]
    cells = np.empty(len(view))
    cells[order] = (before + gaps) / 2
    start = float(angle[order[0]] - before[0] / 2)
    return cells, start, TURN if closed else min(TURN, float(cells.sum()))


def _distance_from_ends(
    angle: Float64[np.ndarray, "v c"], start: float, arc: float
) -> Float64[np.ndarray, "v c"]:
    """Return the distance of an angle from the nearer end of the arc, zero outside."""
    inside = (angle - start) % TURN
    return np.maximum(np.minimum(inside, arc - inside), 0.0)


def _edges(ray: Float64[np.ndarray, "v c"]) -> tuple[Float64[np.ndarray, "v c"], Float64[np.ndarray, "v c"]]:
    """Return how far inside the detector a ray and its mirror image are: 0 at the edge, 1 in the interior."""
    half = abs(ray[:, 1] - ray[:, 0])[:, None] / 2 if ray.shape[1] > 1 else np.full((len(ray), 1), 0.5)
    low, high = ray.min(1, keepdims=True) - half, ray.max(1, keepdims=True) + half
    # The blend is as wide as the doubly measured strip allows, up to a tenth of the detector.
    width = np.maximum(np.minimum(np.minimum(-low, high), 0.1 * (high - low)), 1e-9)

    def inside(at: Float64[np.ndarray, "v c"]) -> Float64[np.ndarray, "v c"]:
        depth = np.clip(np.minimum(at - low, high - at) / width, 0, 1)
        return np.asarray(depth**2 * (3 - 2 * depth))

    return inside(ray), inside(-ray)


def _dot(a: Float64[np.ndarray, "v 2"], b: Float64[np.ndarray, "v 2"]) -> Float64[np.ndarray, " v"]:
    return np.asarray((a * b).sum(axis=1))
