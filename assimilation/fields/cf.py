"""Between arrays and xarray datasets that follow the CF conventions.

    dataset[name] has dims ([trajectory,] [member,] time, y | latitude, x | longitude), one name per variable

Read datasets are brought to one form: latitude, y and x ascending, longitude in one run that begins in [-180, 180)
(``fields.longitudes``), other dimensions of length one dropped. What was changed is told in the attribute
``normalised``.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float32

from assimilation.fields.grid import Grid, Kind, Variable
from assimilation.fields.longitudes import connected
from assimilation.fields.times import nanoseconds
from priors.runtime.errors import InputError

CONVENTIONS = "CF-1.11"
LEADING = ("trajectory", "member")
MAPPING = "crs"
"""Name of the variable that holds the grid mapping."""
_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")
_ALIASES = {"lat": "latitude", "lon": "longitude", "number": "member", "realization": "member"}
# What the grid says: written beside the fields and read back, never part of their free attributes.
_ALL = slice(None)
_OWN = ("Conventions", "periodic_axes", "projection", "variables")


@dataclass(frozen=True, eq=False)
class Parsed:
    """The content of a dataset; ``leading`` names those of ``LEADING`` that it had as dimensions."""

    values: Float32[np.ndarray, "n m time k y x"]
    times: np.ndarray
    variables: tuple[Variable, ...]
    grid: Grid
    attributes: dict[str, str]
    leading: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Described:
    """A dataset in normal form whose values are still in its file.

    ``dataset`` may lack the dimension time where it holds one moment; messages call it ``source``.
    """

    dataset: xr.Dataset
    times: np.ndarray
    variables: tuple[Variable, ...]
    grid: Grid
    attributes: dict[str, str]
    leading: tuple[str, ...]
    source: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the sizes (n, m, time, k, y, x)."""
        n, m = (self.dataset.sizes.get(name, 1) for name in LEADING)
        return n, m, self.times.size, len(self.variables), *self.grid.shape

    def read(self, *, trajectory: slice = _ALL, time: slice = _ALL) -> Float32[np.ndarray, "n m time k y x"]:
        """Return the values of some trajectories and times.

        Raises:
            InputError: they cannot be read.
        """
        order = (*LEADING, "time", *self.grid.names)
        wanted = {"trajectory": trajectory, "time": time}
        arrays = []
        for variable in self.variables:
            item = self.dataset[variable.name]
            part = item.isel({name: place for name, place in wanted.items() if name in item.dims})
            values = _numbers(part, f"{self.source}: {variable.name}")
            axes = [part.dims.index(name) for name in order if name in part.dims]
            index = tuple(slice(None) if name in part.dims else None for name in order)
            arrays.append(values.transpose(axes)[index])
        return np.stack(arrays, axis=3, dtype=np.float32)


def build(content: Parsed) -> xr.Dataset:
    """Return the dataset of ``content``."""
    leading, grid = content.leading, content.grid
    dims = (*(name for name in LEADING if name in leading), "time", *grid.names)
    index = tuple(slice(None) if name in leading else 0 for name in LEADING)
    dataset = skeleton(content, sizes={name: content.values.shape[LEADING.index(name)] for name in leading})
    for place, item in enumerate(content.variables):
        values = content.values[(*index, slice(None), place)]
        dataset[item.name] = xr.Variable(dims, values, variable_attributes(item, mapped=MAPPING in dataset))
    return dataset


