r"""How rain changes while it stands still: bands that are forgotten by their own memory, noise, and a prior.

    f_l(n) = (1 - w_l) a_l(n) + w_l p_l(n) + s_l phi_0 e_l          next frame of a member, in dB
    a_l     mean of the autoregression of the bands seen (``cascade``), of anomalies in units of s_l
    p_l     the prior's E[next frame | frames of this member]
    s_l     local deviation of the last frame's band: no noise where nothing rains
    w_l     how much of the prior's difference to a_l came true in the last frame seen, from the ones before it

A weight is a regression over the cells of one frame, which are few independent numbers in large bands: it is shrunk by
1 - c / F (positive part of James and Stein's) with F the explained over the unexplained variance times the number of
independent cells. So a prior that knows no better than extrapolation has no say.

Every frame of a member is given the distribution of the last frame seen, by rank (probability matching): noise
makes no core heavier than any that was seen, and no drizzle between showers.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from assimilation.inference.nowcast.cascade import (
    DRY_DB,
    LEAST_DB,
    Autoregression,
    Bands,
    Cascade,
    Plane,
    decibels,
)
from assimilation.inference.nowcast.noise import Texture

LOCAL = 0.5  # of a band's wavelength: how far its deviation is averaged
LEAST_LOCAL = 3.0  # cells
SHRINKAGE = 4.0  # c: a share that explains less than four times its chance is nothing
Frames = Float[np.ndarray, "f y x"]


@dataclass(frozen=True, eq=False)
class Evolution:
    """What was seen, ready to be continued.

    Attributes:
        cascade: bands of the grid.
        last: the last frame seen in dB.
        mean: of every band of it.
        local: s_l.
        memory: of the bands.
        texture: of the noise.
        shares: w_l; zeros without a prior.
        before: anomalies of the frame before the last one.
    """

    cascade: Cascade
    last: Plane
    mean: Float[np.ndarray, "l 1 1"]
    local: Bands
    memory: Autoregression
    texture: Texture
    shares: Float[np.ndarray, "l"]
    before: Bands

    @staticmethod
    def seen(frames: Frames, expected: Plane | None = None) -> "Evolution":
        """Return the evolution of frames in mm/h in which rain stands still.

        Args:
            frames: two or more.
            expected: what a prior expects of the last frame from the ones before it; None leaves the prior out.
        """
        cascade = Cascade((frames.shape[1], frames.shape[2]))
        bands = cascade.bands(decibels(frames))
        mean = bands[-1].mean(axis=(-2, -1), keepdims=True)
        memory = Autoregression.seen(bands)
        last = decibels(frames[-1])
        shares = np.zeros(len(cascade.wavelengths))
        if expected is not None and len(frames) > 2:
            guess = memory.mean(bands[-2] - mean, bands[-3] - mean) + mean
            shares = skill(bands[-1], guess, cascade.bands(decibels(expected)), cascade.wavelengths)
        local = np.stack(
            [
                np.sqrt(ndimage.gaussian_filter(band**2, max(LOCAL * size, LEAST_LOCAL)))
                for band, size in zip(bands[-1] - mean, cascade.wavelengths, strict=True)
            ]
        )
        texture = Texture.of(last, cascade)
        return Evolution(cascade, last, mean, local, memory, texture, shares, bands[-2] - mean)

    def step(
        self, member: tuple[Bands, Bands], generator: np.random.Generator, expected: Plane | None = None
    ) -> tuple[Bands, Bands]:
        """Return the last two anomalies of a member one frame later.

        Args:
            member: its last anomalies, and those before.
            generator: of the noise.
            expected: the prior's mean of the frame in mm/h.
        """
        last, before = member
        mean = self.memory.mean(last, before)
        if expected is not None:
            share = self.shares[:, None, None]
            mean = (1 - share) * mean + share * (self.cascade.bands(decibels(expected)) - self.mean)
        noise = self.memory.innovation[:, None, None] * self.local * self.texture.draw(generator)
        return mean + noise, last

    @property
    def start(self) -> tuple[Bands, Bands]:
        """Return the anomalies every member starts from."""
        return self.cascade.bands(self.last) - self.mean, self.before

    def frame(self, anomalies: Bands) -> Plane:
        """Return a member's frame in dB, with the distribution of the last frame seen."""
        return matched((anomalies + self.mean).sum(axis=0), self.last)


def skill(
    truth: Bands, guess: Bands, expected: Bands, wavelengths: Float[np.ndarray, "l"]
) -> Float[np.ndarray, "l"]:
    """Return how much of ``expected - guess`` was right in every band, from 0 to 1, shrunk by its uncertainty."""
    missed, offered = truth - guess, expected - guess
    axes = (-2, -1)
    product, square = (missed * offered).mean(axis=axes), (offered**2).mean(axis=axes)
    total = (missed**2).mean(axis=axes)
    explained = product**2 / np.maximum(square * total, 1e-12)
    # Cells half a wavelength apart are independent of each other.
    independent = np.maximum(truth.shape[-2] * truth.shape[-1] / (wavelengths / 2) ** 2 - 1, 1)
    ratio = explained / np.maximum(1 - explained, 1e-12) * independent
    shrunk = np.maximum(1 - SHRINKAGE / np.maximum(ratio, 1e-12), 0)
    return np.asarray(np.clip(product / np.maximum(square, 1e-12), 0, 1) * shrunk)


def matched(field: Plane, target: Plane) -> Plane:
    """Return a field with the values of another in the order of its own; dry cells are ``DRY_DB``."""
    out = np.empty(field.size)
    out[np.argsort(field, axis=None, kind="stable")] = np.sort(target, axis=None)
    return np.where(out < LEAST_DB, DRY_DB, out).reshape(field.shape)
