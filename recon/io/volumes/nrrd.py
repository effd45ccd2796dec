"""NRRD (.nrrd, or a detached header .nhdr): headers and values are parsed by pynrrd.

Axis k of the stored array steps by column k of ``space directions``; ``space`` says whether these are
right-anterior-superior or left-posterior-superior millimetres. Without a space the spacings alone are known.
What is used: sizes, type, endian, encoding, data file and skips (pynrrd), space, space directions, space origin, space
units, spacings and units, axis mins and maxs with centers, sample units. What cannot be used is told: thicknesses
that differ, old min and max, kinds that are no space, a space that is none of a patient.
The unit of a file written here is in the key ``tomocast unit``.
Source: https://teem.sourceforge.net/nrrd/format.html
"""

import bz2
import math
import re
import zlib
from contextlib import nullcontext
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
from jaxtyping import Float64

from priors.runtime.errors import InputError
from priors.runtime.files.bounds import check_fits
from priors.runtime.files.writing import atomic, beside
from recon.data.volume import LPS_TO_RAS, Unit, Volume
from recon.io.spelling import millimetres
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
_OTHERS = ("scanner-xyz", "3d-right-handed")
"""Right-handed spaces that say nothing of a patient: taken as left-posterior-superior."""
_KINDS = ("", "???", "none", "domain", "space")
_UNIT = "tomocast unit"
_HU = ("hu", "hounsfield", "hounsfield unit", "hounsfield units", "houndsfield unit")
_PER_MM = ("1/mm", "mm^-1", "mm-1")


def read_nrrd(path: Path) -> Volume:
    """Return the image in ``path``.

    Raises:
        InputError: damaged, not 3-D, values missing, or their unit not known.
    """
    try:
        with path.open("rb") as stream:
            header: dict[str, Any] = dict(nrrd.read_header(stream))
            _check_header(path, header)
            values = _read_values(path, header, stream)
    except InputError:
        raise
    except Exception as error:
        # pynrrd, zlib and numpy fail on damaged files with errors of many kinds.
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise InputError(f"{path}: is not a readable NRRD file ({reason})") from error
    affine, told = _affine(path, header)
    told = (*told, *_warnings(header))
    return with_unit(path, numbers_3d(path, values), affine, _stated(header), warnings=told)


def _read_values(path: Path, header: dict[str, Any], stream: BufferedIOBase) -> np.ndarray:
    """Return the values; compressed ones are unpacked as far as the header says, whatever there is more."""
    wanted = math.prod(int(n) for n in header["sizes"]) * 8
    check_fits(path, wanted)
    packed: dict[str, Any] = {"gzip": lambda: zlib.decompressobj(31), "bzip2": bz2.BZ2Decompressor}
    encoding = {"gz": "gzip", "bz2": "bzip2"}.get(str(header["encoding"]), str(header["encoding"]))
    if encoding not in packed:
        return np.asarray(nrrd.read_data(header, stream, str(path), index_order="C"))
    detached = header.get("data file") or header.get("datafile")
    with beside(path, str(detached), "data file").open("rb") if detached else nullcontext(stream) as source:
        for _ in range(int(header.get("line skip", header.get("lineskip", 0)))):
            source.readline()
        skip = max(0, int(header.get("byte skip", header.get("byteskip", 0))))
        values = packed[encoding]().decompress(source.read(), wanted + skip)[skip:]
    left_out = ("data file", "datafile", "line skip", "lineskip", "byte skip", "byteskip", "encoding")
    plain = {key: value for key, value in header.items() if key not in left_out} | {"encoding": "raw"}
    return np.asarray(nrrd.read_data(plain, BytesIO(values), str(path), index_order="C"))


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


def _affine(path: Path, header: dict[str, Any]) -> tuple[Float64[np.ndarray, "4 4"], tuple[str, ...]]:
    """Return the map to RAS millimetres, and what had to be taken for it.

    Raises:
        InputError: the axes do not span a space, or a unit is not one of length.
    """
    affine, told = np.eye(4), []
    space = str(header.get("space", "")).lower()
    if space not in (*_SPACES, *_OTHERS, ""):
        raise InputError(f"{path}: space: found {space!r}, expected one of {', '.join((*_SPACES, *_OTHERS))}")
    if space not in _SPACES:
        told.append(f"space: {space or 'not stated'}; left-posterior-superior was taken")
    try:
        columns, own = _columns(path, header)
        affine[:3, : columns.shape[1]] = columns
        affine[:3, 3] = np.asarray(_field(header, "space origin", np.zeros(3)), np.float64)
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path}: space directions and origin do not describe a 3-D image") from error
    if own is None:
        # Directions and origin are in units of the space, one for each of its axes.
        affine[:3] *= _scales(path, header, "space units")[:, None]
    else:
        affine[:3, : len(own)] *= own
    return np.asarray(_SPACES.get(space, LPS_TO_RAS) @ affine), tuple(told)


