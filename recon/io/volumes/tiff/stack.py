"""TIFF stacks: one file of many pages, or a folder of one page per slice in the order of the numbers in its names.

TIFF states neither the unit of its values nor, as a rule, where voxels are: voxel sizes are those of ImageJ or OME
(``recon.io.volumes.tiff.description``), the unit must be in a description beside the file, except for stacks written
here, which carry unit and affine as JSON in ImageJ's ``Info``. A number left out in the names is a missing slice.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from jaxtyping import Shaped

from priors.runtime.errors import InputError
from priors.runtime.files.writing import atomic
from recon.data.volume import Volume
from recon.io.volumes.arrays import described_array
from recon.io.volumes.format import ReadOptions, VolumeFormat, WriteOptions
from recon.io.volumes.gaps import filled, missing_numbers
from recon.io.volumes.stated_unit import numbers_3d, self_described
from recon.io.volumes.tiff.description import KEY, calibrated, voxel_mm
from recon.io.volumes.tiff.pages import ENDINGS, Pages, load_tiff, natural_order


def read_tiff(path: Path, *, allow_gaps: bool = False) -> Volume:
    """Return the volume in a TIFF file or in a folder of pages.

    Args:
        path: file or folder.
        allow_gaps: interpolate slices that the numbers in the names say are missing.

    Raises:
        InputError: damaged, a colour picture, pages of different sizes, slices missing, or unit or voxel size not
            stated.
    """
    files = natural_order(path) if path.is_dir() else [path]
    first = load_tiff(files[0])
    if len(files) == 1:
        own = first.described.get(KEY)
        if own is not None:
            return self_described(path, _shaped(path, first.values, own), own)
        values, remarks = numbers_3d(path, first.values), first.warnings
        if first.planes is not None and first.planes != len(values):
            found = f"{len(values)} planes of the {first.planes} that its description promises"
            if not allow_gaps:
                raise InputError(f"{path}: found {found}; slices missing? (--allow-gaps reads it)")
            remarks = (*remarks, f"found {found}")
    else:
        values, remarks = _folder(path, files, first, allow_gaps=allow_gaps)
    scaled, said = calibrated(values, first.described)
    return described_array(
        path,
        values,
        voxel_mm(first.described),
        calibrated=scaled,
        pixel_mm=first.described.get("pixel_mm"),
        warnings=(*remarks, *said),
    )


def _folder(
    path: Path, files: list[Path], first: Pages, *, allow_gaps: bool
) -> tuple[Shaped[np.ndarray, "z y x"], tuple[str, ...]]:
    """Return the pages of a folder, and what was filled in or is to be said about the first of them."""
    missing = missing_numbers([file.name for file in files])
    if missing and not allow_gaps:
        names = ", ".join(str(number) for number in missing[:5])
        raise InputError(
            f"{path}: {len(missing)} of the numbers in the names of its pages are missing ({names}); is a slice "
            "missing? (--allow-gaps interpolates it)"
        )
    values = numbers_3d(path, np.stack([_page(file, first.values) for file in files]))
    if not missing:
        return values, first.warnings
    values, remark = filled(values, [file.name for file in files], missing)
    return values, (*first.warnings, remark)


def _shaped(path: Path, values: np.ndarray, own: Any) -> Shaped[np.ndarray, "z y x"]:
    shape = own.get("shape") if isinstance(own, dict) else None
    fits = isinstance(shape, list) and len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)
    if shape is None or not fits or math.prod(shape) != values.size:
        raise InputError(f"{path}: found {values.size} values, expected those of shape {str(shape)[:40]}")
    return numbers_3d(path, values.reshape(shape))


def _page(file: Path, first: np.ndarray) -> Shaped[np.ndarray, "y x"]:
    page = load_tiff(file).values
    if page.ndim != 2 or page.shape != first.shape or page.dtype != first.dtype:
        found, wanted = f"{page.dtype} {page.shape}", f"{first.dtype} {first.shape}"
        raise InputError(f"{file}: found {found}, expected one page like the others: {wanted}")
    return page


def write_tiff(path: Path, image: Volume) -> None:
    """Write ``image`` in float32 as a stack that ImageJ opens with its voxel size (.tif).

    Raises:
        InputError: the name has another ending or the file cannot be written.
    """
    if not path.name.lower().endswith(ENDINGS):
        raise InputError(f"{path}: expected a name that ends in .tif or .tiff")
    # ImageJ has no axis of length one: the shape is kept beside it.
    stated = {"unit": image.unit, "affine": image.affine.tolist(), "shape": image.values.shape}
    z, y, x = image.voxel_mm
    metadata = {"axes": "ZYX", "spacing": z, "unit": "mm", "Info": json.dumps({KEY: stated})}
    with atomic(path) as temporary:
        tifffile.imwrite(temporary, image.values, imagej=True, resolution=(1 / x, 1 / y), metadata=metadata)


def _claims(path: Path, head: bytes) -> bool:
    if path.is_dir():
        files = [p for p in path.iterdir() if p.is_file() and p.suffix.lower() not in (".yaml", ".txt")]
        return bool(files) and all(p.name.lower().endswith(ENDINGS) for p in files)
    return path.name.lower().endswith(ENDINGS)


def _read(path: Path, options: ReadOptions) -> Volume:
    return read_tiff(path, allow_gaps=options.allow_gaps)


def _write(path: Path, image: Volume, options: WriteOptions) -> tuple[str, ...]:
    write_tiff(path, image)
    return ()


FORMAT = VolumeFormat("tiff", "a TIFF stack (file or folder)", ENDINGS, _claims, _read, _write)