def skeleton(content: Any, *, sizes: Mapping[str, int]) -> xr.Dataset:
    """Return coordinates and attributes without data variables.

    Args:
        content: has times, variables, grid and attributes.
        sizes: length of the leading dimensions.
    """
    grid = content.grid
    named = {"trajectory": ("trajectory_id", "trajectory"), "member": ("realization", "ensemble member")}
    coords: dict[str, xr.Variable] = {}
    for name, size in sizes.items():
        role, text = named[name]
        attributes = {"cf_role" if name == "trajectory" else "standard_name": role, "long_name": text}
        if name == "member":
            attributes["units"] = "1"
        coords[name] = xr.Variable((name,), np.arange(size, dtype=np.int32), attributes)
    coords["time"] = xr.Variable(("time",), content.times, {"standard_name": "time", "axis": "T"})
    for name, axis, letter in zip(grid.names, (grid.y, grid.x), "YX", strict=True):
        coords[name] = xr.Variable((name,), axis, _axis_attributes(grid, name, letter))
    periodic = " ".join(name for name, closed in zip(grid.names, grid.periodic, strict=True) if closed)
    # A Zarr folder does not keep the order of its arrays.
    order = " ".join(item.name for item in content.variables)
    attrs = {"Conventions": CONVENTIONS, "periodic_axes": periodic, "variables": order, **content.attributes}
    if grid.projection:
        attrs["projection"] = grid.projection
    mapping = grid_mapping(grid)
    placed = {MAPPING: xr.Variable((), np.int32(0), mapping)} if mapping else {}
    return xr.Dataset(placed, coords=coords, attrs=attrs)


def grid_mapping(grid: Grid) -> dict[str, Any]:
    """Return the CF grid mapping of a grid's projection; empty where there is none that CF has a name for."""
    if not grid.projection:
        return {}
    import pyproj

    try:
        with warnings.catch_warnings():
            # What the CF attributes cannot say is in crs_wkt.
            warnings.simplefilter("ignore", UserWarning)
            attributes = pyproj.CRS.from_user_input(grid.projection).to_cf()
    except pyproj.exceptions.CRSError:
        return {}
    named = attributes.get("grid_mapping_name", "unknown") != "unknown"
    return {key: value for key, value in attributes.items() if value is not None} if named else {}


def variable_attributes(variable: Variable, *, mapped: bool = False) -> dict[str, Any]:
    """Return the CF attributes of a data variable; ``mapped``: beside a grid mapping."""
    attributes: dict[str, Any] = {"units": variable.unit, **({"grid_mapping": MAPPING} if mapped else {})}
    if variable.standard_name:
        attributes["standard_name"] = variable.standard_name
    if variable.minimum is not None:
        attributes["valid_min"] = np.float32(variable.minimum)
    return attributes


def _axis_attributes(grid: Grid, name: str, letter: str) -> dict[str, str]:
    """Return the CF attributes of a horizontal coordinate."""
    if grid.kind == "sphere":
        unit = "degrees_north" if letter == "Y" else "degrees_east"
        return {"units": unit, "standard_name": name, "axis": letter}
    attributes = {"units": grid.unit, "axis": letter}
    if grid.projection:
        attributes["standard_name"] = f"projection_{name}_coordinate"
    return attributes


def parse(dataset: xr.Dataset, source: str) -> Parsed:
    """Return the content of a dataset; see ``describe``.

    Raises:
        InputError: dimensions, times, units or coordinates cannot be used, or values cannot be read.
    """
    found = describe(dataset, source)
    return Parsed(found.read(), found.times, found.variables, found.grid, found.attributes, found.leading)


