"""The ramp filter of filtered backprojection along detector columns, and what prepares a view for it.

Taps at lag k: 1/4 at 0, -1/(pi k)^2 at odd k, 0 at even k, for a spacing of one. For curved detectors they are
multiplied by (g / sin g)^2, g = k times the angle between columns. Source: Kak and Slaney, Principles of Computerized
Tomographic Imaging (1988), chapter 3.
"""

import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from priors.runtime.errors import InputError
from recon.data.bad_rays import fill_along_rows
from recon.geometry.redundancy import Fan
from recon.geometry.scan import ScanGeometry

Window = Literal["ramp", "shepp-logan", "cosine", "hamming", "hann"]

# Up to here a matrix product is faster than a Fourier transform on a CPU.
LARGEST_TOEPLITZ = 1024


def ramp_taps(
    fan: Fan, geometry: ScanGeometry, *, window: Window, cutoff: float, margin: int
) -> Float64[np.ndarray, " taps"]:
    """Return the filter at every lag between a column and a column of the widened detector."""
    reach = geometry.shape[1] + margin
    lag = np.arange(-reach, reach + 1)
    taps = windowed_ramp(reach, window, cutoff)[abs(lag)]
    if geometry.detector == "curved":
        step = float((fan.ray[:, -1] - fan.ray[:, 0]).mean()) / max(1, geometry.shape[1] - 1)
        # np.sinc(x) is sin(pi x) / (pi x).
        taps = taps / np.sinc(lag * step / np.pi) ** 2
    return taps


def windowed_ramp(columns: int, window: Window, cutoff: float) -> Float64[np.ndarray, " lag"]:
    """Return the ramp filter at lags 0 to ``columns``, for a spacing of one.

    The window multiplies the transform of the band-limited ramp (not |frequency|, which would lose the mean).
    """
    # On a circle of twice the lags that are needed: the tails of a windowed filter that wrap around are small there.
    size = 4 * columns
    lag = np.minimum(np.arange(size), size - np.arange(size))
    taps = np.where(lag % 2 == 1, -1 / (np.pi * np.maximum(lag, 1)) ** 2, 0.0)
    taps[0] = 0.25
    if window == "ramp" and cutoff == 1:
        return taps[: columns + 1]
    frequency = np.fft.rfftfreq(size) * 2 / cutoff
    shape = {
        "ramp": np.ones_like(frequency),
        "shepp-logan": np.sinc(frequency / 2),
        "cosine": np.cos(np.pi / 2 * frequency),
        "hamming": 0.54 + 0.46 * np.cos(np.pi * frequency),
        "hann": 0.5 + 0.5 * np.cos(np.pi * frequency),
    }[window]
    spectrum = np.fft.rfft(taps).real * np.where(frequency <= 1, shape, 0.0)
    return np.fft.irfft(spectrum, size)[: columns + 1]


def filter_columns(
    line: Float[Tensor, "v c z"], taps: Float64[np.ndarray, " taps"], margin: tuple[int, int] = (0, 0)
) -> Float[Tensor, "v fine z"]:
    """Convolve every view with ``taps`` and interpolate to twice as many columns.

    Args:
        line: views with C columns.
        taps: filter at lags -reach to reach, reach = C + sum(margin).
        margin: columns to add before the first and after the last: a filtered view does not end where the
            measured one does.
    """
    return _interpolate(convolve_columns(line, taps, margin))


def convolve_columns(
    line: Float[Tensor, "v c z"], taps: Float64[np.ndarray, " taps"], margin: tuple[int, int] = (0, 0)
) -> Float[Tensor, "v padded z"]:
    """Convolve every view with ``taps``: columns -1 - margin[0] to C + margin[1], see ``filter_columns``."""
    columns, reach = line.shape[1], len(taps) // 2
    first, stop = -1 - margin[0], columns + margin[1] + 1
    if columns <= LARGEST_TOEPLITZ:
        lag = np.arange(first, stop)[:, None] - np.arange(columns)[None, :]
        return torch.matmul(torch.from_numpy(taps[lag + reach]).to(line.dtype), line)
    # Long enough that the circular convolution does not wrap around.
    size = 1 << (columns + len(taps)).bit_length()
    response = torch.fft.rfft(torch.from_numpy(taps).to(line.dtype), size)
    spectrum = torch.fft.rfft(line, size, dim=1) * response[:, None]
    # Column c of the convolution sits at index c + reach.
    filtered: Tensor = torch.fft.irfft(spectrum, size, dim=1)[:, first + reach : stop + reach]
    return filtered


def fill_bad(sinogram: Float[Tensor, "v r c"], weights: Float[Tensor, "v r c"]) -> Float[Tensor, "v r c"]:
    """Replace rays of zero weight by interpolation along the detector row; see ``fill_along_rows``."""
    return torch.from_numpy(fill_along_rows(sinogram.numpy(), weights.numpy() <= 0))


def centring_margin(fan: Fan, geometry: ScanGeometry) -> tuple[int, int]:
    """Return the columns to add before and after to centre the detector on the rotation axis."""
    columns = geometry.shape[1]
    # Columns are evenly spaced in the angle on a curved detector, in its tangent on a flat one.
    position = (
        fan.ray.mean(axis=0)
        if fan.parallel or geometry.detector == "curved"
        else np.tan(fan.ray).mean(axis=0)
    )
    if columns == 1:
        return 0, 0
    axis = -position[0] * (columns - 1) / (position[-1] - position[0])
    if not -columns < axis < 2 * columns:
        raise InputError(
            f"fbp: the rotation axis falls on column {axis:.1f}, expected it near 0 to {columns - 1}"
        )
    lacking = math.ceil(abs(2 * axis - (columns - 1)) - 1e-6)
    return (lacking, 0) if 2 * axis < columns - 1 else (0, lacking)


def _interpolate(padded: Float[Tensor, "v padded z"]) -> Float[Tensor, "v fine z"]:
    """Interpolate columns -1 to C linearly to 2 C columns of half the width, at c - 1/4 and c + 1/4."""
    before, here, after = padded[:, :-2], padded[:, 1:-1], padded[:, 2:]
    fine = padded.new_empty((len(padded), 2 * here.shape[1], padded.shape[2]))
    torch.lerp(here, before, 0.25, out=fine[:, 0::2])
    torch.lerp(here, after, 0.25, out=fine[:, 1::2])
    return fine
