"""NumPy arrays as volumes: .npy (or .npy.xz) with a description beside it, .npz that describes itself.

An .npz holds ``values`` (z, y, x), ``unit`` ("HU" or "1/mm") and either ``voxel_mm`` (z, y, x) or ``affine``
(index (x, y, z) to RAS mm). Without an affine the middle of the array is the origin, x grows to the patient's
left and y to the back, as in a DICOM slice of a supine patient.
"""

import lzma
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Shaped
from pydantic import ValidationError

from priors.runtime.errors import InputError
from priors.runtime.files import bounds
from priors.runtime.files.writing import atomic
from recon.data.volume import LPS_TO_RAS, Volume, check_affine, grid_affine
from recon.geometry.grid import Grid
from recon.io.volumes.format import ReadOptions, VolumeFormat, WriteOptions
from recon.io.volumes.sidecar import Sidecar, read_sidecar, sidecar_path
from recon.io.volumes.stated_unit import numbers_3d

_ENDINGS = (".npz", ".npy", ".npy.xz")


def read_npy(path: Path) -> Volume:
    """Return the volume in an .npy file with its description.

    Raises:
        InputError: damaged, not a 3-D (or 2-D) array of numbers, or unit or voxel size not stated.
    """
    try:
        if path.name.lower().endswith(".xz"):
            with lzma.open(path) as stream:
                values = bounds.read_npy(stream, path)
        else:
            with path.open("rb") as file:
                values = bounds.read_npy(file, path)
    except InputError:
        raise
    except Exception as error:
        # numpy evaluates a header of its own with the tokens of Python: damage shows in many kinds of errors.
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(f"{path}: is not a readable array ({reason})") from error
    return described_array(path, numbers_3d(path, values), None)


def described_array(
    path: Path,
    values: Shaped[np.ndarray, "z y x"],
    voxel_mm: tuple[float, float, float] | None,
    *,
    calibrated: Shaped[np.ndarray, "z y x"] | None = None,
    pixel_mm: tuple[float, float] | None = None,
    warnings: tuple[str, ...] = (),
) -> Volume:
    """Return an array whose unit, and voxel size unless the file states ``voxel_mm``, are stated beside it.

    Args:
        path: of the array, for the name of its description.
        values: stored numbers; a ``value_range`` of the description is about these.
        voxel_mm: (z, y, x) as the file states it; the description wins, and a contradiction is told.
        calibrated: the numbers after a calibration that the file states, for a description without ``value_range``.
        pixel_mm: (y, x) by a resolution that may be meant for printing: reported where it contradicts, else not used.
        warnings: what the reader of the file has to say.

    Raises:
        InputError: they are not.
    """
    sidecar = read_sidecar(path)
    voxel = voxel_mm if sidecar is None or sidecar.voxel_mm is None else sidecar.voxel_mm
    if sidecar is None or voxel is None:
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        wanted = "unit" if voxel else "unit and voxel_mm (z, y, x)"
        flat = (
            "; a sinogram or radiograph is read through a scan.yaml that names it" if len(values) == 1 else ""
        )
        raise InputError(
            f"{path}: holds {values.dtype} values from {low:.5g} to {high:.5g} of unknown unit; "
            f"state {wanted} in {sidecar_path(path).name} beside it{flat}"
        )
    affine = centred_affine(values.shape, voxel)
    stored = values if calibrated is None or sidecar.value_range is not None else calibrated
    told = (*warnings, *_contradictions(path, voxel, voxel_mm, pixel_mm))
    return Volume(np.ascontiguousarray(sidecar.scaled(stored)), affine, sidecar.unit, warnings=told)


def _contradictions(
    path: Path,
    voxel: tuple[float, float, float],
    stated: tuple[float, float, float] | None,
    pixel: tuple[float, float] | None,
) -> tuple[str, ...]:
    """Return where the description beside a file and the file itself say different lengths."""
    for found, wanted, name in ((stated, voxel, "voxels"), (pixel, voxel[1:], "a resolution")):
        if found is not None and not np.allclose(found, wanted, rtol=0.01):
            sizes = " x ".join(f"{size:.4g}" for size in found)
            return (
                f"the file states {name} of {sizes} mm, {sidecar_path(path).name} others; the latter were taken",
            )
    return ()


def centred_affine(
    shape: tuple[int, ...], voxel_mm: tuple[float, float, float]
) -> Float64[np.ndarray, "4 4"]:
    """Return the RAS affine of an array (z, y, x) about its middle, for a supine patient."""
    z, y, x = shape
    return np.asarray(LPS_TO_RAS @ grid_affine(Grid((z, y, x), voxel_mm)))


def read_npz(path: Path) -> Volume:
    """Return the volume in an .npz file that describes itself.

    Raises:
        InputError: damaged, incomplete, or of unknown unit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bounds.check_fits(path, sum(member.file_size for member in archive.infolist()))
        with np.load(path, allow_pickle=False) as file:
            content = {key: file[key] for key in file.files}
    except InputError:
        raise
    except Exception as error:
        # As above, and what zip adds to it.
        raise InputError(f"{path}: is not a readable .npz file ({type(error).__name__})") from error
    missing = [key for key in ("values", "unit") if key not in content]
    if missing or not ({"voxel_mm", "affine"} & content.keys()):
        keys = ", ".join(sorted(content)) or "nothing"
        raise InputError(f"{path}: found {keys}, expected values, unit and either voxel_mm or affine")
    values = numbers_3d(path, content["values"])
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
    return Volume(np.ascontiguousarray(values, dtype=np.float32), affine, sidecar.unit)


def write_npz(path: Path, image: Volume) -> None:
    """Write ``image`` (.npz) so that it describes itself.

    Raises:
        InputError: the name has another ending or the file cannot be written.
    """
    if not path.name.lower().endswith(".npz"):
        raise InputError(f"{path}: expected a name that ends in .npz")
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, values=image.values, unit=image.unit, affine=image.affine)


def _read(path: Path, options: ReadOptions) -> Volume:
    return read_npz(path) if path.name.lower().endswith(".npz") else read_npy(path)


def _write(path: Path, image: Volume, options: WriteOptions) -> tuple[str, ...]:
    write_npz(path, image)
    return ()


def _claims(path: Path, head: bytes) -> bool:
    return path.name.lower().endswith(_ENDINGS)


FORMAT = VolumeFormat("numpy", "NumPy (.npy, .npy.xz, .npz)", _ENDINGS, _claims, _read, _write)
