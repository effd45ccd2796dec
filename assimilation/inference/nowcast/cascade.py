r"""Cascades of rain: a field as a sum of bands of wavelengths, and how long each band lives.

    R [dB] = 10 log10 rain, -15 where there is less than 0.1 mm/h                  (Seed 2003; Bowler et al. 2006)
    f = sum_l f_l,   f_l = IDCT(w_l DCT f),  w_l: Gaussians in log wavenumber, of sum 1, an octave apart
    f_l(n) = phi_1 f_l(n - 1) + phi_2 f_l(n - 2) + phi_0 e,   Yule-Walker from the frames seen, rain standing still

The cosine transform mirrors the field at its edges: with the Fourier transform rain at one edge leaks to the opposite
one, where it comes out as the bands are forgotten at different rates. Small bands are forgotten within minutes, large
ones live for hours: the share that is forgotten, phi_0^2, is what noise replaces.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float
from scipy import fft

DRY_DB = -15.0
LEAST_DB = -10.0
"""0.1 mm/h: less counts as dry."""
WIDTH = 0.5  # deviation of a band's weight, in octaves
LEAST_BANDS = 3

Plane = Float[np.ndarray, "y x"]
Bands = Float[np.ndarray, "*b l y x"]


def decibels(rain: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """Return rain rates in dB of mm/h, ``DRY_DB`` below 0.1 mm/h."""
    logarithm = 10 * np.log10(np.maximum(rain, 1e-9))
    return np.asarray(np.where(logarithm >= LEAST_DB, logarithm, DRY_DB))


def rain_of(decibel: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """Return rain rates in mm/h, 0 below 0.1 mm/h."""
    return np.asarray(np.where(decibel >= LEAST_DB, 10 ** (decibel / 10), 0.0))


@dataclass(frozen=True)
class Cascade:
    """The bands of a grid.

    Attributes:
        shape: of the grid, (y, x).
    """

    shape: tuple[int, int]

    @cached_property
    def weights(self) -> Float[np.ndarray, "l y x"]:
        """Return the weight of every band for the coefficients of a cosine transform."""
        # Coefficient k of n cells is half of k waves.
        rows, columns = (np.arange(count) / (2 * count) for count in self.shape)
        wavenumber = np.hypot(rows[:, None], columns[None])
        # In octaves from one wave across the grid; the mean belongs to the largest band.
        octave = np.log2(np.maximum(wavenumber * min(self.shape), 1e-9))
        centres = np.log2(min(self.shape) / self.wavelengths)
        distance = octave - centres[:, None, None]
        # The outermost bands keep what lies beyond their centres.
        distance[0] = np.maximum(distance[0], 0)
        distance[-1] = np.minimum(distance[-1], 0)
        weights = np.exp(-(distance**2) / (2 * WIDTH**2))
        return np.asarray(weights / weights.sum(axis=0))

    @cached_property
    def wavelengths(self) -> Float[np.ndarray, "l"]:
        """Return the wavelength at the centre of every band in cells, the largest first."""
        size = min(self.shape)
        count = max(LEAST_BANDS, round(np.log2(max(size / 2, 2))))
        ratio = (size / 2) ** (1 / count)
        edges = ratio ** np.arange(count + 1)
        return np.asarray(size / (0.5 * (edges[1:] + edges[:-1])))

    def bands(self, field: Float[np.ndarray, "*b y x"]) -> Bands:
        """Return the bands of fields; their sum is the field."""
        spectrum = fft.dctn(field, axes=(-2, -1), norm="ortho")
        return np.asarray(fft.idctn(spectrum[..., None, :, :] * self.weights, axes=(-2, -1), norm="ortho"))


@dataclass(frozen=True, eq=False)
class Autoregression:
    """The memory of every band: phi_1, phi_2 and the share phi_0 of what is new."""

    first: Float[np.ndarray, "l"]
    second: Float[np.ndarray, "l"]
    innovation: Float[np.ndarray, "l"]

    @staticmethod
    def seen(bands: Float[np.ndarray, "f l y x"]) -> "Autoregression":
        """Return the memory between frames in which rain stands still.

        Args:
            bands: of two frames or more; with two only the first order is known.
        """
        anomalies = bands - bands.mean(axis=(-2, -1), keepdims=True)
        first = np.clip(_correlation(anomalies, 1), 1e-3, 0.999)
        second = first**2 if len(bands) < 3 else _correlation(anomalies, 2)
        # Stationary: |phi_2| < 1 and phi_1 + phi_2 < 1.
        second = np.clip(second, 2 * first**2 - 1 + 1e-3, 0.998)
        phi_1 = first * (1 - second) / (1 - first**2)
        phi_2 = (second - first**2) / (1 - first**2)
        known = phi_1 * first + phi_2 * second
        return Autoregression(phi_1, phi_2, np.sqrt(np.maximum(1 - known, 0)))

    def mean(self, last: Bands, before: Bands) -> Bands:
        """Return what is expected of the next frame, from anomalies."""
        return np.asarray(self.first[:, None, None] * last + self.second[:, None, None] * before)


def _correlation(anomalies: Float[np.ndarray, "f l y x"], lag: int) -> Float[np.ndarray, "l"]:
    """Return the correlation of every band between frames ``lag`` apart, over all pairs."""
    later, earlier = anomalies[lag:], anomalies[:-lag]
    axes = (0, 2, 3)
    norm = np.sqrt((later**2).sum(axis=axes) * (earlier**2).sum(axis=axes))
    return np.asarray((later * earlier).sum(axis=axes) / np.maximum(norm, 1e-12))
