"""Estimates of the column on which the rotation axis of parallel views falls; each has its own blind spot.

``mass``: the centre of mass m(a) of a view moves as c + p cos a + q sin a (Helgason and Ludwig), c the axis. Exact
for an object inside the detector, wrong for one that is cut off: then it is not given.

``mirror``: the view at a + 180 degrees is the view at a mirrored about the axis. For every shift s = 2 c the two are
compared where they overlap, divided by the energy of that overlap,

    R(s) = sum (u - v)^2 / (sum (u - mean u)^2 + sum (v - mean v)^2)

so that a narrow overlap, or one in air, is no match: there R is about 1. Over a full turn all pairs add up, and an
axis near an edge (half acquisition) is found as well as one in the middle.

``wedge``: the Fourier transform of the sinogram of a full turn is confined to a double wedge; a half turn continued
by its mirror image about the wrong column puts energy outside. Needs no two views that face each other and no air.
Source: Vo, Drakopoulos, Atwood, Reinhard, "Reliable method for calculating the center of rotation in parallel-beam
tomography", Opt. Express 22 (2014), eq. 3 and figure 3.
"""

import numpy as np
from jaxtyping import Float, Float64
from scipy.ndimage import gaussian_filter1d

from priors.runtime.errors import InputError

CUT = 0.1
"""Share of the largest line integral that the outermost columns may hold before the object counts as cut off."""
LEAST_OVERLAP = 0.06
PAIRS = 90
"""Facing pairs that are compared, evenly spread, where there are more."""
FACING_DEG = 10.0


def full_turn(angles_deg: Float64[np.ndarray, " v"]) -> bool:
    """Tell whether most views have one that faces them."""
    arc = float(np.ptp(angles_deg))
    return arc > 270


