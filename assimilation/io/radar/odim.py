"""Composites in the OPERA Data Information Model for HDF5 (ODIM_H5 2.0 to 2.4), as European services exchange them.

    value = offset + gain * count       count = nodata: not measured, NaN       count = undetect: no echo, no rain

    /what        object (COMP or IMAGE), date, time
    /where       projdef, xsize, ysize, xscale, yscale, corners LL_lon, LL_lat ... of the outer cell edges
    /datasetN    what: product, startdate, starttime, enddate, endtime    where: instead of the file's
    /datasetN/dataM    what: quantity, gain, offset, nodata, undetect     data: rows from north to south

An attribute of a lower group wins over that of a higher one. Rain rates are taken as they are (RATE, mm/h),
accumulations (ACRR, mm) become the mean rate over their time, reflectivity (DBZH, TH, DBZ) becomes rain by Marshall
and Palmer's relation; a file with several of them is read in this order. No service's sample was at hand: the tests
write files as the specification says.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from assimilation.fields.grid import Grid
from assimilation.io.radar.frame import Frame, centres, rain_rate
from priors.runtime.errors import InputError

SUFFIXES = (".h5", ".hdf", ".hdf5")
_QUANTITIES = ("RATE", "ACRR", "DBZH", "TH", "DBZ")
_OBJECTS = ("COMP", "IMAGE")
_HOUR = np.timedelta64(3600, "s")


@dataclass(frozen=True)
class _Place:
    """A data group of the file, with the attributes that hold for it."""

    group: h5py.Group
    what: dict[str, Any]
    where: dict[str, Any]

    @property
    def quantity(self) -> str:
        """Return what its values are."""
        return str(self.what.get("quantity", ""))


def is_odim(path: Path) -> bool:
    """Tell whether a file says that it follows ODIM."""
    if path.suffix.lower() not in SUFFIXES or not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, "r") as file:
            return str(_plain(file.attrs.get("Conventions", ""))).startswith("ODIM_H5")
    except Exception:
        # Damaged files make h5py fail in many ways (OSError, KeyError, RuntimeError, Unicode ...).
        return False


def read_odim(path: Path) -> Frame:
    """Return one file's rain rate.

    Raises:
        InputError: the file is damaged, lacks what the specification asks for, or is no composite of rain.
    """
    try:
        with h5py.File(path, "r") as file:
            place = _chosen(file, path)
            counts = place.group["data"][()]
            return _frame(counts, place, path)
    except InputError:
        raise
    except Exception as error:
        # Damaged files make h5py and the arithmetic on their attributes fail in many ways.
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: is not a readable composite of ODIM ({reason})") from error


def _chosen(file: h5py.File, path: Path) -> _Place:
    """Return the first data group with the most wanted quantity."""
    kind = str(_attributes(file, "what").get("object", ""))
    if kind not in _OBJECTS:
        raise InputError(
            f"{path}: object: found '{kind}', expected a composite ({' or '.join(_OBJECTS)}), not single radars"
        )
    places = [
        _Place(
            file[dataset][data],
            _merged("what", file, file[dataset], file[dataset][data]),
            _merged("where", file, file[dataset], file[dataset][data]),
        )
        for dataset in _numbered(file, "dataset")
        for data in _numbered(file[dataset], "data")
    ]
    wanted = [place for name in _QUANTITIES for place in places if place.quantity == name]
    if not wanted:
        found = ", ".join(place.quantity or "none" for place in places) or "no data"
        raise InputError(f"{path}: quantity: found {found}, expected one of {', '.join(_QUANTITIES)}")
    return wanted[0]


def _frame(counts: np.ndarray, place: _Place, path: Path) -> Frame:
    shape = int(place.where["ysize"]), int(place.where["xsize"])
    if counts.shape != shape:
        raise InputError(f"{path}: found an image of {counts.shape}, expected {shape} as /where says")
    start, end = (_time(place.what, name) for name in ("start", "end"))
    rate = _rate(counts, place, (end - start) / _HOUR if start is not None else np.nan, path)
    return Frame(rate[::-1].astype(np.float32), end, _grid(place.where, shape, path))


def _rate(counts: np.ndarray, place: _Place, hours: float, path: Path) -> np.ndarray:
    """Return mm/h, rows as in the file."""
    gain, offset = (float(place.what.get(key, fallback)) for key, fallback in (("gain", 1), ("offset", 0)))
    values = offset + gain * counts.astype(np.float64)
    if place.quantity == "ACRR":
        if not hours > 0:
            raise InputError(f"{path}: found an accumulation over {hours:g} h, expected a positive time")
        values = values / hours
    elif place.quantity != "RATE":
        values = rain_rate(values)
    values = np.maximum(values, 0.0)
    values[counts == float(place.what["undetect"])] = 0.0
    values[counts == float(place.what["nodata"])] = np.nan
    return np.asarray(values)


def _grid(where: dict[str, Any], shape: tuple[int, int], path: Path) -> Grid:
    import pyproj

    text = str(where["projdef"])
    try:
        crs = pyproj.CRS.from_user_input(text)
        projection = pyproj.Proj(crs)
    except pyproj.exceptions.CRSError as error:
        raise InputError(f"{path}: projdef: found '{text[:80]}', which PROJ cannot read") from error
    dy, dx = float(where["yscale"]), float(where["xscale"])
    longitude, latitude = float(where["LL_lon"]), float(where["LL_lat"])
    if crs.is_geographic:
        return Grid(centres(latitude, dy, shape[0]), centres(longitude, dx, shape[1]), "sphere", "degree")
    left, bottom = (edge / 1000 for edge in projection(longitude, latitude))
    if not np.isfinite([left, bottom, dy, dx]).all() or min(dy, dx) <= 0:
        raise InputError(f"{path}: where: found a corner or cell size that is no place on the map")
    y, x = centres(bottom, dy / 1000, shape[0]), centres(left, dx / 1000, shape[1])
    words = [word for word in text.split() if not word.startswith(("+units=", "+to_meter="))]
    return Grid(y, x, "plane", "km", projection=" ".join([*words, "+units=km"]))


def _time(what: dict[str, Any], end: str) -> Any:
    """Return the start or the end of what was measured; the end is the file's time where it says no other."""
    date, time = what.get(f"{end}date"), what.get(f"{end}time")
    if date is None or time is None:
        if end == "start":
            return None
        date, time = what["date"], what["time"]
    day, clock = str(date), str(time)
    text = f"{day[:4]}-{day[4:6]}-{day[6:8]}T{clock[:2]}:{clock[2:4]}:{clock[4:6] or '00'}"
    return np.datetime64(text, "ns")


def _numbered(group: h5py.Group, name: str) -> list[str]:
    """Return the members dataset1, dataset2 ... in order."""
    found = [key for key in group if key.startswith(name) and key[len(name) :].isdigit()]
    return sorted(found, key=lambda key: int(key[len(name) :]))


def _merged(name: str, *groups: h5py.Group) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for group in groups:
        merged.update(_attributes(group, name))
    return merged


def _attributes(group: h5py.Group, name: str) -> dict[str, Any]:
    return {key: _plain(value) for key, value in group[name].attrs.items()} if name in group else {}


def _plain(value: Any) -> Any:
    """Return an attribute as text or number."""
    value = np.ravel(value)[0] if np.size(value) else ""
    return value.decode() if isinstance(value, bytes) else value
