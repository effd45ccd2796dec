"""MetaImage: a text header of ``Key = Value`` lines, then the values, in the same file (.mha) or another
(.mhd).

Ours, not SimpleITK's: that ignores DistanceUnits and ElementToIntensityFunction, and ends the process on 4 of 2,000
damaged files (``benchmarks.fuzz``). Keys that change a number or a direction are used or named;
docs/formats/ct-files.md lists them.

Index (i, j, k) is at  Offset + i s_x d_x + j s_y d_y + k s_z d_z  in left-posterior-superior millimetres;
``TransformMatrix`` lists the unit vectors d_x, d_y, d_z one after the other. Values are x-fastest, little-
endian unless said, optionally one zlib stream. The unit of a file written here is in ``Comment``.
Source: https://itk.org/Wiki/MetaIO/Documentation
"""

import math
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Shaped

from priors.runtime.errors import InputError
from priors.runtime.files.bounds import check_fits
from priors.runtime.files.writing import atomic, beside
from recon.data.volume import LPS_TO_RAS, Volume
from recon.io.spelling import millimetres
from recon.io.volumes.format import ReadOptions, VolumeFormat, WriteOptions
from recon.io.volumes.stated_unit import DESCRIPTIONS, described_unit, with_unit

_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_SYNONYMS = {
    "Offset": ("Origin", "Offset", "Position"),
    "TransformMatrix": ("TransformMatrix", "Rotation", "Orientation"),
    "BinaryDataByteOrderMSB": ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"),
}
"""Names of the same thing; where a header has several, MetaIO takes the first of these."""
_INTENSITY = ("ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset")


def read_metaimage(path: Path) -> Volume:
    """Return the image in ``path``.

    Raises:
        InputError: the header is incomplete, the type is not supported, values are missing, or their unit is
            not known.
    """
    header, start = _header(path)
    affine, told = _affine(header, path)
    values, scaled = _intensity(path, header, _values(path, header, start))
    unit = described_unit(header.get("Comment", ""))
    return with_unit(path, values, affine, unit, warnings=(*told, *scaled))


def _intensity(
    path: Path, header: dict[str, str], values: Shaped[np.ndarray, "z y x"]
) -> tuple[Shaped[np.ndarray, "z y x"], tuple[str, ...]]:
    """Return the values of the stored numbers: slope times number plus offset."""
    slope, offset = (
        _numbers(header, key, 1, path)[0] if key in header else usual
        for key, usual in zip(_INTENSITY, (1.0, 0.0), strict=True)
    )
    modality = header.get("Modality", "MET_MOD_CT")
    told = (
        () if modality in ("MET_MOD_CT", "MET_MOD_UNKNOWN", "MET_MOD_OTHER") else (f"Modality is {modality}",)
    )
    if (slope, offset) == (1.0, 0.0):
        return values, told
    if slope == 0:
        raise InputError(f"{path}: {_INTENSITY[0]}: found 0, expected a number that is not 0")
    line = f"{slope:g} times the stored number plus {offset:g}"
    return values * slope + offset, (
        *told,
        f"ElementToIntensityFunction: values are {line}; ITK ignores this",
    )


def write_metaimage(path: Path, image: Volume) -> None:
    """Write ``image`` in float32 to one file (.mha).

    Raises:
        InputError: the name has another ending or the file cannot be written.
    """
    if not path.name.lower().endswith(".mha"):
        raise InputError(f"{path}: expected a name that ends in .mha")
    affine = LPS_TO_RAS @ image.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    z, y, x = image.values.shape
    lines = {
        "ObjectType": "Volume",
        "NDims": 3,
        "BinaryData": "True",
        "BinaryDataByteOrderMSB": "False",
        "CompressedData": "False",
        "TransformMatrix": _words((affine[:3, :3] / spacing).T),
        "Offset": _words(affine[:3, 3]),
        "ElementSpacing": _words(spacing),
        "DimSize": f"{x} {y} {z}",
        "Comment": DESCRIPTIONS[image.unit],
        "ElementType": "MET_FLOAT",
        "ElementDataFile": "LOCAL",
    }
    header = "".join(f"{key} = {value}\n" for key, value in lines.items())
    with atomic(path) as temporary, temporary.open("wb") as stream:
        stream.write(header.encode("ascii"))
        stream.write(np.ascontiguousarray(image.values, "<f4").tobytes())


def _words(numbers: np.ndarray) -> str:
    return " ".join(repr(float(number)) for number in np.ravel(numbers))


def _values(path: Path, header: dict[str, str], start: int) -> Shaped[np.ndarray, "z y x"]:
    shape = tuple(int(n) for n in _numbers(header, "DimSize", 3, path))
    if min(shape) < 1:
        raise InputError(f"{path}: DimSize: found {shape}, expected positive numbers of voxels")
    if header.get("ElementNumberOfChannels", "1") != "1":
        raise InputError(f"{path}: found {header['ElementNumberOfChannels']} channels per voxel, expected 1")
    kind = header.get("ElementType", "")
    if kind not in _TYPES:
        raise InputError(f"{path}: ElementType: found {kind!r}, expected one of {', '.join(_TYPES)}")
    big = header.get("BinaryDataByteOrderMSB", "False").lower() == "true"
    dtype = np.dtype(_TYPES[kind]).newbyteorder(">" if big else "<")
    wanted = math.prod(shape) * dtype.itemsize
    if header.get("BinaryData", "True").lower() == "false":
        return _words_of(path, header, start, dtype).reshape(shape[::-1])
    data = _data(path, header, start, wanted)
    if len(data) < wanted:
        raise InputError(
            f"{path}: found {len(data)} bytes of values, expected {wanted} for {shape}; truncated file?"
        )
    return np.frombuffer(data, dtype, count=math.prod(shape)).reshape(shape[::-1])


