"""GRIB files, through cfgrib and eccodes (``pip install tomocast[grib]``).

A file may hold several hypercubes (levels of different kinds, surfaces); the one that has the wanted variable, or
the only one, is read.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import xarray as xr

from priors.runtime.errors import InputError

SIGNATURE = b"GRIB"


def is_grib(path: Path) -> bool:
    """Tell whether a file begins as GRIB."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(SIGNATURE)) == SIGNATURE


@contextmanager
def opened_grib(path: Path, variable: str | None = None) -> Iterator[xr.Dataset]:
    """Yield the dataset in a GRIB file.

    Args:
        path: the file.
        variable: name of a variable that must be in it.

    Raises:
        InputError: cfgrib is not installed, the file is damaged or truncated, or holds several hypercubes and
            none was chosen.
    """
    _check_messages(path)
    try:
        # Two copies of libproj meet in one process; the interpreter ends cleanly only if pyproj's comes first.
        import_module("pyproj")
        import cfgrib
    except (ImportError, RuntimeError) as error:
        raise InputError(f"{path}: GRIB needs cfgrib and eccodes; pip install 'tomocast[grib]'") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            cubes = cfgrib.open_datasets(str(path), backend_kwargs={"indexpath": "", "errors": "raise"})
    except Exception as error:
        # eccodes, cfgrib and xarray each have their own errors for what a damaged message can cause.
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"{path}: is not readable as GRIB ({reason})") from error
    yield _chosen(cubes, variable, path)


def _chosen(cubes: list[xr.Dataset], variable: str | None, path: Path) -> xr.Dataset:
    names = [str(name) for cube in cubes for name in cube.data_vars]
    if variable is not None and len(cubes) > 1:
        # The variable t850 is the level 850 of t.
        cubes = [
            cube
            for cube in cubes
            if any(re.fullmatch(rf"{re.escape(str(name))}[\d.]*", variable) for name in cube.data_vars)
        ]
    if len(cubes) != 1:
        raise InputError(
            f"{path}: found {', '.join(names) or 'no variables'} on different levels or grids, expected one kind "
            "(choose a variable)"
        )
    return cubes[0]


def _check_messages(path: Path) -> None:
    """Walk over the messages: each says its length and ends in 7777, so a truncated file is told at once."""
    size, position, count = path.stat().st_size, 0, 0
    with path.open("rb") as stream:
        while position < size:
            stream.seek(position)
            head = stream.read(16)
            padding = len(head) - len(head.lstrip(b"\0"))
            if padding:
                position += padding
                continue
            if head[:4] != SIGNATURE:
                raise InputError(f"{path}: is a damaged GRIB file (no message begins at byte {position})")
            edition2 = len(head) == 16 and head[7] == 2
            length = int.from_bytes(head[8:16] if edition2 else head[4:7], "big")
            stream.seek(max(position + length - 4, 0))
            if length < 16 or stream.read(4) != b"7777":
                raise InputError(f"{path}: is a truncated GRIB file (message {count + 1} does not end)")
            position, count = position + length, count + 1
