"""Storm events of SEVIR (Veillette et al. 2020): radar images of vertically integrated liquid, HDF5 and a catalogue.

    FILE.h5     id (N) names of the events; vil (N, 384, 384, 49) bytes, row 0 in the south, frames last
    CATALOG.csv beside it or in a folder above: id, img_type, time_utc, minute_offsets, llcrnrlat, llcrnrlon, proj,
                width_m, height_m, ...

Bytes X become kg m-2 by the supplement's equation 2; 255 is missing:

    0 for X <= 5        (X - 2) / 90.66 for 5 < X <= 18        exp((X - 83.9) / 38.9) for 18 < X <= 254

Every event has a place and times of its own, so one event is one set of fields: ``FILE.h5/S728503``, or the file
itself where it holds one. No file of the collection was at hand: the tests write the documented layout.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from assimilation.fields.grid import Grid, Variable
from assimilation.fields.streams import FieldStream
from assimilation.io.radar.frame import centres
from priors.runtime.errors import InputError
from priors.runtime.files.hdf5_probe import check_hdf5

VIL = Variable("vil", "kg m-2", "", 0.0)
CATALOGUE = "CATALOG.csv"
MISSING = 255
_NEEDED = (
    *("id", "img_type", "time_utc", "minute_offsets"),
    *("llcrnrlat", "llcrnrlon", "proj", "width_m", "height_m"),
)


def table() -> np.ndarray:
    """Return kg m-2 for each of the 256 byte values."""
    x = np.arange(256.0)
    linear, curved = (x - 2) / 90.66, np.exp((x - 83.9) / 38.9)
    values = np.where(x <= 5, 0.0, np.where(x <= 18, linear, curved))
    values[MISSING] = np.nan
    return values.astype(np.float32)


def is_sevir(path: Path) -> bool:
    """Tell whether a path is a file of SEVIR, or names an event behind one."""
    path, _ = _split(path)
    if path.suffix != ".h5" or not path.is_file() or not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r") as file:
            return "id" in file and "vil" in file
    except Exception:
        # Damaged files make h5py fail in many ways (OSError, KeyError, RuntimeError ...).
        return False


def open_sevir(path: Path) -> FieldStream:
    """Return the frames of one event; a frame is read when it is wanted.

    Raises:
        InputError: the file or its catalogue is damaged or lacks what they hold, or the file has several events
            and none was chosen.
    """
    path, event = _split(path)
    check_hdf5(path)
    try:
        with h5py.File(path, "r") as file:
            names = [_text(name) for name in file["id"][()]]
            shape = file["vil"].shape
    except Exception as error:
        # Damaged files make h5py fail in many ways.
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: is not a readable file of SEVIR ({reason})") from error
    if len(shape) != 4 or shape[0] != len(names):
        raise InputError(f"{path}: vil: found the shape {shape}, expected ({len(names)} events, y, x, time)")
    if event is None and len(names) != 1:
        raise InputError(
            f"{path}: found {len(names)} events ({', '.join(names[:5])}{' ...' if len(names) > 5 else ''}), "
            f"expected one: choose it as {path.name}/EVENT"
        )
    chosen = names[0] if event is None else event
    if chosen not in names:
        raise InputError(f"{path}: found no event '{chosen}', expected one of {', '.join(names[:5])} ...")
    entry = _entry(path, chosen)
    times, grid = _times(entry, path), _grid(entry, shape[1:3], path)
    if times.size != shape[3]:
        raise InputError(f"{path}: minute_offsets: found {times.size} times, expected {shape[3]} frames")
    place, values = names.index(chosen), table()

    def read(_: int, time: int) -> np.ndarray:
        try:
            with h5py.File(path, "r") as file:
                return np.asarray(values[file["vil"][place, :, :, time]])[None, None]
        except (OSError, RuntimeError, ValueError, IndexError, KeyError) as error:
            raise InputError(f"{path}: {chosen}: frame {time} cannot be read ({error})") from error

    attributes = {"title": f"SEVIR event {chosen}", "institution": "MIT Lincoln Laboratory"}
    return FieldStream(1, 1, times, (VIL,), grid, read, attributes)


def _split(path: Path) -> tuple[Path, str | None]:
    """Return the file, and the event named behind it."""
    if not path.exists() and path.parent.is_file():
        return path.parent, path.name
    return path, None


def _entry(path: Path, event: str) -> Any:
    """Return the catalogue's row of an event."""
    import pandas

    folder = next((parent for parent in path.parents if (parent / CATALOGUE).is_file()), None)
    if folder is None:
        raise InputError(f"{path}: found no {CATALOGUE} beside it or above, which tells times and places")
    source = folder / CATALOGUE
    try:
        catalogue = pandas.read_csv(source, low_memory=False)
    except Exception as error:
        # pandas fails on damaged files in many ways (Parser, Unicode, ...).
        raise InputError(
            f"{source}: is not readable as a table ({' '.join(str(error).split())[:120]})"
        ) from error
    lacking = [name for name in _NEEDED if name not in catalogue.columns]
    if lacking:
        raise InputError(f"{source}: found no column {', '.join(lacking)}")
    rows = catalogue[(catalogue["id"].astype(str) == event) & (catalogue["img_type"] == "vil")]
    if len(rows) == 0:
        raise InputError(f"{source}: found no vil image of the event '{event}'")
    return rows.iloc[0]


def _times(entry: Any, path: Path) -> np.ndarray:
    try:
        centre = np.datetime64(str(entry["time_utc"]).strip().replace(" ", "T"), "ns")
        minutes = np.array([int(part) for part in str(entry["minute_offsets"]).split(":")])
    except ValueError as error:
        raise InputError(f"{path}: {CATALOGUE}: found a time that cannot be read ({error})") from error
    if np.isnat(centre) or (np.diff(minutes) <= 0).any():
        raise InputError(f"{path}: {CATALOGUE}: expected a time and ascending minutes")
    return np.asarray(centre + minutes * np.timedelta64(60, "s"))


def _grid(entry: Any, shape: tuple[int, int], path: Path) -> Grid:
    """Return the grid from the lower left corner and the size."""
    import pyproj

    try:
        text = str(entry["proj"])
        left, bottom = pyproj.Proj(text)(float(entry["llcrnrlon"]), float(entry["llcrnrlat"]))
        height, width = float(entry["height_m"]) / 1000, float(entry["width_m"]) / 1000
        dy, dx = height / shape[0], width / shape[1]
        y, x = centres(bottom / 1000, dy, shape[0]), centres(left / 1000, dx, shape[1])
        words = [word for word in text.split() if not word.startswith("+units=")]
        return Grid(y, x, "plane", "km", projection=" ".join([*words, "+units=km"]))
    except (ValueError, ZeroDivisionError, pyproj.exceptions.ProjError) as error:
        raise InputError(f"{path}: {CATALOGUE}: found a place that cannot be used ({error})") from error


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
