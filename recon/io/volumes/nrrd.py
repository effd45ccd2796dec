"""NRRD (.nrrd, or a detached header .nhdr): headers and values are parsed by pynrrd.

Axis k of the stored array steps by column k of ``space directions``; ``space`` says whether these are
right-anterior-superior or left-posterior-superior millimetres. Without a space the spacings alone are known.
The unit of a file written here is in the key ``tomocast unit``.
Source: https://teem.sourceforge.net/nrrd/format.html
"""

import math
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
from jaxtyping import Float64

from priors.runtime.errors import InputError
from priors.runtime.files import atomic, beside
from recon.data.volume import LPS_TO_RAS, Unit, Volume
from recon.io.volumes.format import ReadOptions, VolumeFormat, WriteOptions
from recon.io.volumes.stated_unit import numbers_3d, with_unit

_SPACES = {
    "right-anterior-superior": np.eye(4),
    "ras": np.eye(4),
    "left-posterior-superior": LPS_TO_RAS,
    "lps": LPS_TO_RAS,
    "left-anterior-superior": np.diag([-1.0, 1.0, 1.0, 1.0]),
    "las": np.diag([-1.0, 1.0, 1.0, 1.0]),
}
_UNIT = "tomocast unit"


def read_nrrd(path: Path) -> Volume:
    """Return the image in ``path``.

    Raises:
        InputError: damaged, not 3-D, values missing, or their unit not known.
    """
    try:
        with path.open("rb") as stream:
            header: dict[str, Any] = dict(nrrd.read_header(stream))
            _check_header(path, header)
            values = nrrd.read_data(header, stream, str(path), index_order="C")
    except InputError:
        raise
    except Exception as error:
        # pynrrd, zlib and numpy fail on damaged files with errors of many kinds.
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise InputError(f"{path}: is not a readable NRRD file ({reason})") from error
    return with_unit(path, numbers_3d(path, values), _affine(path, header), _stated(header))


def write_nrrd(path: Path, image: Volume) -> None:
    """Write ``image`` in float32 (.nrrd).

    Raises:
        InputError: the name has another ending or the file cannot be written.
    """
    if not path.name.lower().endswith(".nrrd"):
        raise InputError(f"{path}: expected a name that ends in .nrrd")
    affine = LPS_TO_RAS @ image.affine
    header = {
        "space": "left-posterior-superior",
        "space directions": affine[:3, :3].T,
        "space origin": affine[:3, 3],
        "encoding": "gzip",
        _UNIT: image.unit,
    }
    with atomic(path) as temporary:
        nrrd.write(str(temporary), image.values, header, index_order="C")


def _check_header(path: Path, header: dict[str, Any]) -> None:
    sizes = [int(n) for n in header.get("sizes", [])]
    if len(sizes) not in (2, 3) or min(sizes) < 1:
        raise InputError(f"{path}: sizes: found {sizes}, expected a 3-D image")
    detached = header.get("data file") or header.get("datafile")
    source = path
    if detached is not None:
        if str(detached).startswith("LIST"):
            raise InputError(f"{path}: data file: found {detached!r}, expected a file in the same folder")
        source = beside(path, str(detached), "data file")
    # zlib packs at most about a thousand to one: more is a header that lies.
    if math.prod(sizes) > 1100 * max(source.stat().st_size, 1):
        raise InputError(f"{path}: sizes: found {sizes}, more than {source.name} can hold; truncated file?")


def _affine(path: Path, header: dict[str, Any]) -> Float64[np.ndarray, "4 4"]:
    affine = np.eye(4)
    space = str(header.get("space", "left-posterior-superior")).lower()
    if space not in _SPACES:
        raise InputError(f"{path}: space: found {space!r}, expected one of {', '.join(_SPACES)}")
    directions, spacings = header.get("space directions"), header.get("spacings")
    try:
        if directions is not None:
            columns = np.asarray(directions, np.float64).T
        elif spacings is not None:
            columns = np.diag(np.asarray(spacings, np.float64))
        else:
            raise InputError(f"{path}: has neither space directions nor spacings, expected voxel sizes in mm")
        affine[:3, : columns.shape[1]] = columns
        affine[:3, 3] = np.asarray(header.get("space origin", np.zeros(3)), np.float64)
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path}: space directions and origin do not describe a 3-D image") from error
    return np.asarray(_SPACES[space] @ affine)


def _stated(header: dict[str, Any]) -> Unit | None:
    found = header.get(_UNIT)
    return found if found in ("HU", "1/mm") else None


def _claims(path: Path, head: bytes) -> bool:
    return head.startswith(b"NRRD00") or path.name.lower().endswith((".nrrd", ".nhdr"))


def _read(path: Path, options: ReadOptions) -> Volume:
    return read_nrrd(path)


def _write(path: Path, image: Volume, options: WriteOptions) -> tuple[str, ...]:
    write_nrrd(path, image)
    return ()


FORMAT = VolumeFormat("nrrd", "NRRD", (".nrrd", ".nhdr"), _claims, _read, _write)
