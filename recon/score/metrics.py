"""How far a volume is from a reference: figures in HU on a stated window.

Both volumes are clipped to the window [a, b] first; the data range of every figure is its width R = b - a.

    rmse = sqrt(mean (X - X_ref)^2)            psnr = 20 log10(R / rmse)

SSIM is in ``recon.score.ssim``. The registry ``METRICS`` is the only list of them: keys in JSON files, headings of
reports and tables, and their order come from it. A new metric is one function and one line there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from priors.runtime.errors import InputError
from priors.runtime.report.tables import is_number, number
from recon.score.ssim import ssim_map, whole_windows

FULL_WINDOW_HU = (-1000.0, 1000.0)
SOFT_TISSUE_WINDOW_HU = (-160.0, 240.0)

VolumeHU = Float[np.ndarray, "z y x"]
Mask = Bool[np.ndarray, "z y x"]
Unchecked = Float[np.ndarray, "_ _ _"]


class NotDefined(Exception):  # noqa: N818 (it is an answer, not a failure)
    """A figure has no value on this volume; the message says why."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two volumes on one grid, ready to be compared.

    Attributes:
        x: result, HU, clipped to the window, float64.
        y: reference, likewise; 0 where it has no value.
        present: where the reference has a value.
        mask: where the volumes are compared, a part of ``present``.
        data_range: width of the window, HU.
    """

    x: VolumeHU
    y: VolumeHU
    present: Mask
    mask: Mask
    data_range: float


@dataclass(frozen=True)
class Metric:
    """One figure of a result.

    Attributes:
        key: its name in JSON files.
        heading: its name in reports and tables, with the unit.
        compute: its value on a comparison; None where the run measures it, not the comparison.
        digits: after the decimal point in reports.
        summary: whether short tables show it.
        per: what one unit of the heading is in the unit of the JSON file, such as bytes of a GiB.
    """

    key: str
    heading: str
    compute: Callable[[Comparison], float] | None = None
    digits: int = 2
    summary: bool = False
    per: float = 1.0

    def cell(self, row: Mapping[str, Any], form: str | None = None) -> str:
        """Return its text in a table, in the unit of the heading, "n/a" where a row of figures has none."""
        value = row.get(self.key)
        return number(value / self.per if is_number(value) else None, form or f".{self.digits}f")


def rmse(pair: Comparison) -> float:
    """Return the root mean square difference over the mask, HU."""
    return float(np.sqrt(np.mean((pair.x[pair.mask] - pair.y[pair.mask]) ** 2)))


def psnr(pair: Comparison) -> float:
    """Return 20 log10(data_range / rmse) in dB.

    Raises:
        NotDefined: the volumes are equal.
    """
    error = rmse(pair)
    if error == 0:
        raise NotDefined("the volumes are equal on the window, so PSNR is infinite")
    return float(20 * np.log10(pair.data_range / error))


def mean_error(pair: Comparison) -> float:
    """Return the mean of result minus reference over the mask, HU."""
    return float((pair.x - pair.y)[pair.mask].mean())


def slice_difference(pair: Comparison) -> float:
    """Return mean |D (x - y)|, D the forward difference along z: errors that jump from slice to slice, HU.

    Raises:
        NotDefined: fewer than two neighbouring slices are in the mask.
    """
    pairs = pair.mask[1:] & pair.mask[:-1]
    if not pairs.any():
        raise NotDefined("it needs two neighbouring slices")
    return float(np.abs(np.diff(pair.x - pair.y, axis=0))[pairs].mean())


def ssim_3d(pair: Comparison) -> float:
    """Return the mean SSIM under a 3-D window.

    Raises:
        NotDefined: no compared voxel has its whole window on reference values.
    """
    axes = (0, 1, 2)
    counted = pair.mask & whole_windows(pair.present, axes)
    if not counted.any():
        raise NotDefined("no compared voxel has its whole window on values of the reference")
    return float(ssim_map(pair.x, pair.y, axes, data_range=pair.data_range)[counted].mean())


def ssim_planes(pair: Comparison, axis: int) -> float:
    """Return the mean 2-D SSIM of the slices across ``axis`` (0 axial, 1 coronal, 2 sagittal).

    Slices without a compared pixel are left out of the mean.

    Raises:
        NotDefined: no compared pixel has its whole window on reference values.
    """
    axes = tuple(other for other in range(3) if other != axis)
    counted = pair.mask & whole_windows(pair.present, axes)
    count = counted.sum(axis=axes)
    if not count.any():
        raise NotDefined("no compared pixel has its whole window on values of the reference")
    similarity = ssim_map(pair.x, pair.y, axes, data_range=pair.data_range)
    total = np.where(counted, similarity, 0.0).sum(axis=axes)
    return float((total[count > 0] / count[count > 0]).mean())


METRICS = (
    Metric("psnr_hu", "PSNR (dB)", psnr, summary=True),
    Metric("rmse_hu", "RMSE (HU)", rmse),
    Metric("mean_error_hu", "Mean error (HU)", mean_error),
    Metric("slice_difference_hu", "Slice difference (HU)", slice_difference),
    Metric("ssim_axial", "SSIM axial", lambda pair: ssim_planes(pair, 0), digits=4, summary=True),
    Metric("ssim_coronal", "SSIM coronal", lambda pair: ssim_planes(pair, 1), digits=4, summary=True),
    Metric("ssim_sagittal", "SSIM sagittal", lambda pair: ssim_planes(pair, 2), digits=4, summary=True),
    Metric("ssim_3d", "SSIM 3-D", ssim_3d, digits=4),
    Metric("chi2_per_ray", "chi² per ray", digits=3, summary=True),
    Metric("network_calls", "Network calls", digits=0),
    Metric("network_gradients", "Network gradients", digits=0),
    Metric("seconds", "Time (s)", digits=1, summary=True),
    Metric("cpu_seconds", "Core time (s)", digits=1),
    Metric("peak_memory_bytes", "Peak memory (GiB)", digits=3, per=2.0**30),
)
RUN_METRICS = tuple(metric.key for metric in METRICS if metric.compute is None)
"""Keys of what a run measures of itself, in its ``metrics.json``."""


def score(
    result: Unchecked,
    reference: Unchecked,
    *,
    window_hu: tuple[float, float] = FULL_WINDOW_HU,
    mask: Mask | None = None,
) -> dict[str, Any]:
    """Return every figure by name; one that has no value is None and ``reasons`` says why.

    Args:
        result: HU, (z, y, x), finite.
        reference: HU, same grid; NaN where it has no value (outside the reference's field of view).
        window_hu: both volumes are clipped to it.
        mask: voxels to compare; all by default.

    Raises:
        InputError: shapes differ, the window is empty, the result is not finite, or no voxel is left.
    """
    pair = _comparison(result, reference, window_hu, mask)
    values: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for metric in METRICS:
        if metric.compute is None:
            continue
        try:
            values[metric.key] = metric.compute(pair)
        except NotDefined as why:
            values[metric.key], reasons[metric.key] = None, str(why)
    compared = {"window_hu": list(window_hu), "data_range_hu": pair.data_range}
    voxels = {"voxels_compared": int(pair.mask.sum()), "voxels": int(pair.mask.size)}
    return {**values, **compared, **voxels, "reasons": reasons}


def body_mask(volume: VolumeHU) -> Mask:
    """Return the largest connected region above -500 HU, its holes filled slice by slice: body with lungs.

    Raises:
        InputError: no voxel is above -500 HU.
    """
    labels, count = ndimage.label(volume > -500)
    if count == 0:
        raise InputError("mask: found no voxel above -500 HU, expected a body in the reference")
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    return np.stack([ndimage.binary_fill_holes(plane) for plane in largest])


def _comparison(
    result: Unchecked, reference: Unchecked, window: tuple[float, float], mask: Mask | None
) -> Comparison:
    """Check the arguments of ``score`` and clip the volumes."""
    if result.shape != reference.shape:
        raise InputError(f"score: found shapes {result.shape} and {reference.shape}, expected equal ones")
    low, high = window
    if not low < high:
        raise InputError(f"window_hu: found {list(window)}, expected a lower and a larger upper end")
    if not np.isfinite(result).all():
        raise InputError(f"result: found {int((~np.isfinite(result)).sum())} voxels that are not finite")
    present: Mask = np.isfinite(reference)
    compared = present if mask is None else mask & present
    if not compared.any():
        raise InputError("score: the result and the reference share no voxel to compare")
    x = np.clip(result, low, high).astype(np.float64)
    y = np.where(present, np.clip(reference, low, high), 0.0).astype(np.float64)
    return Comparison(x, y, present, compared, high - low)
