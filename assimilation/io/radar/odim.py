"""Composites in the OPERA Data Information Model for HDF5 (ODIM_H5 2.0 to 2.4), as European services exchange them.

    value = offset + gain * count       count = nodata: not measured, NaN       count = undetect: no echo, no rain
    (gain 1 and offset 0 where they are left out; NaN is not measured; nodata and undetect need not be stated)

    /what        object (COMP or IMAGE), version, date, time: the nominal time, which the times of the data wander about
    /where       projdef, xsize, ysize, xscale, yscale, corners LL_lon, LL_lat ... of the outer cell edges
    /datasetN    what: product, startdate, starttime, enddate, endtime    where: instead of the file's
    /datasetN/dataM    what: quantity, gain, offset, nodata, undetect     data: rows from north to south

Files are known by the root's Conventions (ODIM_H5/...) or by /what/version (H5rad ...). Data sets of different times
are frames of their own. An attribute of a lower group wins over that of a higher one. Rain rates are taken as they are
(RATE, mm/h), accumulations (ACRR, mm) become the mean rate over their time, reflectivity (DBZH, TH, DBZ) becomes rain
by how/zr_a and zr_b or Marshall and Palmer's relation; a file with several of them is read in this order. No service's
sample was at hand: the tests write files as the specification says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from assimilation.fields.grid import Grid
from assimilation.io.foreign.missing import equal
from assimilation.io.radar.frame import (
    DEFAULT_RELATION,
    MARSHALL_PALMER,
    Frame,
    RainRelation,
    centres,
    rain_rate,
)
from priors.runtime.errors import InputError, warn
from priors.runtime.files.hdf5_probe import check_hdf5

SUFFIXES = (".h5", ".hdf", ".hdf5")
_QUANTITIES = ("RATE", "ACRR", "DBZH", "TH", "DBZ")
_OBJECTS = ("COMP", "IMAGE")
_HOUR = np.timedelta64(3600, "s")
WANDER = np.timedelta64(150, "s")
"""Largest distance of a measurement's end from the nominal time it belongs to: half a slot of five minutes."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Place:
    """A data group of the file, with the attributes that hold for it."""

    group: h5py.Group
    what: dict[str, Any]
    where: dict[str, Any]
    how: dict[str, Any]
    nominal: np.datetime64 | None

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
            stated = str(_plain(file.attrs.get("Conventions", "")))
            if stated:
                return stated.startswith("ODIM_H5")
            return (
                str(_attributes(file, "what").get("version", "")).startswith("H5rad") and "dataset1" in file
            )
    except Exception:
        # Damaged files make h5py fail in many ways (OSError, KeyError, RuntimeError, Unicode ...).
        return False


def moments_of(path: Path) -> int:
    """Return how many times a file holds.

    Raises:
        InputError: see `read_odim`.
    """
    return _opened(path, lambda file: len(_moments(file, path)))


def read_odim(path: Path, relation: RainRelation = DEFAULT_RELATION, place: int = 0) -> Frame:
    """Return the rain rate of one of a file's times.

    Args:
        path: the file.
        relation: from reflectivity to rain.
        place: of the time among those of the file, in order.

    Raises:
        InputError: the file is damaged, lacks what the specification asks for, or is no composite of rain.
    """

    def read(file: h5py.File) -> Frame:
        chosen = _moments(file, path)[place]
        return _frame(chosen.group["data"][()], chosen, relation, path=path)

    return _opened(path, read)


def _opened(path: Path, read: Callable[[h5py.File], T]) -> T:
    check_hdf5(path)
    try:
        with h5py.File(path, "r") as file:
            return read(file)
    except InputError:
        raise
    except Exception as error:
        # Damaged files make h5py and the arithmetic on their attributes fail in many ways.
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: is not a readable composite of ODIM ({reason})") from error


def _moments(file: h5py.File, path: Path) -> list[_Place]:
    """Return the first data group with the most wanted quantity at every time."""
    kind = str(_attributes(file, "what").get("object", ""))
    if kind not in _OBJECTS:
        raise InputError(
            f"{path}: object: found '{kind}', expected a composite ({' or '.join(_OBJECTS)}), not single radars"
        )
    own = _attributes(file, "what")
    nominal = _moment(own["date"], own["time"]) if {"date", "time"} <= own.keys() else None
    places = [
        _Place(
            file[dataset][data],
            _merged("what", file, file[dataset], file[dataset][data]),
            _merged("where", file, file[dataset], file[dataset][data]),
            _merged("how", file, file[dataset], file[dataset][data]),
            nominal,
        )
        for dataset in _numbered(file, "dataset")
        for data in _numbered(file[dataset], "data")
    ]
    wanted = next(
        ([place for place in places if place.quantity == name] for name in _QUANTITIES
         if any(place.quantity == name for place in places)),
        [],
    )  # fmt: skip
    if not wanted:
        found = ", ".join(place.quantity or "none" for place in places) or "no data"
        raise InputError(f"{path}: quantity: found {found}, expected one of {', '.join(_QUANTITIES)}")
    by_time: dict[Any, _Place] = {}
    for place in wanted:
        by_time.setdefault(_time(place.what, "end"), place)
    return [by_time[time] for time in sorted(by_time)]


