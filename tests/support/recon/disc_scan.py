"""A disc of HU values and a small simulated scan of it, written by the command line."""

from pathlib import Path

import nibabel
import numpy as np

from tests.support.command_line import inside


def disc(side: int = 64, *, hole: bool = False) -> np.ndarray:
    """Return (x, y) values: an ellipse of 30 HU in air, with a hole beside its middle where asked for."""
    x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side), indexing="ij")
    value = 30.0 - 800 * ((x - 0.3) ** 2 + y**2 < 0.1) if hole else 30.0
    return np.where(x**2 + 1.5 * y**2 < 0.7, value, -1000.0)


def disc_scan(
    folder: Path,
    image: np.ndarray,
    *,
    slices: int = 2,
    views: int = 12,
    grid: int = 32,
    field_mm: float = 256.0,
) -> Path:
    """Write ``phantom.nii.gz`` with equal slices of an image and ``scan.h5``; return the folder.

    Args:
        folder: where to.
        image: (x, y) HU.
        slices: of 2 mm.
        views: of the scan.
        grid: voxels along each axis of a slice of the scan's own grid.
        field_mm: side of the image.
    """
    volume = np.repeat(image[:, :, None], slices, axis=2).astype(np.float32)
    pixel = field_mm / image.shape[0]
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-pixel, -pixel, 2.0, 1.0])), folder / "phantom.nii.gz")
    sizes = ["--views", views, "--grid", grid]
    inside("simulate", "scan", folder / "phantom.nii.gz", "--out", folder / "scan.h5", *sizes)
    return folder
