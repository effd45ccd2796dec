"""Fields as other software writes them, brought to the conventions of ``assimilation.fields.cf``.

    axes                 told by standard name or unit where they have other names (yc, Longitude, realization ...)
    starts and leads     see ``leads``
    curvilinear axes     see ``horizontal``
    levels               see ``levels``
    sums since a start   see ``sums``
    units                canonical ones (``assimilation.fields.units``), coordinates of a map projection in km
    projection           the CF grid mapping as a PROJ text in km
    static variables     left out where others have a time

Names, latitude order and the longitude convention are normalised afterwards, for every file alike.
"""

import warnings
from typing import Any

import numpy as np
import xarray as xr

from assimilation.fields.units import affine, canonical
from assimilation.io.foreign.horizontal import horizontal
from assimilation.io.foreign.leads import valid_time, with_leads
from assimilation.io.foreign.levels import levels_apart
from assimilation.io.foreign.sums import amounts
from assimilation.io.foreign.wrf import with_times
from priors.runtime.errors import InputError

_HORIZONTAL = {
    "latitude": "sphere",
    "longitude": "sphere",
    "lat": "sphere",
    "lon": "sphere",
    "y": "",
    "x": "",
}
_AXES = {
    "latitude": "latitude",
    "longitude": "longitude",
    "projection_y_coordinate": "y",
    "projection_x_coordinate": "x",
    "grid_latitude": "y",
    "grid_longitude": "x",
    "realization": "number",
    "time": "time",
}
_BY_UNIT = {
    **dict.fromkeys(("degrees_north", "degree_north", "degrees_N", "degreesN"), "latitude"),
    **dict.fromkeys(("degrees_east", "degree_east", "degrees_E", "degreesE"), "longitude"),
}
_BY_NAME = {
    "lat": "latitude",
    "lon": "longitude",
    "nav_lat": "latitude",
    "nav_lon": "longitude",
    "long": "longitude",
}
_LENGTHS = ("m", "km", "metre", "meter", "metres", "meters", "kilometer", "kilometers", "kilometre", "dm")
# What ECMWF's short names mean where a file gives no standard name.
STANDARD = {
    "t2m": "air_temperature",
    "2m_temperature": "air_temperature",
    "u10": "eastward_wind",
    "v10": "northward_wind",
    "10m_u_component_of_wind": "eastward_wind",
    "10m_v_component_of_wind": "northward_wind",
    "msl": "air_pressure_at_mean_sea_level",
    "sp": "surface_air_pressure",
}
_NEVER_NEGATIVE = (
    "rainfall_rate",
    "precipitation_flux",
    "lwe_precipitation_rate",
    "wind_speed",
    "specific_humidity",
)


