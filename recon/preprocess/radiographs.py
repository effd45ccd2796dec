"""From radiographs to line integrals: dark and flat field, logarithm, bad pixels, noise, centre of rotation.

    t = (raw - dark) / (flat - dark)          transmission; dark and flat are medians over their frames
    y = -log(t)                               line integrals
    w = n^2 / (g n + d),  n = raw - dark      inverse variance of y; gain g = variance / mean of the flats,
                                              d = variance of the dark frames

Each step stands alone. The centre of rotation of a half turn of parallel views is found in two steps: the
view at 180 degrees mirrors the view at 0, so their correlation gives half a column; among nearby centres the
right one makes the sharpest reconstruction.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Real

from priors.runtime.errors import InputError
from recon.data.bad_rays import fill_along_rows
from recon.data.noise import FLOOR

DEAD = 0.05
"""A pixel whose flat field is below this fraction of the median does not see the beam."""


@dataclass(frozen=True, eq=False)
class LineIntegrals:
    """Sinogram and weights (view, row, column); bad pixels hold interpolated values and weight 0."""

    sinogram: Float32[np.ndarray, "v r c"]
    weights: Float32[np.ndarray, "v r c"]


def flat_correct(
    raw: Real[np.ndarray, "v r c"], dark: Real[np.ndarray, "d _ _"], flat: Real[np.ndarray, "f _ _"]
) -> LineIntegrals:
    """Return line integrals from detector values and their dark and flat fields.

    Raises:
        InputError: shapes differ, values are NaN, negative or all zero, or dark and flat fields are swapped.
    """
    _check_fields(raw, dark, flat)
    black = np.median(dark, axis=0).astype(np.float64)
    white = np.median(flat, axis=0) - black
    gain, dark_variance = detector_noise(dark, flat)
    dead = white < DEAD * np.median(white)
    n = raw - black
    # Below half a photon the logarithm means nothing; the weight says so.
    floored = np.maximum(n, FLOOR * gain)
    sinogram = -np.log(floored / np.where(dead, 1.0, white))
    weights = floored**2 / (gain * floored + dark_variance)
    weights[:, dead] = 0
    return LineIntegrals(fill_dead(sinogram, dead).astype(np.float32), weights.astype(np.float32))


def detector_noise(dark: Real[np.ndarray, "d r c"], flat: Real[np.ndarray, "f r c"]) -> tuple[float, float]:
    """Return the gain (detector values per photon) and the variance of the dark field, from repeated frames.

    With one frame there is nothing to compare: the gain is taken as 1 and the dark variance as 0.
    """
    variance = float(np.median(dark.var(axis=0, ddof=1))) if len(dark) > 1 else 0.0
    if len(flat) < 2:
        return 1.0, variance
    signal = np.median(flat, axis=0) - np.median(dark, axis=0)
    seen = signal > DEAD * np.median(signal)
    # The source flickers from frame to frame; pixels, not frames, are what is compared.
    level = flat.mean(axis=(1, 2), keepdims=True)
    steady = flat * (level.mean() / level)
    gain = float(np.median(steady.var(axis=0, ddof=1)[seen] / signal[seen]))
    return (gain if gain > 0 else 1.0), variance


def fill_dead(
    sinogram: Float[np.ndarray, "v r c"], dead: Bool[np.ndarray, "r c"]
) -> Float[np.ndarray, "v r c"]:
    """Return the sinogram with dead pixels interpolated along their detector row.

    Raises:
        InputError: a row has no living pixel.
    """
    blind = np.flatnonzero(dead.all(axis=1))
    if len(blind):
        raise InputError(f"flat field: detector row {blind[0]} sees no beam")
    return fill_along_rows(sinogram, dead)


def _check_fields(raw: np.ndarray, dark: np.ndarray, flat: np.ndarray) -> None:
    for name, frames in (("dark", dark), ("flat", flat)):
        if not len(frames):
            raise InputError(f"{name} field: found no frames, expected at least one")
        if frames.shape[1:] != raw.shape[1:]:
            found = f"{frames.shape[1:]} rows and columns"
            raise InputError(f"{name} field: found {found}, expected those of the data, {raw.shape[1:]}")
    for name, frames in (("data", raw), ("dark field", dark), ("flat field", flat)):
        bad = ~np.isfinite(frames)
        if bad.any():
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            raise InputError(f"{name}: {int(bad.sum())} values are NaN or infinite, the first at {where}")
        if frames.min() < 0:
            raise InputError(f"{name}: found {frames.min():.5g}, expected detector values, 0 or more")
    if not raw.any():
        raise InputError("data: every value is zero, expected radiographs")
    empty = np.flatnonzero(~raw.any(axis=(1, 2)))
    if len(empty):
        raise InputError(f"data: view {int(empty[0])} holds only zeros; was the beam off?")
    white, black = float(np.median(flat)), float(np.median(dark))
    if white <= black:
        raise InputError(
            f"flat field: its median {white:.5g} is not above that of the dark field, {black:.5g}; "
            "are dark and flat swapped?"
        )


def mirror_centre(sinogram: Float[np.ndarray, "v c"], angles_deg: Float64[np.ndarray, " v"]) -> float:
    """Return the column of the rotation axis from the pair of views closest to 180 degrees apart.

    A view at a + 180 is the view at a mirrored about the axis: view(a + 180)[c] = view(a)[2 centre - c].

    Raises:
        InputError: no two views are within 10 degrees of facing each other.
    """
    apart = abs(abs(angles_deg[:, None] - angles_deg[None, :]) % 360 - 180)
    first, second = np.unravel_index(int(np.argmin(apart)), apart.shape)
    if apart[first, second] > 10:
        raise InputError(
            "centre of rotation: no two views are 180 degrees apart (within 10); state offset_columns"
        )
    one, two = sinogram[first] - sinogram[first].mean(), sinogram[second] - sinogram[second].mean()
    columns = len(one)
    # Convolution at lag s adds one[c] * two[s - c]: its peak is s = 2 centre.
    match = np.convolve(one, two)
    overlap = np.convolve(np.ones(columns), np.ones(columns))
    match = np.where(overlap > columns / 4, match / overlap, -np.inf)
    peak = int(np.argmax(match))
    if 0 < peak < len(match) - 1 and np.isfinite(match[peak - 1 : peak + 2]).all():
        left, top, right = match[peak - 1 : peak + 2]
        return float(peak + 0.5 * (left - right) / (left - 2 * top + right)) / 2
    return peak / 2
