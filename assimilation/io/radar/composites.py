"""Radar composites: files, or folders with one file per time, as weather services publish them.

Rain rates in mm/h. Reflectivity Z in mm6/m3, dBZ = 10 log10 Z, becomes rain by Z = a R^b; a and b are settings, the
file's own where it states them, else those of Marshall and Palmer (1948), a = 200 and b = 1.6:

    R = (10^(dBZ/10) / a)^(1/b).

An accumulation over a step becomes the mean rate over it, stamped with its end. NaN = missing or out of range of
every radar; 0 = no echo. Fields are stored with y ascending (north up means the last row is north).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assimilation.fields.grid import Grid, Variable
from assimilation.fields.streams import FieldStream
from assimilation.io.radar.bom import is_bom, read_bom
from assimilation.io.radar.fmi import is_fmi, read_fmi
from assimilation.io.radar.frame import DEFAULT_RELATION, Frame, RainRelation
from assimilation.io.radar.knmi import is_knmi, read_knmi
from assimilation.io.radar.mch import read_mch
from assimilation.io.radar.odim import is_odim, moments_of, read_odim
from priors.runtime.errors import InputError

RAIN_RATE = Variable("rain_rate", "mm/h", "rainfall_rate", 0.0)


@dataclass(frozen=True)
class RadarFormat:
    """How the files of a service are known, how many moments one holds, and how one of them is read."""

    service: str
    knows: Callable[[Path], bool]
    read: Callable[[Path, RainRelation, int], Frame]
    count: Callable[[Path], int] = lambda path: 1


def _named(pattern: str) -> Callable[[Path], bool]:
    return lambda path: re.fullmatch(pattern, path.name) is not None


def _any(*tests: Callable[[Path], bool]) -> Callable[[Path], bool]:
    return lambda path: any(test(path) for test in tests)


FORMATS = (
    RadarFormat(
        "Bureau of Meteorology",
        _any(_named(r"\d+_\d{8}_\d{6}\.prcp-c10\.nc"), is_bom),
        lambda path, relation, place: read_bom(path),
    ),
    RadarFormat(
        "Finnish Meteorological Institute", is_fmi, lambda path, relation, place: read_fmi(path, relation)
    ),
    RadarFormat(
        "MeteoSwiss",
        _named(r"A[A-Z]C\d{9}[A-Z]_\d{5}\.801\.gif"),
        lambda path, relation, place: read_mch(path),
    ),
    RadarFormat(
        "KNMI",
        _any(_named(r"RAD_NL25_RAP_5min_\d{12}\.h5"), is_knmi),
        lambda path, relation, place: read_knmi(path, relation),
    ),
    RadarFormat("ODIM", is_odim, read_odim, moments_of),
)


def is_radar(path: Path) -> bool:
    """Tell whether a path is a file of a known service, or a folder that holds some."""
    if path.is_dir():
        return not (path / "zarr.json").exists() and bool(_format_and_files(path)[1])
    return any(known.knows(path) for known in FORMATS)


def open_radar(path: Path, relation: RainRelation = DEFAULT_RELATION) -> FieldStream:
    """Return the rain rates in a file or folder, ordered by time; each is read when it is wanted.

    Args:
        path: file or folder.
        relation: from reflectivity to rain.

    Raises:
        InputError: a file is damaged, grids differ, or a time occurs twice.
    """
    known, files = _format_and_files(path)
    first: tuple[Path, Grid] | None = None
    moments = []
    entries = [(file, place) for file in files for place in range(known.count(file))]
    for file, place in entries:
        frame = known.read(file, relation, place)
        first = first or (file, frame.grid)
        if not frame.grid.same_as(first[1]):
            raise InputError(f"{file}: found another grid than in {first[0].name}, expected the same")
        moments.append(frame.time)
    if first is None:
        raise InputError(f"{path}: found no radar composite of a known service")
    order = np.argsort(np.array(moments, dtype="datetime64[ns]"), kind="stable")
    times = np.array(moments, dtype="datetime64[ns]")[order]
    if (np.diff(times) <= np.timedelta64(0)).any():
        raise InputError(f"{path}: time: found one twice, expected every time once")
    return FieldStream(
        1,
        1,
        times,
        (RAIN_RATE,),
        first[1],
        lambda _, time: known.read(entries[order[time]][0], relation, entries[order[time]][1]).rate[
            None, None
        ],
        {"institution": known.service, "title": f"rain rate, {known.service} radar composite"},
    )


def _format_and_files(path: Path) -> tuple[RadarFormat, list[Path]]:
    """Return the service with most files in the folder, and the files."""
    files = sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path]
    matches = [(known, [file for file in files if known.knows(file)]) for known in FORMATS]
    return max(matches, key=lambda match: len(match[1]))