def normalise(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return a dataset that ``Fields.from_dataset`` understands.

    Args:
        dataset: as opened, decoded by xarray.
        source: what messages call it.

    Raises:
        InputError: a unit does not fit its quantity, a projection cannot be read, or times occur twice.
    """
    projection = _projection(dataset, source)
    bounds = _time_bounds(dataset)
    dataset = valid_time(with_leads(_axes_named(with_times(dataset, source)), source), source)
    dataset = horizontal(dataset, projection, source)
    dataset = _timed(_fields_only(dataset))
    dataset = amounts(levels_apart(dataset, source), bounds, source)
    dataset = _lengths_in_km(dataset, source)
    if projection and "projection" not in dataset.attrs:
        dataset.attrs["projection"] = projection
    for name in list(dataset.data_vars):
        dataset[name] = _in_canonical_unit(dataset[name], source)
    return dataset


def _time_bounds(dataset: xr.Dataset) -> np.ndarray | None:
    """Return the bounds of time (time, 2); None where there are none."""
    if "time" not in dataset.coords:
        return None
    name = dataset["time"].attrs.get("bounds") or dataset["time"].encoding.get("bounds")
    if name is None or name not in dataset.variables or dataset[name].ndim != 2:
        return None
    return np.asarray(dataset[name].values)


def _fields_only(dataset: xr.Dataset) -> xr.Dataset:
    """Leave out what is no field: bounds, grid mappings, two-dimensional coordinates, error columns aside."""
    kept = [
        name
        for name, item in dataset.data_vars.items()
        if len({*item.dims} & {*_HORIZONTAL}) == 2
        and item.attrs.get("standard_name") not in ("latitude", "longitude")
        and item.dtype.kind in "fiub"
    ]
    return dataset[kept] if kept else dataset


def _timed(dataset: xr.Dataset) -> xr.Dataset:
    """Leave out static variables where others have a time."""
    with_time = [name for name, item in dataset.data_vars.items() if "time" in item.dims]
    return dataset[with_time] if with_time else dataset


def _axes_named(dataset: xr.Dataset) -> xr.Dataset:
    """Give axes that a standard name tells the names used here."""
    renamed: dict[Any, str] = {}
    for name in dataset.dims:
        attributes = dataset[name].attrs if name in dataset.coords else {}
        told = str(attributes.get("standard_name", "")) or _BY_UNIT.get(str(attributes.get("units", "")), "")
        wanted = _AXES.get(told, _BY_NAME.get(str(name).lower(), str(name)))
        # GRIB has two kinds of time; what is called time already stays.
        if wanted != name and wanted not in (*dataset.variables, *dataset.dims, *renamed.values()):
            renamed[name] = wanted
    return dataset.rename(renamed)


def _lengths_in_km(dataset: xr.Dataset, source: str) -> xr.Dataset:
    for name in ("y", "x"):
        if name not in dataset.coords or name not in dataset.dims:
            continue
        unit = str(dataset[name].attrs.get("units", "1"))
        # A box without a place on Earth keeps its own unit: a turbulence of 2 pi metres is no map.
        if (
            unit not in _LENGTHS
            or dataset[name].attrs.get("standard_name") != f"projection_{name}_coordinate"
        ):
            continue
        scale, _ = affine(unit, "km", label=f"{source}: {name}")
        attributes = {**dataset[name].attrs, "units": "km"}
        values = dataset[name].values.astype(np.float64) * scale
        dataset = dataset.assign_coords({name: (name, values, attributes)})
    return dataset


def _in_canonical_unit(item: xr.DataArray, source: str) -> xr.DataArray:
    """Return a variable in its canonical unit, with a standard name where its own name tells."""
    attributes: dict[str, Any] = dict(item.attrs)
    standard = str(attributes.get("standard_name", ""))
    if standard in ("", "unknown"):
        standard = STANDARD.get(str(item.name), "")
        attributes.pop("standard_name", None)
        if standard:
            attributes["standard_name"] = standard
    unit = attributes.get("units")
    if unit is None:
        return item.assign_attrs(attributes)
    wanted = canonical(standard, str(unit))
    scale, offset = affine(str(unit), wanted, label=f"{source}: {item.name}")
    if (scale, offset) != (1.0, 0.0):
        item = _scaled(item, scale, offset)
        attributes.pop("valid_min", None)
    attributes["units"] = wanted
    if standard in _NEVER_NEGATIVE:
        attributes.setdefault("valid_min", np.float32(0.0))
    return item.assign_attrs(attributes)


def _scaled(item: xr.DataArray, scale: float, offset: float) -> xr.DataArray:
    """Return scale * item + offset, computed when values are read, as xarray unpacks them."""
    packed = item.copy(deep=False).to_dataset(name="packed")
    packed["packed"].attrs = {"scale_factor": np.float64(scale), "add_offset": np.float64(offset)}
    packed["packed"].encoding = {}
    unpacked = xr.decode_cf(packed, decode_times=False, decode_coords=False)["packed"]
    # The chunks of the file tell how many times are best read at once.
    unpacked.encoding = dict(item.encoding)
    return unpacked.rename(item.name)


def _projection(dataset: xr.Dataset, source: str) -> str:
    """Return the PROJ text of the grid mapping, its lengths in km; "" without one."""
    mapping = next((v for v in dataset.variables.values() if "grid_mapping_name" in v.attrs), None)
    if mapping is None or mapping.attrs["grid_mapping_name"] == "latitude_longitude":
        return ""
    return proj_in_km(dict(mapping.attrs), source)


def proj_in_km(attributes: dict[str, Any], source: str) -> str:
    """Return the PROJ text of a CF grid mapping, its lengths in km.

    Raises:
        InputError: pyproj cannot read the mapping.
    """
    import pyproj

    try:
        with warnings.catch_warnings():
            # PROJ texts hold less than WKT; what is lost (names, axis order) is not used.
            warnings.simplefilter("ignore", UserWarning)
            parts = pyproj.CRS.from_cf(attributes).to_dict()
    except (pyproj.exceptions.CRSError, KeyError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{source}: the grid mapping cannot be used ({reason})") from error
    if parts.get("proj") == "ob_tran":
        # Rotated latitude and longitude stay in degrees.
        parts.pop("units", None)
    else:
        parts["units"] = "km"
    return " ".join(f"+{key}" if value is None else f"+{key}={_plain(value)}" for key, value in parts.items())


def _plain(value: Any) -> str:
    """Return a parameter as PROJ writes it: lists with commas."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