def describe(dataset: xr.Dataset, source: str) -> Described:
    """Return a dataset in normal form without reading its values.

    Args:
        dataset: one or more data variables over time and two horizontal axes.
        source: what error messages call it.

    Raises:
        InputError: dimensions, times, units or coordinates cannot be used.
    """
    known = {*dataset.variables, *dataset.dims}
    aliases = {old: new for old, new in _ALIASES.items() if old in known and new not in known}
    # A file with both names of the members' axis keeps the first.
    dataset = dataset.rename({old: new for new, old in {new: old for old, new in aliases.items()}.items()})
    kind = _kind(dataset, source)
    names = ("latitude", "longitude") if kind == "sphere" else ("y", "x")
    fields = [str(name) for name, item in dataset.data_vars.items() if {*names} <= {*item.dims}]
    if not fields:
        raise InputError(f"{source}: found no data variable with dimensions {names[0]} and {names[1]}")
    order_told = str(dataset.attrs.get("variables", "")).split()
    fields.sort(key=lambda name: order_told.index(name) if name in order_told else len(order_told))
    dataset, changes = _normalise(dataset[fields], names, source)
    leading = tuple(name for name in LEADING if name in dataset.dims)
    timed = ("time",) if "time" in dataset.dims else ()
    order = (*leading, *timed, *names)
    for name in fields:
        item = dataset[name]
        if set(item.dims) != set(order):
            raise InputError(
                f"{source}: {name}: found dimensions ({', '.join(map(str, item.dims))}), "
                f"expected ({', '.join(order)})"
            )
        if item.dtype.kind not in "fiub":
            raise InputError(f"{source}: {name}: found {item.dtype} values, expected numbers")
    attributes = {str(key): str(value) for key, value in dataset.attrs.items() if key not in _OWN}
    if changes:
        attributes["normalised"] = "; ".join(changes)
    variables = tuple(_variable(dataset[name], source) for name in fields)
    grid = _grid(dataset, kind, source)
    return Described(dataset, _times(dataset, source), variables, grid, attributes, leading, source)


def _kind(dataset: xr.Dataset, source: str) -> Kind:
    """Tell which pair of horizontal axes the dataset has."""
    if {"latitude", "longitude"} <= {*dataset.dims}:
        return "sphere"
    if {"y", "x"} <= {*dataset.dims}:
        return "plane"
    if "latitude" in dataset.variables and dataset["latitude"].ndim == 2:
        raise InputError(
            f"{source}: latitude: found two dimensions, expected latitude or projection y along one axis"
        )
    found = ", ".join(f"{name} ({size})" for name, size in dataset.sizes.items()) or "none"
    places = dataset.variables.get("latitude")
    if places is not None and places.ndim == 1 and "latitude" not in dataset.dims:
        raise InputError(
            f"{source}: found series at {places.size} places (dimensions {found}), expected a horizontal grid; "
            "observations at places belong into a table (.csv, .parquet)"
        )
    raise InputError(f"{source}: found dimensions {found}, expected time, latitude, longitude or time, y, x")


def _normalise(dataset: xr.Dataset, names: tuple[str, str], source: str) -> tuple[xr.Dataset, list[str]]:
    """Return the dataset with ascending axes and without idle dimensions, and what was changed."""
    changes = []
    wanted = {*LEADING, "time", *names}
    for name in [str(name) for name in dataset.dims if name not in wanted]:
        if dataset.sizes[name] > 1:
            raise InputError(
                f"{source}: dimension {name}: found {dataset.sizes[name]} entries, expected one "
                f"(choose one {name} before)"
            )
        dataset = dataset.isel({name: 0})
        changes.append(f"{name} dropped")
    if "time" not in dataset.variables:
        raise InputError(f"{source}: time: found no such dimension, expected one")
    for name in names:
        if name not in dataset.variables:
            raise InputError(f"{source}: {name}: found no coordinates, expected a coordinate variable")
    if names[1] == "longitude" and np.isfinite(dataset["longitude"].values).all():
        dataset = _connected(dataset, changes, source)
    for name in names:
        places = dataset[name].values
        if (np.diff(places) < 0).any():
            # Turning around is a plain slice, which a file reads faster than a list of places.
            turned_around = (np.diff(places) < 0).all()
            ascending = slice(None, None, -1) if turned_around else np.argsort(places, kind="stable")
            dataset = dataset.isel({name: ascending})
            changes.append(f"{name} turned ascending")
    return dataset, changes


