"""A CT volume as the axial slices a prior is trained on: one orientation, int16 HU, checked."""

from dataclasses import dataclass

import nibabel
import numpy as np
from jaxtyping import Float32, Int16

from priors.blocks import block_means
from priors.runtime.errors import InputError
from recon.data.units import PADDING_HU
from recon.data.volume import Volume

SQUARE = 0.01
"""Pixels may differ this much along the two axes, relative: more would teach the prior squeezed anatomy."""
_SOFT_TISSUE_HU, _FAT_HU = 100, -50


class UnsuitableError(InputError):
    """A CT volume that is readable but no series of axial slices, such as a coronal reformat."""


@dataclass(frozen=True)
class AxialSlices:
    """Slices (z, y, x) of one volume: rows toward posterior, columns toward the patient's left, feet first."""

    values: Int16[np.ndarray, "z y x"]
    pixel_mm: float
    dz_mm: float


def axial_slices(volume: Volume, title: str, *, reduce: int = 1) -> AxialSlices:
    """Return the slices of ``volume``, means of ``reduce`` x ``reduce`` pixels.

    Raises:
        UnsuitableError: the slices are not axial, or their pixels not square.
        InputError: the values are not HU.
    """
    if volume.unit != "HU":
        raise InputError(f"{title}: found values in {volume.unit}, expected HU")
    values, spacing = _oriented(volume)
    dz, dy, dx = spacing
    if abs(dy - dx) > SQUARE * dx:
        raise UnsuitableError(
            f"{title}: found pixels of {dy:.4g} x {dx:.4g} mm in axial planes, expected squares"
        )
    _check_hu(values, title)
    means = _block_means(np.maximum(values, np.float32(PADDING_HU)), reduce, title)
    stored = np.clip(np.round(means), PADDING_HU, np.iinfo(np.int16).max).astype(np.int16)
    return AxialSlices(stored, dx * reduce, dz)


def _oriented(volume: Volume) -> tuple[Float32[np.ndarray, "z y x"], tuple[float, float, float]]:
    """Return values and spacings with axes along superior, posterior and left, as nearly as they lie."""
    given = nibabel.orientations.io_orientation(volume.affine)
    wanted = nibabel.orientations.axcodes2ornt("LPS")
    change = nibabel.orientations.ornt_transform(given, wanted)
    turned = nibabel.orientations.apply_orientation(volume.values.transpose(2, 1, 0), change)
    sizes = np.linalg.norm(volume.affine[:3, :3], axis=0)
    # Column i of the change says which axis of the result the i-th axis given becomes.
    x, y, z = (float(sizes[list(change[:, 0]).index(axis)]) for axis in range(3))
    return turned.transpose(2, 1, 0), (z, y, x)


def _check_hu(values: Float32[np.ndarray, "z y x"], title: str) -> None:
    few = values[:: max(1, len(values) // 16), ::2, ::2]
    low, high = float(few.min()), float(few.max())
    if high < _SOFT_TISSUE_HU or low > _FAT_HU:
        raise InputError(
            f"{title}: found values from {low:.4g} to {high:.4g}, expected HU, which reach from air or fat (below "
            f"{_FAT_HU}) to tissue and bone (above {_SOFT_TISSUE_HU}); is the intercept missing, or is it a mask?"
        )


def _block_means(
    values: Float32[np.ndarray, "z y x"], factor: int, title: str
) -> Float32[np.ndarray, "z y2 x2"]:
    """Return means of blocks of factor x factor pixels; rows and columns beyond whole blocks are dropped."""
    height, width = (n // factor for n in values.shape[1:])
    if min(height, width) < 1:
        raise InputError(f"{title}: slices of {values.shape[1:]} pixels are too small to reduce by {factor}")
    return block_means(values, (factor, factor))[0]
