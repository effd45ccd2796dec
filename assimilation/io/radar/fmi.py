"""Reflectivity composites of the Finnish Meteorological Institute: PGM, plain or gzipped, one byte per cell.

    dBZ = (v - 64) / 2        v = 255: outside of every radar's range; v = 0: no echo

The comments of the header tell time, cell size and projection; the lower left corner is given in degrees.
"""

import gzip
import re
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from assimilation.fields.grid import Grid
from assimilation.io.radar.frame import DEFAULT_RELATION, Frame, RainRelation, centres, rain_rate
from priors.runtime.errors import InputError

OUTSIDE = 255
_LARGEST = 2**26
"""Bytes of the largest composite that is read: those published hold one to two million cells."""
_EARTH_RADIUS_M = 6371288
_NUMBER = r"([-+\d.]+)"


def is_fmi(path: Path) -> bool:
    """Tell whether a file is a PGM whose comments are those of FMI's composites."""
    if not path.name.lower().endswith((".pgm", ".pgm.gz")):
        return False
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            head = stream.read(2048)
    except (OSError, EOFError, zlib.error):
        # Damaged, but by its name it is one.
        return re.fullmatch(r"\d{12}_fmi\..*\.pgm(\.gz)?", path.name) is not None
    return head.startswith(b"P5") and b"obstime" in head and b"metersperpixel" in head


def read_fmi(path: Path, relation: RainRelation = DEFAULT_RELATION) -> Frame:
    """Return one file's rain rate.

    Raises:
        InputError: the file is damaged or lacks a part of its header.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            raw = stream.read(_LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: is a damaged or truncated gzip file") from error
    if len(raw) > _LARGEST:
        raise InputError(f"{path}: holds more than {_LARGEST} bytes, which no composite of FMI does")
    header = re.match(rb"P5\s+((?:#[^\n]*\n)*)(\d+)\s+(\d+)\s+255\s", raw)
    if header is None:
        raise InputError(f"{path}: found no PGM header of 8-bit values, expected a composite of FMI")
    comments, columns, rows = header[1].decode("ascii", "replace"), int(header[2]), int(header[3])
    cells = np.frombuffer(raw, np.uint8, offset=header.end())
    if cells.size != rows * columns:
        raise InputError(f"{path}: found {cells.size} cells, expected {rows} x {columns}; truncated?")
    _check_meaning(comments, path)
    stamp = _find(comments, r"obstime (\d{12})", path)[0]
    time = np.datetime64(f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}T{stamp[8:10]}:{stamp[10:]}", "ns")
    image = cells.reshape(rows, columns)[::-1]
    return Frame(_rate(image, relation), time, _grid(comments, (rows, columns), path))


def _check_meaning(comments: str, path: Path) -> None:
    """Refuse another quantity or map than those the service's composites of reflectivity have.

    Raises:
        InputError: the comments state another.
    """
    for key, expected in (("param", "eflectivity"), ("type", "stereographic")):
        stated = re.search(rf"^# {key} (\S+)", comments, re.MULTILINE)
        if stated is not None and expected not in stated[1]:
            raise InputError(f"{path}: {key}: found '{stated[1]}', expected one with '{expected}'")


def _rate(image: UInt8[np.ndarray, "y x"], relation: RainRelation) -> np.ndarray:
    table = rain_rate((np.arange(256) - 64) / 2, relation).astype(np.float32)
    table[0], table[OUTSIDE] = 0, np.nan
    return np.asarray(table[image])


def _grid(comments: str, shape: tuple[int, int], path: Path) -> Grid:
    import pyproj

    def number(key: str) -> float:
        return float(_find(comments, rf"{key} {_NUMBER}", path)[0])

    projection = (
        f"+proj=stere +lat_0={number('centrallatitude'):g} +lon_0={number('centrallongitude'):g} "
        f"+lat_ts={number('truelatitude'):g} +R={_EARTH_RADIUS_M} +units=km"
    )
    longitude, latitude = map(float, _find(comments, rf"bottomleft {_NUMBER} {_NUMBER}", path))
    try:
        left, bottom = pyproj.Proj(projection)(longitude, latitude)
    except pyproj.exceptions.ProjError as error:
        raise InputError(f"{path}: header: found '{projection}', which PROJ cannot read") from error
    dy, dx = number("metersperpixel_y") / 1000, number("metersperpixel_x") / 1000
    y, x = centres(bottom, dy, shape[0]), centres(left, dx, shape[1])
    return Grid(y, x, "plane", "km", projection=projection)


def _find(comments: str, pattern: str, path: Path) -> tuple[str, ...]:
    found = re.search(pattern, comments)
    if found is None:
        raise InputError(
            f"{path}: header: found nothing like '{pattern.split()[0]}', expected a composite of FMI"
        )
    return found.groups()