def _connected(dataset: xr.Dataset, changes: list[str], source: str) -> xr.Dataset:
    """Return the dataset with its columns from west to east in one run; see ``fields.longitudes``."""
    given = dataset["longitude"].values.astype(np.float64)
    order, longitude, repeated = connected(given)
    if repeated:
        changes.append("a column of longitude that repeats another left out")
    if (
        order.size == given.size
        and np.array_equal(order, np.arange(given.size))
        and np.allclose(given, longitude)
    ):
        return dataset
    plain = np.array_equal(order, np.arange(given.size))
    if not plain:
        dataset = dataset.isel(longitude=order)
        changes.append("longitude put in order from west to east")
    if not np.allclose(given[order], longitude):
        changes.append(
            "longitude moved to -180..180" if longitude[-1] < 180 else "longitude runs across the date line"
        )
    return dataset.assign_coords(longitude=("longitude", longitude, dataset["longitude"].attrs))


def _numbers(item: xr.DataArray, label: str) -> np.ndarray:
    """Return the values, read from their file."""
    try:
        return np.asarray(item.values)
    except MemoryError:
        raise
    except Exception as error:
        # Damaged chunks make HDF5, zarr, blosc and eccodes fail in many ways.
        raise InputError(f"{label}: cannot be read ({' '.join(str(error).split())[:120]})") from error


def _times(dataset: xr.Dataset, source: str) -> np.ndarray:
    """Return the times as datetime64[ns]."""
    item = dataset["time"]
    calendar = str(item.attrs.get("calendar", "standard"))
    if calendar not in _CALENDARS:
        raise InputError(f"{source}: time: found the calendar {calendar}, expected the standard calendar")
    if item.dtype.kind in "iuf" and " since " in str(item.attrs.get("units", "")):
        try:
            item = xr.decode_cf(item.to_dataset(name="decoded"))["time"]
        except (ValueError, OverflowError, ImportError) as error:
            raise InputError(f"{source}: time: cannot be decoded from '{item.attrs['units']}'") from error
    times = item.values
    if times.dtype.kind == "O" and times.size and hasattr(np.ravel(times)[0], "isoformat"):
        ends = [str(np.ravel(times)[place].isoformat())[:10] for place in (0, -1)]
        raise InputError(f"{source}: time: found {ends[0]} to {ends[1]}, expected times from 1678 to 2261")
    if times.dtype.kind != "M":
        raise InputError(f"{source}: time: found {times.dtype} values, expected CF times ('hours since ...')")
    times = nanoseconds(np.atleast_1d(times), f"{source}: time")
    if times.size == 0 or np.isnat(times).any() or (np.diff(times) <= np.timedelta64(0)).any():
        raise InputError(f"{source}: time: expected strictly ascending times, none missing")
    return times


def _variable(item: xr.DataArray, source: str) -> Variable:
    """Return what a data variable means."""
    unit = item.attrs.get("units")
    if unit is None:
        raise InputError(
            f"{source}: {item.name}: found no attribute units, expected one ('1' where it has none)"
        )
    minimum = item.attrs.get("valid_min")
    standard = str(item.attrs.get("standard_name", ""))
    return Variable(str(item.name), str(unit), standard, None if minimum is None else float(minimum))


def _grid(dataset: xr.Dataset, kind: Kind, source: str) -> Grid:
    """Return the grid of a normalised dataset."""
    names = ("latitude", "longitude") if kind == "sphere" else ("y", "x")
    y, x = (dataset[name].values.astype(np.float64) for name in names)
    stated = str(dataset.attrs.get("periodic_axes", "")).split()
    periodic = (names[0] in stated, names[1] in stated)
    if kind == "sphere" and x.size > 1:
        # A parallel closes on itself where one more step completes the turn.
        periodic = (False, bool(abs((x[-1] - x[0]) * x.size / (x.size - 1) - 360) < 1e-3 * 360 / x.size))
    unit = "degree" if kind == "sphere" else str(dataset[names[0]].attrs.get("units", "1"))
    try:
        return Grid(y, x, kind, unit, periodic, str(dataset.attrs.get("projection", "")))
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