def _columns(
    path: Path, header: dict[str, Any]
) -> tuple[Float64[np.ndarray, "_ _"], Float64[np.ndarray, " _"] | None]:
    """Return the step of every axis, and the millimetres of its unit where axes have units of their own."""
    directions, spacings = _field(header, "space directions"), _field(header, "spacings")
    if directions is not None:
        return np.asarray(directions, np.float64).T, None
    low, high = _field(header, "axis mins"), _field(header, "axis maxs")
    sizes = np.asarray(header["sizes"], np.float64)
    if spacings is None and low is not None and high is not None:
        # From the first to the last sample where they are nodes, from edge to edge where they are cells.
        stated = _field(header, "centerings", _field(header, "centers", []))
        centers = (
            stated.lower().split() if isinstance(stated, str) else [str(word).lower() for word in stated]
        )
        steps = [n - 1 if k < len(centers) and centers[k] == "node" else n for k, n in enumerate(sizes)]
        spacings = (np.asarray(high, np.float64) - np.asarray(low, np.float64)) / np.maximum(steps, 1)
    if spacings is None:
        raise InputError(f"{path}: has neither space directions nor spacings, expected voxel sizes")
    columns = np.diag(np.asarray(spacings, np.float64))
    return columns, _scales(path, header, "units")[: len(columns)]


def _scales(path: Path, header: dict[str, Any], name: str) -> Float64[np.ndarray, " 3"]:
    found = _field(header, name)
    words = [] if found is None else [str(word).strip('"') for word in np.atleast_1d(np.asarray(found, str))]
    # pynrrd leaves a quoted list as one text.
    words = [part for word in words for part in re.split(r'"\s+"|\s+', word) if part]
    scales = np.ones(3)
    for axis, word in enumerate(words[:3]):
        scale = millimetres(word)
        if scale is None and word not in ("???", "none", '""'):
            raise InputError(f"{path}: {name}: found {word[:20]!r}, expected a unit of length")
        scales[axis] = scale or 1.0
    return scales


def _warnings(header: dict[str, Any]) -> tuple[str, ...]:
    told = []
    strange = [str(kind) for kind in header.get("kinds", []) if str(kind).lower() not in _KINDS]
    if strange:
        told.append(f"kinds: {', '.join(strange)}: an axis that is not one of space was taken as one")
    if _field(header, "old min") is not None or _field(header, "old max") is not None:
        told.append(
            "old min and old max say that the numbers are quantised: their old values are not restored"
        )
    unit = str(_field(header, "sample units", "")).strip('"').lower()
    if unit and unit not in (*_HU, *_PER_MM):
        told.append(f"sample units: {unit[:40]!r} are neither HU nor 1/mm")
    return tuple(told)


def _field(header: dict[str, Any], name: str, otherwise: Any = None) -> Any:
    """Return a field, whose name the format lets people write with or without a space."""
    return header.get(name, header.get(name.replace(" ", ""), otherwise))


def _stated(header: dict[str, Any]) -> Unit | None:
    found = header.get(_UNIT)
    if found in ("HU", "1/mm"):
        return found  # type: ignore[no-any-return]
    unit = str(_field(header, "sample units", "")).strip('"').lower()
    return "HU" if unit in _HU else "1/mm" if unit in _PER_MM else None


def _claims(path: Path, head: bytes) -> bool:
    return head.startswith(b"NRRD00") or path.name.lower().endswith((".nrrd", ".nhdr"))


def _read(path: Path, options: ReadOptions) -> Volume:
    return read_nrrd(path)


def _write(path: Path, image: Volume, options: WriteOptions) -> tuple[str, ...]:
    write_nrrd(path, image)
    return ()


FORMAT = VolumeFormat("nrrd", "NRRD", (".nrrd", ".nhdr"), _claims, _read, _write)
