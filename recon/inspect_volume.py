"""What a CT volume is: shape, unit, spacing, orientation, range. Nothing about a patient."""

from pathlib import Path

import nibabel
import numpy as np

from priors.runtime.inspection import Inspection
from recon.io.volumes import read_volume

_ENDINGS = (".nii", ".nii.gz", ".mha", ".mhd", ".dcm", ".zip", ".npy", ".npz", ".tif", ".tiff")


def claims(path: Path) -> bool:
    """Tell whether a path looks like a CT volume."""
    if path.is_dir():
        return any(item.is_file() and _is_dicom(item) for item in sorted(path.iterdir())[:20])
    return path.name.lower().endswith(_ENDINGS) or _is_dicom(path)


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def inspect_file(path: Path) -> Inspection:
    """Describe a volume.

    Raises:
        InputError: it is damaged, or its unit or geometry is not known.
    """
    image = read_volume(path)
    extent = [n * d for n, d in zip(image.values.shape, image.voxel_mm, strict=True)]
    facts = {
        "shape": _joined(image.values.shape) + " (z, y, x)",
        "voxel": _joined(image.voxel_mm) + " mm (z, y, x)",
        "extent": _joined(extent) + " mm",
        "orientation": "".join(nibabel.aff2axcodes(image.affine)) + " (directions of x, y, z)",
        "unit": image.unit,
        "range": f"{image.values.min():.5g} .. {image.values.max():.5g}, median {np.median(image.values):.5g}",
    }
    return Inspection("CT volume", facts)


def _joined(numbers: object) -> str:
    return " x ".join(f"{number:.4g}" for number in np.asarray(numbers, np.float64))
