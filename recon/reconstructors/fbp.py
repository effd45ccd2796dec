"""Filtered backprojection: the inverse of the continuous projector, sampled.

    x = A_2.T [ b * (h * (c w y)) ],     b = cell * radius / (2 * pixel area)

y are line integrals, w the redundancy weights of the orbit (Parker's on a short scan), c = cos(fan angle),
h the ramp filter with taps 1/4 at 0, -1/(pi k)^2 at odd k and 0 at even k, b the arc of a view times the
distance of the source from the axis (1 for parallel rays) over the pixel area. For curved detectors the
taps are multiplied by (g / sin g)^2, g = k times the angle between columns. A_2 is the projector of a
detector with columns half as wide, to which the filtered views are interpolated: with Joseph's weights the
plain adjoint leaves a moire pattern where rays and pixels have the same spacing. For fans each weight of
A_2 is divided by the distance from the source. Source: Kak and Slaney, Principles of Computerized
Tomographic Imaging (1988), chapter 3.

Statistical weights play no part, except that a ray of zero weight (a bad pixel) is replaced by linear
interpolation between its neighbours in the row. An arc shorter than pi plus the fan angle is filtered as it
is: directions nobody measured stay missing, and edges along them are blurred and shaded.
"""

import math
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from priors.runtime.errors import InputError
from priors.runtime.memory import MemoryPlan
from recon.geometry.redundancy import Fan, fan_coordinates, redundancy
from recon.geometry.scan import Scan
from recon.geometry.volume import Volume
from recon.operators.projector import Projector
from recon.reconstructors.base import Job, Measurement, Reconstructor, StepRecord

Window = Literal["ramp", "shepp-logan", "cosine", "hamming", "hann"]

BLOCK = 64
# Up to here a matrix product is faster than a Fourier transform on a CPU.
LARGEST_TOEPLITZ = 1024


class FBP(Reconstructor):
    """Filtered backprojection of parallel and fan beams (flat or curved detector) on a circular orbit.

    Attributes:
        filter: window on the ramp, from sharp to smooth.
        cutoff: highest frequency kept, as a fraction of the detector's Nyquist frequency.
    """

    name: Literal["fbp"] = "fbp"
    filter: Window = "ramp"
    cutoff: Annotated[float, Field(gt=0, le=1)] = 1.0

    def __call__(self, measurement: Measurement, projector: Projector, job: Job) -> Float[Tensor, "z y x"]:
        """Return the attenuation in 1/mm.

        Raises:
            InputError: the orbit is not a circle around the z axis, or shapes disagree.
        """
        wanted = projector.range
        for what, array in (("sinogram", measurement.sinogram), ("weights", measurement.weights)):
            if tuple(array.shape) != wanted:
                raise InputError(f"fbp: found {what} of shape {tuple(array.shape)}, expected {wanted}")
        volume, fan = projector.volume, fan_coordinates(projector.scan)
        scale = torch.from_numpy(_scale(fan, volume))
        margin = _margin(fan, projector.scan)
        fine = Projector(volume, half_columns(projector.scan, margin), backend=projector.backend)
        taps = self._taps(fan, projector.scan, sum(margin))
        slices, height, width = volume.shape
        image = torch.empty((height, width, slices), dtype=measurement.sinogram.dtype).permute(2, 0, 1)
        blocks = range(0, slices, BLOCK)
        with torch.no_grad():
            for count, start in enumerate(blocks):
                rows = slice(start, min(start + BLOCK, slices))
                views = fill_bad(measurement.sinogram[:, rows].cpu(), measurement.weights[:, rows].cpu())
                line = views.permute(0, 2, 1) * scale[:, :, None].to(views.dtype)
                filtered = filter_columns(line, taps, margin).permute(0, 2, 1)
                image[rows] = fine.slices(rows.start, rows.stop).faded_adjoint(filtered)
                job.on_step(StepRecord(count + 1, len(blocks), {}))
        return image.to(measurement.sinogram.device)

    def plan(self, volume: Volume, scan: Scan) -> MemoryPlan:
        """Return the memory needed beyond the measurement, in bytes."""
        rows, columns = scan.shape
        rays = scan.views * columns
        block = 4 * min(BLOCK, rows) * rays
        return MemoryPlan(
            {
                "volume": 4 * math.prod(volume.shape),
                "ray table": 2 * 34 * rays,
                # Tracing the rays is over before the first block of slices is filtered.
                "sinogram blocks": max(5 * block, 2 * 150 * rays),
                "filter": 12 * columns**2 if columns <= LARGEST_TOEPLITZ else 6 * block,
            }
        )

    def _taps(self, fan: Fan, scan: Scan, margin: int) -> Float64[np.ndarray, " taps"]:
        """Return the filter at every lag between a column and a column of the widened detector."""
        reach = scan.shape[1] + margin
        lag = np.arange(-reach, reach + 1)
        taps = windowed_ramp(reach, self.filter, self.cutoff)[abs(lag)]
        if scan.detector == "curved":
            step = float((fan.ray[:, -1] - fan.ray[:, 0]).mean()) / max(1, scan.shape[1] - 1)
            # np.sinc(x) is sin(pi x) / (pi x).
            taps = taps / np.sinc(lag * step / np.pi) ** 2
        return taps


