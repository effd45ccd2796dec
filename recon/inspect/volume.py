"""What a CT volume is: shape, unit, spacing, orientation, range, series. Nothing about a patient."""

from itertools import islice
from pathlib import Path

import nibabel
import numpy as np

from priors.runtime.errors import InputError
from priors.runtime.inspection import Inspection
from recon.data.units import PADDING_HU
from recon.data.volume import Volume
from recon.io.volumes.dicom import stack as dicom
from recon.io.volumes.dicom.files import is_dicom
from recon.io.volumes.dicom.series import SeveralSeriesError
from recon.io.volumes.registry import format_of, read_volume


def claims(path: Path) -> bool:
    """Tell whether a path looks like a CT volume."""
    try:
        kind = format_of(path)
    except InputError:
        return False
    if kind is dicom.FORMAT and path.is_dir():
        files = (file for file in sorted(path.rglob("*")) if file.is_file())
        return any(_is_dicom(file) for file in islice(files, 50))
    return True


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return is_dicom(stream.read(132))


def inspect_file(path: Path) -> Inspection:
    """Describe a volume, or list the series of a folder that holds several.

    Raises:
        InputError: it is damaged, or its unit or geometry is not known.
    """
    try:
        image = read_volume(path)
    except SeveralSeriesError as several:
        listed = {f"series {k + 1}": line for k, line in enumerate(several.listed)}
        return Inspection("several DICOM series", listed, ("choose one with --series UID",))
    return Inspection("CT volume", {"format": format_of(path).title, **_facts(image)}, _warnings(image))


def _facts(image: Volume) -> dict[str, str]:
    extent = [n * d for n, d in zip(image.values.shape, image.voxel_mm, strict=True)]
    low, high = float(image.values.min()), float(image.values.max())
    return {
        "shape": _by_axes(image.values.shape) + " (z, y, x)",
        "voxel": _by_axes(image.voxel_mm) + " mm (z, y, x)",
        "extent": _by_axes(extent) + " mm",
        "orientation": "".join(nibabel.aff2axcodes(image.affine)) + " (directions of x, y, z)",
        "first voxel at": " ".join(f"{number:.4f}" for number in image.affine[:3, 3]) + " mm (RAS)",
        "unit": image.unit,
        "range": f"{low:.5g} .. {high:.5g}, median {np.median(image.values):.5g}",
        **image.facts,
    }


def _warnings(image: Volume) -> tuple[str, ...]:
    sentences = list(image.warnings)
    if image.unit == "HU":
        padded = sum(int((plane < PADDING_HU).sum()) for plane in image.values)
        if padded:
            share = 100 * padded / image.values.size
            sentences.append(
                f"{share:.2g} % of the voxels are padding below {PADDING_HU:.0f} HU and count as air"
            )
    directions = image.affine[:3, :3] / np.linalg.norm(image.affine[:3, :3], axis=0)
    if not np.allclose(directions.T @ directions, np.eye(3), atol=1e-3):
        sentences.append(
            "the axes are not at right angles (a tilted gantry): resample before software that assumes so"
        )
    z, y, x = image.voxel_mm
    if z > 4 * max(y, x):
        sentences.append(
            f"slices are {z:.4g} mm apart for pixels of {max(y, x):.4g} mm: coarse for 3-D methods"
        )
    return tuple(sentences)


def _by_axes(numbers: object) -> str:
    return " x ".join(f"{number:.4g}" for number in np.asarray(numbers, np.float64))