def _frame(counts: np.ndarray, place: _Place, relation: RainRelation, *, path: Path) -> Frame:
    shape = int(place.where["ysize"]), int(place.where["xsize"])
    if counts.shape != shape:
        raise InputError(f"{path}: found an image of {counts.shape}, expected {shape} as /where says")
    start, end = (_time(place.what, name) for name in ("start", "end"))
    hours = (end - start) / _HOUR if start is not None else np.nan
    rate = _rate(counts, place, hours, relation, path=path)
    # Files of one slot end some seconds before or after it.
    if place.nominal is not None and abs(end - place.nominal) <= WANDER:
        end = place.nominal
    return Frame(rate[::-1].astype(np.float32), end, _grid(place.where, shape, path))


def _rate(
    counts: np.ndarray, place: _Place, hours: float, relation: RainRelation, *, path: Path
) -> np.ndarray:
    """Return mm/h, rows as in the file."""
    gain, offset = (float(place.what.get(key, fallback)) for key, fallback in (("gain", 1), ("offset", 0)))
    values = offset + gain * counts.astype(np.float64)
    if place.quantity == "ACRR":
        if not hours > 0:
            raise InputError(f"{path}: found an accumulation over {hours:g} h, expected a positive time")
        values = values / hours
    elif place.quantity != "RATE":
        stated = tuple(
            float(place.how.get(key, fallback))
            for key, fallback in zip(("zr_a", "zr_b"), MARSHALL_PALMER, strict=True)
        )
        values = rain_rate(values, relation, stated=(stated[0], stated[1]))
    # NaN stays NaN: floats without nodata have nothing else to say so with.
    values = np.maximum(values, 0.0)
    nodata, undetect = place.what.get("nodata"), place.what.get("undetect")
    if undetect is not None:
        values[equal(counts, float(undetect))] = 0.0
    if nodata is not None:
        values[equal(counts, float(nodata))] = np.nan
        if undetect is not None and float(nodata) == float(undetect):
            warn(f"{path}: nodata and undetect are both {float(nodata):g}: no echo is taken as not measured")
    return np.asarray(values)


def _grid(where: dict[str, Any], shape: tuple[int, int], path: Path) -> Grid:
    import pyproj

    text = str(where["projdef"])
    words = [word for word in text.split() if not word.startswith(("+units=", "+to_meter="))]
    try:
        crs = pyproj.CRS.from_user_input(text)
        in_km = " ".join([*words, "+units=km"])
        projection = pyproj.Proj(crs if crs.is_geographic else in_km)
    except pyproj.exceptions.CRSError as error:
        raise InputError(f"{path}: projdef: found '{text[:80]}', which PROJ cannot read") from error
    dy, dx = float(where["yscale"]), float(where["xscale"])
    longitude, latitude = float(where["LL_lon"]), float(where["LL_lat"])
    if crs.is_geographic:
        return Grid(centres(latitude, dy, shape[0]), centres(longitude, dx, shape[1]), "sphere", "degree")
    left, bottom = projection(longitude, latitude)
    if not np.isfinite([left, bottom, dy, dx]).all() or min(dy, dx) <= 0:
        raise InputError(f"{path}: where: found a corner or cell size that is no place on the map")
    dy, dx = dy / 1000, dx / 1000
    _check_corners(where, projection, (bottom + dy * shape[0], left + dx * shape[1]), min(dy, dx), path=path)
    return Grid(centres(bottom, dy, shape[0]), centres(left, dx, shape[1]), "plane", "km", projection=in_km)


def _check_corners(
    where: dict[str, Any], projection: Any, top_right: tuple[float, float], cell: float, *, path: Path
) -> None:
    """Tell of an upper right corner that the lower left one and the size contradict by more than a cell."""
    if not {"UR_lon", "UR_lat"} <= where.keys():
        return
    x, y = projection(float(where["UR_lon"]), float(where["UR_lat"]))
    off = float(np.hypot(y - top_right[0], x - top_right[1]))
    if not off <= cell:
        warn(
            f"{path}: where: the upper right corner lies {off:.3g} km from where the lower left and the size put it; "
            "that one is used"
        )


def _time(what: dict[str, Any], end: str) -> Any:
    """Return the start or the end of what was measured; the end is the file's time where it says no other."""
    date, time = what.get(f"{end}date"), what.get(f"{end}time")
    if date is None or time is None:
        if end == "start":
            return None
        date, time = what["date"], what["time"]
    return _moment(date, time)


def _moment(date: Any, time: Any) -> np.datetime64:
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
