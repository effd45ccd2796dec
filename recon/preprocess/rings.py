"""Stripes of a sinogram, which are rings of its reconstruction: a pixel that always reads a little too much.

``rings-sorting``: each column is sorted by value, the sorted sinogram is median-filtered across columns, and the
values go back to where they came from. What an object does to a column moves from view to view, but hardly its
distribution, so that neighbouring columns agree rank by rank; a stripe is what does not. Source: Vo, Atwood,
Drakopoulos, Optics Express 26, 28396 (2018), algorithm 3.

``rings-wavelet``: stripes live in the vertical details of a wavelet decomposition, at frequencies k near zero along
the views; those are damped by 1 - exp(-k^2 / (2 sigma^2)), k in cycles per height of the band. Source: Münch,
Trtik, Marone, Stampanoni, Optics Express 17, 8567 (2009).
"""

from typing import Literal

import numpy as np
import pywt
from jaxtyping import Float
from pydantic import Field
from scipy.ndimage import median_filter

from priors.runtime.errors import InputError
from recon.data.scan import Scan
from recon.preprocess.base import Step, corrected

LEAST_VIEWS = 8
"""With fewer views a column has no distribution to speak of."""


class RingsSorting(Step):
    """Stripes removed rank by rank; for narrow stripes, full or partial, in many views.

    Attributes:
        columns: width of the median across columns; wider removes wider stripes and blurs more.
    """

    name: Literal["rings-sorting"] = "rings-sorting"
    columns: int = Field(11, ge=3)

    def __call__(self, data: Scan) -> Scan:
        """Return the scan without stripes.

        Raises:
            InputError: too few views, or fewer columns than the median is wide.
        """
        _check(self.name, data)
        rows = np.stack(
            [self.sinogram(data.sinogram[:, row]) for row in range(data.geometry.shape[0])], axis=1
        )
        return corrected(data, self, rows)

    def sinogram(self, lines: Float[np.ndarray, "v c"]) -> Float[np.ndarray, "v c"]:
        """Return one detector row without stripes."""
        order = np.argsort(lines, axis=0, kind="stable")
        ranked = np.take_along_axis(lines, order, axis=0)
        smooth = median_filter(ranked, size=(1, min(self.columns, lines.shape[1])))
        result = np.empty_like(lines)
        np.put_along_axis(result, order, smooth, axis=0)
        return result


class RingsWavelet(Step):
    """Stripes damped in wavelet bands: for wide, faint stripes that are the same in every view.

    A stripe of some views only (a pixel that fails now and then) becomes a stripe of all: see ``rings-sorting``.

    Attributes:
        levels: of the decomposition; each removes stripes twice as wide.
        sigma: of the damping, in cycles over the height of a band.
        wavelet: a wavelet that PyWavelets knows.
    """

    name: Literal["rings-wavelet"] = "rings-wavelet"
    levels: int = Field(4, ge=1, le=12)
    sigma: float = Field(1.0, gt=0)
    wavelet: str = "db5"

    def __call__(self, data: Scan) -> Scan:
        """Return the scan without stripes.

        Raises:
            InputError: too few views, or an unknown wavelet.
        """
        _check(self.name, data)
        if self.wavelet not in pywt.wavelist(kind="discrete"):
            raise InputError(
                f"{self.name}: wavelet: found '{self.wavelet}', expected one such as db5 or haar"
            )
        rows = np.stack(
            [self.sinogram(data.sinogram[:, row]) for row in range(data.geometry.shape[0])], axis=1
        )
        return corrected(data, self, rows)

    def sinogram(self, lines: Float[np.ndarray, "v c"]) -> Float[np.ndarray, "v c"]:
        """Return one detector row without stripes."""
        views, columns = lines.shape
        bands, approximation = [], lines.astype(np.float64)
        for _ in range(self.levels):
            if min(approximation.shape) < 4:
                break
            approximation, (across, along, both) = pywt.dwt2(approximation, self.wavelet, mode="symmetric")
            bands.append((across, self._damped(along), both))
        for details in reversed(bands):
            shape = details[0].shape
            approximation = pywt.idwt2(
                (approximation[: shape[0], : shape[1]], details), self.wavelet, "symmetric"
            )
        return np.asarray(approximation[:views, :columns], dtype=lines.dtype)

    def _damped(self, band: Float[np.ndarray, "v c"]) -> Float[np.ndarray, "v c"]:
        spectrum = np.fft.rfft(band, axis=0)
        cycles = np.arange(spectrum.shape[0])
        damping = 1 - np.exp(-(cycles**2) / (2 * self.sigma**2))
        return np.asarray(np.fft.irfft(spectrum * damping[:, None], n=band.shape[0], axis=0))


def _check(name: str, data: Scan) -> None:
    if data.geometry.views < LEAST_VIEWS:
        raise InputError(f"{name}: found {data.geometry.views} views, expected at least {LEAST_VIEWS}")
