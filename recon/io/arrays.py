"""Plain arrays as volumes: .npy and TIFF with a description beside them, .npz that describes itself.

An .npz holds ``values`` (z, y, x), ``unit`` ("HU" or "1/mm") and either ``voxel_mm`` (z, y, x) or ``affine``
(index (x, y, z) to RAS mm). Without an affine the middle of the array is the origin, x grows to the patient's
left and y to the back, as in a DICOM slice of a supine patient.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import tifffile
from jaxtyping import Float64, Shaped
from pydantic import ValidationError

from priors.runtime.errors import InputError
from recon.geometry.volume import Volume
from recon.io.image import LPS_TO_RAS, Image, check_affine, grid_affine
from recon.io.sidecar import Sidecar, read_sidecar, sidecar_path


def read_array(path: Path) -> Image:
    """Return the volume in an .npy, .npz or TIFF file.

    Raises:
        InputError: damaged, not a 3-D (or 2-D) array of numbers, or unit or voxel size not stated.
    """
    if path.name.lower().endswith(".npz"):
        return _read_npz(path)
    values = _volume_shaped(path, _load(path))
    sidecar = read_sidecar(path)
    if sidecar is None or sidecar.voxel_mm is None:
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        raise InputError(
            f"{path}: holds {values.dtype} values from {low:.5g} to {high:.5g} of unknown unit; "
            f"state unit and voxel_mm (z, y, x) in {sidecar_path(path).name} beside it"
        )
    return Image(
        np.ascontiguousarray(sidecar.scaled(values)),
        centred_affine(values.shape, sidecar.voxel_mm),
        sidecar.unit,
    )


def centred_affine(
    shape: tuple[int, ...], voxel_mm: tuple[float, float, float]
) -> Float64[np.ndarray, "4 4"]:
    """Return the RAS affine of an array (z, y, x) about its middle, for a supine patient."""
    z, y, x = shape
    return np.asarray(LPS_TO_RAS @ grid_affine(Volume((z, y, x), voxel_mm)))


def _load(path: Path) -> np.ndarray:
    try:
        if path.name.lower().endswith(".npy"):
            return np.array(np.load(path, allow_pickle=False))
        return np.array(tifffile.imread(path))
    except (ValueError, OSError, EOFError, KeyError, tifffile.TiffFileError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"{path}: is not a readable array ({reason})") from error


def _volume_shaped(path: Path, values: np.ndarray) -> Shaped[np.ndarray, "z y x"]:
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or 0 in values.shape or values.dtype.kind not in "iuf":
        raise InputError(
            f"{path}: found {values.dtype} values of shape {values.shape}, "
            "expected numbers in the order (z, y, x)"
        )
    return values


def _read_npz(path: Path) -> Image:
    try:
        with np.load(path, allow_pickle=False) as file:
            content = {key: file[key] for key in file.files}
    except (
        ValueError,
        OSError,
        EOFError,
        RuntimeError,
        NotImplementedError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise InputError(f"{path}: is not a readable .npz file ({type(error).__name__})") from error
    missing = [key for key in ("values", "unit") if key not in content]
    if missing or not ({"voxel_mm", "affine"} & content.keys()):
        keys = ", ".join(sorted(content)) or "nothing"
        raise InputError(f"{path}: found {keys}, expected values, unit and either voxel_mm or affine")
    values = _volume_shaped(path, content["values"])
    try:
        sidecar = Sidecar.model_validate({"unit": str(content["unit"])})
    except ValidationError as error:
        raise InputError(f"{path}: unit: found {str(content['unit'])!r}, expected HU or 1/mm") from error
    if "affine" in content:
        affine = np.array(content["affine"], np.float64)
        if affine.shape != (4, 4):
            raise InputError(f"{path}: affine: found shape {affine.shape}, expected (4, 4)")
        check_affine(affine, f"{path}: affine")
    else:
        voxel = content["voxel_mm"]
        if voxel.shape != (3,) or not (voxel > 0).all():
            raise InputError(
                f"{path}: voxel_mm: found {voxel.tolist()}, expected three positive numbers z, y, x"
            )
        affine = centred_affine(values.shape, (float(voxel[0]), float(voxel[1]), float(voxel[2])))
    return Image(np.ascontiguousarray(values, dtype=np.float32), affine, sidecar.unit)
