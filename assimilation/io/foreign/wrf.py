"""Files of the Weather Research and Forecasting model: its map and its times.

    map      global attributes MAP_PROJ, TRUELAT1, TRUELAT2, STAND_LON, MOAD_CEN_LAT, POLE_LAT, POLE_LON; a sphere of
             6370 km
    times    dimension Time, without a coordinate; moments in XTIME or as texts in Times

(WRF Users' Guide, chapter 5: list of fields and of global attributes.)
"""

from typing import Any

import numpy as np
import xarray as xr

from assimilation.fields.times import nanoseconds
from priors.runtime.errors import InputError

_RADIUS = 6370000.0


def wrf_projection(attributes: dict[str, Any], source: str) -> str:
    """Return the PROJ text of WRF's global attributes, in km; "" where a file has none.

    Raises:
        InputError: the map is none that WRF has.
    """
    if "MAP_PROJ" not in attributes:
        return ""
    number = {key: float(np.ravel(value)[0]) for key, value in attributes.items() if _is_number(value)}
    kind = int(number["MAP_PROJ"])
    try:
        lon_0, lat_1, lat_2 = number["STAND_LON"], number["TRUELAT1"], number.get("TRUELAT2", np.nan)
        lat_0 = number.get("MOAD_CEN_LAT", number.get("CEN_LAT", lat_1))
        if kind == 1:
            lat_2 = lat_2 if np.isfinite(lat_2) and abs(lat_2) <= 90 else lat_1
            return _text(f"+proj=lcc +lat_1={lat_1:g} +lat_2={lat_2:g} +lat_0={lat_0:g} +lon_0={lon_0:g}")
        if kind == 2:
            pole = 90 if lat_1 > 0 else -90
            return _text(f"+proj=stere +lat_0={pole} +lat_ts={lat_1:g} +lon_0={lon_0:g}")
        if kind == 3:
            return _text(f"+proj=merc +lat_ts={lat_1:g} +lon_0={lon_0:g}")
        if kind == 6:
            if abs(number.get("POLE_LAT", 90.0)) == 90:
                return ""
            return (
                f"+proj=ob_tran +o_proj=longlat +o_lat_p={number['POLE_LAT']:g} +o_lon_p={number['POLE_LON']:g} "
                f"+lon_0={-lon_0:g} +R={_RADIUS:.0f} +no_defs"
            )
    except KeyError as error:
        raise InputError(f"{source}: MAP_PROJ: found {kind} without the attribute {error}") from error
    raise InputError(f"{source}: MAP_PROJ: found {kind}, expected 1, 2, 3 or 6")


def with_times(dataset: xr.Dataset, source: str) -> xr.Dataset:
    """Return a dataset whose dimension Time is the coordinate time; others stay as they are.

    Raises:
        InputError: the texts of Times are no times.
    """
    if "Time" not in dataset.dims or "time" in dataset.variables:
        return dataset
    along = [item for item in dataset.variables.values() if item.dims == ("Time",)]
    moments = next((item.values for item in along if item.dtype.kind == "M"), None)
    if moments is None and "Times" in dataset.variables:
        texts = [_spelt(text) for text in np.ravel(dataset["Times"].values)]
        try:
            moments = nanoseconds(np.array(texts, "datetime64[s]"), f"{source}: Times")
        except ValueError as error:
            raise InputError(f"{source}: Times: found '{texts[0]}', expected YYYY-MM-DD_hh:mm:ss") from error
    if moments is None:
        return dataset
    coordinates = [name for name, item in dataset.variables.items() if item.dims == ("Time",)]
    return dataset.drop_vars(coordinates).rename(Time="time").assign_coords(time=("time", moments))


def _spelt(text: Any) -> str:
    decoded = text.decode("ascii", "replace") if isinstance(text, bytes) else str(text)
    return decoded.strip().replace("_", "T")


def _is_number(value: Any) -> bool:
    return (
        not isinstance(value, str | bytes)
        and np.ravel(value).size == 1
        and np.ravel(value).dtype.kind in "iuf"
    )


def _text(projection: str) -> str:
    return f"{projection} +R={_RADIUS:.0f} +units=km"
