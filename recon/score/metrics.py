"""How far a volume is from a reference: figures in HU on a stated window.

Both volumes are clipped to the window [a, b] first; the data range of every figure is its width R = b - a.

    rmse = sqrt(mean (X - X_ref)^2)            psnr = 20 log10(R / rmse)
    ssim = mean over pixels of  (2 m m' + c1) (2 s_xy + c2) / ((m^2 + m'^2 + c1) (s_x^2 + s_y^2 + c2))

SSIM uses a Gaussian window (sigma 1.5, 11 taps), c1 = (0.01 R)^2, c2 = (0.03 R)^2, biased covariances and
only pixels whose window lies inside the image (Wang et al. 2004; the variant of MONAI). Per plane it is the
mean over the slices of that orientation; an axis with fewer than 11 samples has no such pixel and no SSIM.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from skimage.metrics import structural_similarity

from priors.runtime.errors import InputError

FULL_WINDOW_HU = (-1000.0, 1000.0)
SOFT_TISSUE_WINDOW_HU = (-160.0, 240.0)
TAPS = 11
PLANES = {"ssim_axial": 0, "ssim_coronal": 1, "ssim_sagittal": 2}

VolumeHU = Float[np.ndarray, "z y x"]
Mask = Bool[np.ndarray, "z y x"]
Unchecked = Float[np.ndarray, "_ _ _"]


class NotDefined(Exception):  # noqa: N818 (it is an answer, not a failure)
    """A figure has no value on this volume; the message says why."""


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
    inside = _comparable(result, reference, window_hu, mask)
    low, high = window_hu
    x = np.clip(result, low, high).astype(np.float64)
    y = np.where(np.isfinite(reference), np.clip(reference, low, high), x).astype(np.float64)
    width = high - low
    figures: dict[str, Callable[[], float]] = {
        "psnr_hu": lambda: psnr(x, y, data_range=width, mask=inside),
        "rmse_hu": lambda: rmse(x, y, mask=inside),
        "mean_error_hu": lambda: float((x - y)[inside].mean()),
        "slice_difference_hu": lambda: slice_difference(x, y, mask=inside),
        "ssim_3d": lambda: ssim_3d(x, y, data_range=width, mask=inside),
    }
    for name, axis in PLANES.items():
        figures[name] = lambda axis=axis: ssim_planes(x, y, axis, data_range=width, mask=inside)  # type: ignore[misc]
    values: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for name, compute in figures.items():
        try:
            values[name] = compute()
        except NotDefined as why:
            values[name], reasons[name] = None, str(why)
    compared = {"window_hu": [low, high], "data_range_hu": width, "voxels_compared": int(inside.sum())}
    return {**values, **compared, "voxels": int(inside.size), "reasons": reasons}


def rmse(x: VolumeHU, y: VolumeHU, *, mask: Mask) -> float:
    """Return the root mean square difference over the mask."""
    return float(np.sqrt(np.mean((x[mask] - y[mask]) ** 2)))


def psnr(x: VolumeHU, y: VolumeHU, *, data_range: float, mask: Mask) -> float:
    """Return 20 log10(data_range / rmse) in dB.

    Raises:
        NotDefined: the volumes are equal.
    """
    error = rmse(x, y, mask=mask)
    if error == 0:
        raise NotDefined("the volumes are equal on the window, so PSNR is infinite")
    return float(20 * np.log10(data_range / error))


def slice_difference(x: VolumeHU, y: VolumeHU, *, mask: Mask) -> float:
    """Return mean |D (x - y)|, D the forward difference along z: errors that jump from slice to slice.

    Raises:
        NotDefined: fewer than two neighbouring slices are in the mask.
    """
    pairs = mask[1:] & mask[:-1]
    if not pairs.any():
        raise NotDefined("it needs two neighbouring slices")
    return float(np.abs(np.diff(x - y, axis=0))[pairs].mean())


def ssim_planes(x: VolumeHU, y: VolumeHU, axis: int, *, data_range: float, mask: Mask) -> float:
    """Return the mean 2-D SSIM of the slices across ``axis`` (0 axial, 1 coronal, 2 sagittal).

    Slices without a compared pixel are left out of the mean.

    Raises:
        NotDefined: a slice is smaller than the window of 11 taps, or no pixel is compared.
    """
    _need_taps(x.shape[:axis] + x.shape[axis + 1 :])
    slices = (np.moveaxis(array, axis, 0) for array in (x, y, mask))
    means = [_ssim(a, b, data_range, inside) for a, b, inside in zip(*slices, strict=True)]
    held = [value for value in means if value is not None]
    if not held:
        raise NotDefined("no compared pixel has its whole window inside the image")
    return float(np.mean(held))


def ssim_3d(x: VolumeHU, y: VolumeHU, *, data_range: float, mask: Mask) -> float:
    """Return the SSIM with an 11 x 11 x 11 Gaussian window.

    Raises:
        NotDefined: an axis is shorter than 11, or no voxel is compared.
    """
    _need_taps(x.shape)
    value = _ssim(x, y, data_range, mask)
    if value is None:
        raise NotDefined("no compared voxel has its whole window inside the volume")
    return value


def body_mask(volume: VolumeHU) -> Mask:
    """Return the largest connected region above -500 HU, its holes filled slice by slice: body with lungs."""
    labels, count = ndimage.label(volume > -500)
    if count == 0:
        raise InputError("mask: found no voxel above -500 HU, expected a body in the reference")
    largest = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    return np.stack([ndimage.binary_fill_holes(plane) for plane in largest])


def _ssim(x: np.ndarray, y: np.ndarray, data_range: float, mask: np.ndarray) -> float | None:
    """Return the mean SSIM over the masked pixels whose window lies inside, None where there are none."""
    interior = (slice(TAPS // 2, -(TAPS // 2)),) * x.ndim
    if not mask[interior].any():
        return None
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "K1": 0.01, "K2": 0.03}
    _, pixels = structural_similarity(x, y, data_range=data_range, full=True, **options)
    return float(pixels[interior][mask[interior]].mean())


def _need_taps(shape: tuple[int, ...]) -> None:
    """Raise NotDefined where the window does not fit."""
    if min(shape) < TAPS:
        size = " x ".join(map(str, shape))
        raise NotDefined(f"the Gaussian window needs {TAPS} samples along each axis, found {size}")


def _comparable(
    result: Unchecked, reference: Unchecked, window: tuple[float, float], mask: Mask | None
) -> Mask:
    """Check the arguments of ``score`` and return the voxels to compare."""
    if result.shape != reference.shape:
        raise InputError(f"score: found shapes {result.shape} and {reference.shape}, expected equal ones")
    if not window[0] < window[1]:
        raise InputError(f"window_hu: found {list(window)}, expected a lower and a larger upper end")
    if not np.isfinite(result).all():
        raise InputError(f"result: found {int((~np.isfinite(result)).sum())} voxels that are not finite")
    inside: Mask = np.isfinite(reference) if mask is None else mask & np.isfinite(reference)
    if not inside.any():
        raise InputError("score: the result and the reference share no voxel to compare")
    return inside