def mass(sinogram: Float[np.ndarray, "v c"], angles_deg: Float64[np.ndarray, " v"]) -> float | None:
    """Return the axis by the centres of mass, None for an object that is cut off or an arc too short to tell."""
    if np.ptp(angles_deg) < 150 or len(angles_deg) < 8:
        return None
    columns = np.arange(sinogram.shape[1], dtype=np.float64)
    width = max(2, sinogram.shape[1] // 50)
    left, right = sinogram[:, :width].mean(axis=1), sinogram[:, -width:].mean(axis=1)
    largest = float(np.quantile(sinogram, 0.99))
    if largest <= 0 or float(np.quantile(np.maximum(abs(left), abs(right)), 0.9)) > CUT * largest:
        return None
    # What little the air beside the object holds (flat fields that drift) is a slope, not mass.
    slope = (right - left)[:, None] * (columns / (len(columns) - 1))[None]
    weight = sinogram - left[:, None] - slope
    total = weight.sum(axis=1)
    good = total > 0.3 * np.median(total)
    if good.sum() < 8:
        return None
    centres = (weight[good] @ columns) / total[good]
    turn = np.deg2rad(angles_deg[good])
    wave = np.stack([np.ones_like(turn), np.cos(turn), np.sin(turn)], axis=1)
    fit, *_ = np.linalg.lstsq(wave, centres, rcond=None)
    # Once more without the views that fit worst: one that jumped says nothing about the axis.
    away = abs(centres - wave @ fit)
    kept = away <= max(3 * float(np.median(away)), 1e-6)
    fit, *_ = np.linalg.lstsq(wave[kept], centres[kept], rcond=None)
    axis = float(fit[0])
    return axis if 0 <= axis <= len(columns) - 1 else None


def facing(angles_deg: Float64[np.ndarray, " v"]) -> list[tuple[int, int]]:
    """Return pairs of views that face each other best, evenly spread: one for a half turn, at most ``PAIRS``."""
    apart = abs(abs(angles_deg[:, None] - angles_deg[None, :]) % 360 - 180)
    if not full_turn(angles_deg):
        first, second = np.unravel_index(int(np.argmin(apart)), apart.shape)
        return [(int(first), int(second))] if apart[first, second] <= FACING_DEG else []
    partner = np.argmin(apart, axis=1)
    step = float(np.median(apart[np.arange(len(partner)), partner])) + 0.5
    pairs = sorted(
        {
            (min(k, int(p)), max(k, int(p)))
            for k, p in enumerate(partner)
            if apart[k, p] <= min(step, FACING_DEG)
        }
    )
    indices = np.linspace(0, len(pairs) - 1, min(PAIRS, len(pairs))).round().astype(int)
    return [pairs[k] for k in indices]


def mirror_residual(
    sinogram: Float[np.ndarray, "v c"], pairs: list[tuple[int, int]]
) -> Float64[np.ndarray, " s"]:
    """Return R(s) for s = 0 ... 2 (columns - 1); infinite where views overlap too little."""
    n = sinogram.shape[1]
    smooth = gaussian_filter1d(sinogram.astype(np.float64), 1.0, axis=1)
    one, two = smooth[[p[0] for p in pairs]], smooth[[p[1] for p in pairs]]
    size = 2 * n - 1
    shift = np.arange(size)
    # Columns of the overlap at shift s: from max(0, s - n + 1) to min(n - 1, s), of the other view s minus these.
    low, high = np.maximum(0, shift - n + 1), np.minimum(n - 1, shift) + 1
    count = (high - low).astype(np.float64)
    spectrum = np.fft.rfft(one, 2 * size, axis=1) * np.fft.rfft(two, 2 * size, axis=1)
    cross = np.fft.irfft(spectrum, 2 * size, axis=1)[:, :size]

    def sums(values: Float64[np.ndarray, "p c"]) -> Float64[np.ndarray, "p s"]:
        running = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
        return np.asarray(running[:, high] - running[:, low])

    # The overlap holds the same columns of both views, each mirrored into the other.
    first, second, firsts, seconds = sums(one), sums(two), sums(one**2), sums(two**2)
    energy = firsts - first**2 / count + seconds - second**2 / count
    apart = np.maximum(firsts + seconds - 2 * cross, 0)
    # An overlap in air holds no energy: with a floor above and below it is no match.
    floor = 1e-3 * float(energy.sum(axis=0).max()) + 1e-30
    residual = (apart.sum(axis=0) + floor) / (energy.sum(axis=0) + floor)
    wide = count >= max(6.0, LEAST_OVERLAP * n)
    best = int(np.argmin(np.where(wide, residual, np.inf)))
    # Near the best the floor would push the minimum towards more energy.
    near = slice(max(best - 1, 0), best + 2)
    plain = apart.sum(axis=0)[near] / (energy.sum(axis=0)[near] + 1e-9 * floor)
    if plain.argmin() == best - near.start:
        residual[near] = plain
    return np.where(wide, residual, np.inf)


def mirror(sinogram: Float[np.ndarray, "v c"], angles_deg: Float64[np.ndarray, " v"]) -> float | None:
    """Return the axis by mirrored views, None where no two face each other."""
    pairs = facing(angles_deg)
    if not pairs:
        return None
    return _lowest(mirror_residual(sinogram, pairs)) / 2


def mirror_centre(sinogram: Float[np.ndarray, "v c"], angles_deg: Float64[np.ndarray, " v"]) -> float:
    """Return the axis by mirrored views.

    Raises:
        InputError: no two views are within 10 degrees of facing each other.
    """
    column = mirror(sinogram, angles_deg)
    if column is None:
        raise InputError(
            "centre of rotation: no two views are 180 degrees apart (within 10); state the column"
        )
    return column


def _lowest(values: Float64[np.ndarray, " s"]) -> float:
    """Return where a function on the integers is smallest, by a parabola through three points."""
    best = int(np.argmin(values))
    if not 0 < best < len(values) - 1 or not np.isfinite(values[best - 1 : best + 2]).all():
        return float(best)
    left, low, right = values[best - 1 : best + 2]
    bend = left - 2 * low + right
    return best + 0.5 * float((left - right) / bend) if bend > 0 else float(best)


def wedge(sinogram: Float[np.ndarray, "v c"], angles_deg: Float64[np.ndarray, " v"]) -> float | None:
    """Return the axis of a half turn by what leaves the double wedge, to half a column; None for other arcs."""
    if not 150 < np.ptp(angles_deg) < 200:
        return None
    # About 200 columns and views tell as much as all of them do.
    coarse = max(1, sinogram.shape[1] // 200)
    size = sinogram.shape[1] // coarse
    lines = sinogram[:, : size * coarse].reshape(len(sinogram), size, coarse).mean(axis=2)
    lines = lines[:: max(1, len(lines) // 200)]
    centres = np.arange(size * 0.2, size * 0.8, 0.5)
    best = _least_outside(lines, centres)
    return None if best is None else (best + 0.5) * coarse - 0.5


def _least_outside(lines: Float[np.ndarray, "v c"], centres: Float64[np.ndarray, " k"]) -> float | None:
    """Return the centre with the least energy outside, None where it is the first or last: not a minimum."""
    views, size = lines.shape
    mirrored = lines[:, ::-1]
    radius = size / 2
    # Outside the double wedge: |frequency along views| above the radius times |frequency along columns|.
    across, along = np.fft.fftfreq(size), np.fft.fftfreq(2 * views) * 2 * views / (2 * np.pi)
    outside = abs(along)[:, None] > radius * abs(across)[None] + 2
    costs = []
    spectrum = np.fft.fft(mirrored, axis=1)
    for centre in centres:
        # The mirrored half, moved so that both have the same axis; what comes in at a side is the views themselves.
        shift = 2 * centre - (size - 1)
        moved = np.fft.ifft(spectrum * np.exp(-2j * np.pi * across * shift), axis=1).real
        edge = int(np.ceil(abs(shift)))
        if edge:
            side = slice(0, edge) if shift > 0 else slice(size - edge, size)
            moved[:, side] = lines[:, side]
        whole = np.concatenate([lines, moved])
        costs.append(float(abs(np.fft.fft2(whole))[outside].mean()))
    best = int(np.argmin(costs))
    if best in (0, len(costs) - 1):
        return None
    return float(np.interp(_lowest(np.asarray(costs)), np.arange(len(centres)), centres))
