"""Radar composites: folders with one file per time, as four weather services publish them.

Rain rates in mm/h. Reflectivity Z in mm6/m3, dBZ = 10 log10 Z, becomes rain by the relation of Marshall and
Palmer (1948), Z = a R^b with a = 200 and b = 1.6:

    R = (10^(dBZ/10) / a)^(1/b).

An accumulation over a step becomes the mean rate over it, stamped with its end. NaN = missing or out of range of
every radar; 0 = no echo. Fields are stored with y ascending (north up means the last row is north).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assimilation.fields import Fields
from assimilation.grid import Variable
from assimilation.io.radar_bom import read_bom
from assimilation.io.radar_fmi import read_fmi
from assimilation.io.radar_frame import Frame
from assimilation.io.radar_knmi import read_knmi
from assimilation.io.radar_mch import read_mch
from assimilation.streams import FieldStream
from priors.runtime.errors import InputError

RAIN_RATE = Variable("rain_rate", "mm/h", "rainfall_rate", 0.0)


@dataclass(frozen=True)
class _Format:
    """File names of a service, and how one file is read."""

    service: str
    pattern: re.Pattern[str]
    read: Callable[[Path], Frame]


_FORMATS = (
    _Format("Bureau of Meteorology", re.compile(r"\d+_\d{8}_\d{6}\.prcp-c10\.nc"), read_bom),
    _Format("Finnish Meteorological Institute", re.compile(r"\d{12}_fmi\..*\.pgm(\.gz)?"), read_fmi),
    _Format("MeteoSwiss", re.compile(r"A[A-Z]C\d{9}[A-Z]_\d{5}\.801\.gif"), read_mch),
    _Format("KNMI", re.compile(r"RAD_NL25_RAP_5min_\d{12}\.h5"), read_knmi),
)


def is_radar_folder(path: Path) -> bool:
    """Tell whether a folder holds files of a known service."""
    return path.is_dir() and bool(_found(path)[1])


def open_radar_folder(path: Path) -> FieldStream:
    """Return the rain rates in a folder, ordered by time; each is read from its file when it is wanted.

    Raises:
        InputError: a file is damaged, grids differ, or a time occurs twice.
    """
    known, files = _found(path)
    grid, moments = None, []
    for file in files:
        frame = known.read(file)
        grid = grid or frame.grid
        if not frame.grid.same_as(grid):
            raise InputError(f"{file}: found another grid than in {files[0].name}, expected the same")
        moments.append(frame.time)
    assert grid is not None
    order = np.argsort(np.array(moments, dtype="datetime64[ns]"), kind="stable")
    times = np.array(moments, dtype="datetime64[ns]")[order]
    if (np.diff(times) <= np.timedelta64(0)).any():
        raise InputError(f"{path}: time: found one twice, expected every time once")
    attributes = {"institution": known.service, "title": f"rain rate, {known.service} radar composite"}
    return FieldStream(
        1,
        1,
        times,
        (RAIN_RATE,),
        grid,
        lambda _, time: known.read(files[order[time]]).rate[None, None],
        attributes,
    )


def read_radar_folder(path: Path) -> Fields:
    """Return the rain rates in a folder, in memory; see ``open_radar_folder``."""
    return open_radar_folder(path).fields()


def _found(path: Path) -> tuple[_Format, list[Path]]:
    """Return the service with most files in the folder, and the files."""
    files = sorted(item for item in path.iterdir() if item.is_file())
    matches = [(known, [file for file in files if known.pattern.fullmatch(file.name)]) for known in _FORMATS]
    return max(matches, key=lambda match: len(match[1]))