def windowed_ramp(columns: int, window: Window, cutoff: float) -> Float64[np.ndarray, " lag"]:
    """Return the ramp filter at lags 0 to ``columns``, for a spacing of one.

    The window multiplies the transform of the band-limited ramp (not |frequency|, which would lose the mean).
    """
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
    columns, reach = line.shape[1], len(taps) // 2
    first, stop = -1 - margin[0], columns + margin[1] + 1
    if columns <= LARGEST_TOEPLITZ:
        lag = np.arange(first, stop)[:, None] - np.arange(columns)[None, :]
        return _interpolate(torch.matmul(torch.from_numpy(taps[lag + reach]).to(line.dtype), line))
    size = 1 << (columns + len(taps)).bit_length()
    response = torch.fft.rfft(torch.from_numpy(taps).to(line.dtype), size)
    spectrum = torch.fft.rfft(line, size, dim=1) * response[:, None]
    # Column c of the convolution sits at index c + reach.
    return _interpolate(torch.fft.irfft(spectrum, size, dim=1)[:, first + reach : stop + reach])


def fill_bad(sinogram: Float[Tensor, "v r c"], weights: Float[Tensor, "v r c"]) -> Float[Tensor, "v r c"]:
    """Replace rays of zero weight by linear interpolation along the detector row; a row without any is
    zero."""
    bad = weights <= 0
    if not bool(bad.any()):
        return sinogram
    filled = sinogram.clone()
    column = np.arange(sinogram.shape[2])
    for view, row in bad.any(dim=2).nonzero().tolist():
        gaps = bad[view, row].numpy()
        values = filled[view, row].numpy()
        values[gaps] = 0.0 if gaps.all() else np.interp(column[gaps], column[~gaps], values[~gaps])
        filled[view, row] = torch.from_numpy(values)
    return filled


def _scale(fan: Fan, volume: Volume) -> Float64[np.ndarray, "v c"]:
    cells, weight = redundancy(fan)
    cosine = 1.0 if fan.parallel else np.cos(fan.ray)
    pixel = volume.voxel_mm[1] * volume.voxel_mm[2]
    return np.asarray(weight * cosine * cells[:, None] * fan.radius_mm / (2 * pixel))


def _margin(fan: Fan, scan: Scan) -> tuple[int, int]:
    """Return the columns to add before and after to centre the detector on the rotation axis."""
    columns = scan.shape[1]
    place = (
        fan.ray.mean(axis=0) if fan.parallel or scan.detector == "curved" else np.tan(fan.ray).mean(axis=0)
    )
    if columns == 1:
        return 0, 0
    axis = -place[0] * (columns - 1) / (place[-1] - place[0])
    if not -columns < axis < 2 * columns:
        raise InputError(
            f"fbp: the rotation axis falls on column {axis:.1f}, expected it near 0 to {columns - 1}"
        )
    lacking = math.ceil(abs(2 * axis - (columns - 1)) - 1e-6)
    return (lacking, 0) if 2 * axis < columns - 1 else (0, lacking)


def half_columns(scan: Scan, margin: tuple[int, int]) -> Scan:
    """Return the scan with ``margin`` columns more, each cut in two."""
    rows, columns = scan.shape
    shift = (margin[1] - margin[0]) / 2 * scan.u_mm
    centre, u = scan.detector_mm + shift, scan.u_mm / 2
    if scan.detector == "curved":
        reach = scan.detector_mm - scan.source_mm
        radius, pitch = (np.linalg.norm(x, axis=1, keepdims=True) for x in (reach, scan.u_mm))
        turn = (margin[1] - margin[0]) / 2 * pitch / radius
        centre = scan.source_mm + np.cos(turn) * reach + np.sin(turn) * radius / pitch * scan.u_mm
        u = (np.cos(turn) * scan.u_mm - np.sin(turn) * pitch / radius * reach) / 2
    wide = (rows, 2 * (columns + sum(margin)))
    return Scan(scan.beam, scan.source_mm, centre, u, scan.v_mm, wide, scan.detector)


def _interpolate(padded: Float[Tensor, "v padded z"]) -> Float[Tensor, "v fine z"]:
    """Interpolate columns -1 to C linearly to 2 C columns of half the width, at c - 1/4 and c + 1/4."""
    before, here, after = padded[:, :-2], padded[:, 1:-1], padded[:, 2:]
    fine = padded.new_empty((len(padded), 2 * here.shape[1], padded.shape[2]))
    torch.lerp(here, before, 0.25, out=fine[:, 0::2])
    torch.lerp(here, after, 0.25, out=fine[:, 1::2])
    return fine
