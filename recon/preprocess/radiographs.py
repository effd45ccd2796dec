"""From radiographs to line integrals: dark and flat field, logarithm, bad pixels, noise.

    t = (raw - dark) / (flat - dark)          transmission; dark and flat are medians over their frames
    y = -log(t)                               line integrals
    w = n^2 / (g n + d),  n = raw - dark      inverse variance of y; gain g = variance / mean of the flats,
                                              d = variance of the dark frames

Radiographs are corrected in blocks of views, in float32: only a block of them is in memory twice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Real

from priors.runtime.errors import InputError
from recon.data.bad_rays import fill_along_rows
from recon.data.noise import FLOOR

DEAD = 0.05
"""A pixel whose flat field is below this fraction of the median does not see the beam."""


BLOCK = 2**23
"""Pixels of radiographs that are corrected at a time."""


@dataclass(frozen=True, eq=False)
class LineIntegrals:
    """Sinogram and weights (view, row, column); bad pixels hold interpolated values and weight 0."""

    sinogram: Float32[np.ndarray, "v r c"]
    weights: Float32[np.ndarray, "v r c"]


@dataclass(frozen=True, eq=False)
class Fields:
    """What corrects radiographs: fields of the detector rows in question, and the noise of the whole detector.

    Attributes:
        black: median of the dark frames (row, column).
        white: median of the flat frames less ``black``.
        dead: pixels that do not see the beam.
        gain: detector values per photon.
        dark_variance: of the dark frames.
    """

    black: Float32[np.ndarray, "r c"]
    white: Float32[np.ndarray, "r c"]
    dead: Bool[np.ndarray, "r c"]
    gain: float
    dark_variance: float

    @classmethod
    def of(
        cls,
        dark: Real[np.ndarray, "d r c"],
        flat: Real[np.ndarray, "f r c"],
        whole: tuple[Real[np.ndarray, "d _ c"], Real[np.ndarray, "f _ c"]] | None = None,
    ) -> "Fields":
        """Return the fields of dark and flat frames.

        Args:
            dark: frames without beam. flat: frames without object.
            whole: the same frames on rows that stand for the whole detector, where the others are a part of it: noise
                and brightness must not depend on which part is reconstructed.

        Raises:
            InputError: shapes differ, values are NaN or negative, or dark and flat fields are swapped.
        """
        for name, frames in (("dark field", dark), ("flat field", flat)):
            if not len(frames):
                raise InputError(f"{name}: found no frames, expected at least one")
            _check_values(name, frames)
        if dark.shape[1:] != flat.shape[1:]:
            raise InputError(
                f"dark field: found {dark.shape[1:]}, expected the shape of the flat, {flat.shape[1:]}"
            )
        darks, flats = (dark, flat) if whole is None else whole
        level, base = float(np.median(flats)), float(np.median(darks))
        if level <= base:
            raise InputError(
                f"flat field: its median {level:.5g} is not above that of the dark field, {base:.5g}; "
                "are dark and flat swapped?"
            )
        gain, variance = detector_noise(darks, flats)
        black = np.median(dark, axis=0).astype(np.float32)
        white = np.median(flat, axis=0).astype(np.float32) - black
        usual = np.median(np.median(flats, axis=0) - np.median(darks, axis=0))
        return cls(black, white, white < DEAD * usual, gain, variance)


def flat_correct(
    raw: Real[np.ndarray, "v r c"], dark: Real[np.ndarray, "d _ _"], flat: Real[np.ndarray, "f _ _"]
) -> LineIntegrals:
    """Return line integrals from detector values and their dark and flat fields.

    Raises:
        InputError: shapes differ, values are NaN, negative or all zero, or dark and flat fields are swapped.
    """
    for name, frames in (("dark", dark), ("flat", flat)):
        if len(frames) and frames.shape[1:] != raw.shape[1:]:
            found = f"{frames.shape[1:]} rows and columns"
            raise InputError(f"{name} field: found {found}, expected those of the data, {raw.shape[1:]}")
    return correct(lambda start, stop: raw[start:stop], len(raw), Fields.of(dark, flat))


def correct(
    read: Callable[[int, int], Real[np.ndarray, "_ r c"]], views: int, fields: Fields, row: int = 0
) -> LineIntegrals:
    """Return line integrals of radiographs that are read in blocks of views: only a block is in memory as it is stored.

    Args:
        read: returns the radiographs of views START to STOP.
        views: how many there are.
        fields: of the rows that ``read`` returns.
        row: number of the first of these rows, for messages.

    Raises:
        InputError: values are NaN, negative or all zero.
    """
    shape = (views, *fields.black.shape)
    sinogram, weights = np.empty(shape, np.float32), np.empty(shape, np.float32)
    white = np.where(fields.dead, np.float32(1), fields.white)
    block = max(1, BLOCK // max(fields.black.size, 1))
    gain, variance = np.float32(fields.gain), np.float32(fields.dark_variance)
    unlit: list[int] = []
    for start in range(0, views, block):
        raw = read(start, min(start + block, views))
        _check_values("data", raw, (start, row))
        unlit += [start + int(view) for view in np.flatnonzero(~raw.any(axis=(1, 2)))]
        n = raw.astype(np.float32) - fields.black
        # Below half a photon the logarithm means nothing; the weight says so.
        np.maximum(n, FLOOR * gain, out=n)
        here = slice(start, start + len(raw))
        sinogram[here] = -np.log(n / white)
        weights[here] = n * n / (gain * n + variance)
        if fields.dead.any():
            weights[here][:, fields.dead] = 0
            sinogram[here] = fill_dead(sinogram[here], fields.dead)
    if len(unlit) == views:
        raise InputError("data: every value is zero, expected radiographs")
    if unlit:
        raise InputError(f"data: view {unlit[0]} holds only zeros; was the beam off?")
    return LineIntegrals(sinogram, weights)


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


def _check_values(name: str, frames: np.ndarray, start: tuple[int, int] = (0, 0)) -> None:
    """Refuse values that no detector gives; ``start`` are the numbers of the first frame and row."""
    if frames.dtype.kind not in "iuf":
        raise InputError(f"{name}: found {frames.dtype} values, expected numbers")
    if frames.dtype.kind == "f" and not np.isfinite(frames).all():
        bad = ~np.isfinite(frames)
        where = tuple(int(i) for i in np.argwhere(bad)[0] + [*start, 0])
        raise InputError(f"{name}: {int(bad.sum())} values are NaN or infinite, the first at {where}")
    if frames.dtype.kind != "u" and frames.min() < 0:
        raise InputError(f"{name}: found {frames.min():.5g}, expected detector values, 0 or more")