def _words_of(path: Path, header: dict[str, str], start: int, dtype: np.dtype) -> np.ndarray:
    """Return values written as text (BinaryData = False).

    Raises:
        InputError: they are not as many numbers as DimSize says.
    """
    wanted = math.prod(int(n) for n in _numbers(header, "DimSize", 3, path))
    words = _data(path, header, start, 64 * wanted).split(None, wanted)[:wanted]
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        values = np.empty(0)
    if len(values) != wanted:
        raise InputError(f"{path}: BinaryData = False: found {len(values)} numbers, expected {wanted}")
    return values.astype(dtype.newbyteorder("="))


def _header(path: Path) -> tuple[dict[str, str], int]:
    header: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(200):
            key, equals, value = file.readline(4096).partition(b"=")
            name = key.decode("ascii", "replace").strip()
            if not equals:
                break
            header[name] = value.decode("ascii", "replace").strip()
            if name == "ElementDataFile":
                for usual, names in _SYNONYMS.items():
                    stated = [header[each] for each in names if each in header]
                    header.update({usual: stated[0]} if stated else {})
                return header, file.tell()
    raise InputError(f"{path}: is not a MetaImage header: no line ElementDataFile = ... was found")


def _numbers(header: dict[str, str], key: str, count: int, path: Path) -> list[float]:
    found = header.get(key, "")
    try:
        numbers = [float(word) for word in found.split()]
    except ValueError:
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise InputError(f"{path}: {key}: found {found!r}, expected {count} numbers (a 3-D image)")
    return numbers


def _affine(header: dict[str, str], path: Path) -> tuple[Float64[np.ndarray, "4 4"], tuple[str, ...]]:
    # ElementSize is the size of a voxel's box, ElementSpacing the distance of voxels: only the latter places them.
    told: list[str] = []
    key = "ElementSpacing" if "ElementSpacing" in header else "ElementSize"
    if key not in header:
        raise InputError(f"{path}: has neither ElementSpacing nor ElementSize, expected voxel sizes")
    spacing = _numbers(header, key, 3, path)
    if key == "ElementSize":
        told.append("ElementSpacing is not stated: ElementSize was taken for the distance of voxels")
    directions = np.eye(3)
    if "TransformMatrix" in header:
        directions = np.array(_numbers(header, "TransformMatrix", 9, path)).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = directions.T * spacing
    affine[:3, 3] = _numbers(header, "Offset", 3, path) if "Offset" in header else 0.0
    scale, said = _scale(header, path)
    affine[:3] *= scale
    return LPS_TO_RAS @ affine, (*told, *said, *_orientation(header, directions))


def _scale(header: dict[str, str], path: Path) -> tuple[float, tuple[str, ...]]:
    unit = header.get("DistanceUnits", "mm")
    if unit in ("?", "", "mm"):
        return 1.0, ()
    scale = millimetres(unit)
    if scale is None:
        raise InputError(f"{path}: DistanceUnits: found {unit[:20]!r}, expected um, mm or cm")
    return scale, (f"DistanceUnits = {unit}: lengths were made millimetres; ITK ignores this",)


def _orientation(header: dict[str, str], directions: Float64[np.ndarray, "3 3"]) -> tuple[str, ...]:
    """Return whether AnatomicalOrientation (where each axis starts, RAI for ours) contradicts the directions."""
    stated = header.get("AnatomicalOrientation", "").upper()
    if len(stated) != 3 or "?" in stated:
        return ()
    starts = []
    for direction in directions:
        axis = int(np.argmax(abs(direction)))
        starts.append(("RL", "AP", "IS")[axis][0 if direction[axis] > 0 else 1])
    found = "".join(starts)
    if found == stated:
        return ()
    return (
        f"AnatomicalOrientation = {stated} contradicts TransformMatrix, which says {found}; the matrix was "
        "taken, as ITK does",
    )


def _data(path: Path, header: dict[str, str], start: int, wanted: int) -> bytes:
    name = header["ElementDataFile"]
    if not name or name.split()[0] == "LIST" or "%" in name:
        raise InputError(f"{path}: ElementDataFile: found {name!r}, expected LOCAL or one file name")
    local = name.upper() == "LOCAL"
    source = path if local else beside(path, name, "ElementDataFile")
    check_fits(source, source.stat().st_size + wanted)
    content = source.read_bytes()
    skipped = start if local else _skipped(path, header)
    # -1 means that the values are the last bytes of the file, whatever comes before them.
    data = content[max(len(content) - wanted, 0) :] if skipped < 0 else content[skipped:]
    if skipped < 0 and header.get("CompressedData", "False").lower() == "true":
        raise InputError(f"{path}: HeaderSize = -1 does not say where compressed values begin")
    if header.get("CompressedData", "False").lower() != "true":
        return data
    try:
        return zlib.decompressobj().decompress(data, wanted)
    except zlib.error as error:
        raise InputError(f"{path}: the compressed values cannot be unpacked; truncated file?") from error


def _skipped(path: Path, header: dict[str, str]) -> int:
    found = header.get("HeaderSize", "0")
    if not found.removeprefix("-").isdigit() or int(found) < -1:
        raise InputError(f"{path}: HeaderSize: found {found!r}, expected bytes to skip, or -1")
    return int(found)


def _claims(path: Path, head: bytes) -> bool:
    return path.name.lower().endswith((".mha", ".mhd"))


def _read(path: Path, options: ReadOptions) -> Volume:
    return read_metaimage(path)


def _write(path: Path, image: Volume, options: WriteOptions) -> tuple[str, ...]:
    write_metaimage(path, image)
    return ()


FORMAT = VolumeFormat("metaimage", "MetaImage", (".mha", ".mhd"), _claims, _read, _write)
