"""Levels: each becomes part of the name of its variable, in one unit, so that no two heights share a name.

    pressure (Pa, hPa, millibar ...)     t850        in hPa
    height or depth (m, km)              u_80m       a height that the name tells itself (t2m, u10) adds nothing
    anything else                        t_hybrid100, with the name of the axis

A single level that a file tells by a scalar coordinate counts as one of several does, where it is a pressure.
"""

import re

import numpy as np
import xarray as xr

from assimilation.fields.units import affine
from priors.runtime.errors import InputError, warn

PRESSURES = (
    "isobaricInhPa",
    "isobaricInPa",
    "level",
    "pressure_level",
    "plev",
    "pressure",
    "lev",
    "isobaric",
    "pfull",
)
_HEIGHTS = ("height", "heightAboveGround", "altitude", "height_above_ground", "z")
_OTHERS = ("hybrid", "model_level", "theta", "potentialVorticity", "depth", "depthBelowLand", "soil_level")
_STANDARD = {"air_pressure": "pressure", "height": "height", "altitude": "height", "depth": "height"}
_PASCAL_ABOVE = 2000.0


def levels_apart(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return a dataset with one variable for every level of each."""
    axis = next((str(name) for name in dataset.dims if _kind(dataset, str(name))), None)
    scalars = [str(name) for name in dataset.coords if dataset[name].ndim == 0]
    scalar = next((name for name in scalars if _pressure(dataset, name)), None)
    if axis is None and scalar is None:
        return dataset
    apart: dict[str, xr.DataArray] = {}
    for name, item in dataset.data_vars.items():
        if axis is not None and axis in item.dims:
            labels = _labels(dataset, axis, source)
            for place, label in enumerate(labels):
                apart[_named(str(name), label)] = item.isel({axis: place}, drop=True)
        elif scalar is not None and scalar in item.coords:
            apart[_named(str(name), _labels(dataset, scalar, source)[0])] = item.drop_vars(scalar)
        else:
            apart[str(name)] = item
    if len(apart) < sum(item.sizes.get(axis, 1) if axis else 1 for item in dataset.data_vars.values()):
        raise InputError(f"{source}: {axis}: found a level twice, expected each once")
    return xr.Dataset(apart, attrs=dataset.attrs)


def _kind(dataset: xr.Dataset, name: str) -> str:
    """Return whether an axis is one of pressures, of heights, of other levels, or none ("")."""
    attributes = dataset[name].attrs if name in dataset.coords else {}
    standard = _STANDARD.get(str(attributes.get("standard_name", "")), "")
    if standard:
        return standard
    if name in PRESSURES:
        return "pressure"
    if name in _HEIGHTS:
        return "height"
    return "other" if name in _OTHERS else ""


def _pressure(dataset: xr.Dataset, name: str) -> bool:
    unit = str(dataset[name].attrs.get("units", ""))
    return (
        dataset[name].dtype.kind in "iuf"
        and _kind(dataset, name) == "pressure"
        and unit not in ("1", "level")
    )


def _labels(dataset: xr.Dataset, axis: str, source: str) -> list[str]:
    """Return what each level adds to a name."""
    if axis not in dataset.coords:
        return [f"_{axis}{place}" for place in range(dataset.sizes[axis])]
    item = dataset[axis]
    values = np.atleast_1d(item.values).astype(np.float64)
    unit, kind = str(item.attrs.get("units", "")), _kind(dataset, axis)
    if kind == "pressure":
        return [f"{value:g}" for value in np.round(_in_hectopascal(values, unit, axis, source), 6)]
    if kind == "height":
        scale, _ = affine(unit or "m", "m", label=f"{source}: {axis}")
        return [f"_{value * scale:g}m" for value in values]
    return [f"_{axis}{value:g}" for value in values]


def _in_hectopascal(values: np.ndarray, unit: str, axis: str, source: str) -> np.ndarray:
    if axis == "isobaricInPa" and not unit:
        unit = "Pa"
    if unit in ("1", "level", "levels", "~"):
        # Numbers of levels, not pressures: the axis names them.
        return values
    if not unit:
        if values.max() <= _PASCAL_ABOVE:
            return values
        warn(f"{source}: {axis}: found levels up to {values.max():g} without a unit; they are read as Pa")
        unit = "Pa"
    try:
        scale, _ = affine(unit, "hPa", label=f"{source}: {axis}")
    except InputError:
        return values
    return values * scale


def _named(name: str, label: str) -> str:
    """Return a name with its level; a height that the name has already is not said again."""
    told = re.fullmatch(r"_([\d.]+)m", label)
    if told and re.search(rf"(?<![\d.]){re.escape(told[1])}(?![\d.])", name):
        return name
    return f"{name}{label}"
