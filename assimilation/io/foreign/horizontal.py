"""Horizontal coordinates that are no axes: two-dimensional latitude and longitude.

    rows of one latitude, columns of one longitude     axes of a sphere
    beside a grid mapping                              y and x of the map, where the places form an even grid of it
    otherwise                                          the same on the map of WRF's attributes, or on one that fits
    no map fits                                        refused: nothing says how the grid lies on Earth

Rotated latitude and longitude (``grid_latitude``, ``grid_longitude``) are y and x in degrees.
"""

import numpy as np
import xarray as xr

from assimilation.io.foreign.curvilinear import fitted_projection
from assimilation.io.foreign.wrf import wrf_projection
from priors.runtime.errors import InputError, warn

EVEN = 0.02  # of a cell: places further from an even grid are no grid of that map
_LATITUDES = ("latitude", "lat", "XLAT", "nav_lat", "lat_rho", "gridlat_0")
_LONGITUDES = ("longitude", "lon", "XLONG", "nav_lon", "lon_rho", "gridlon_0")


def horizontal(dataset: xr.Dataset, projection: str, source: str) -> xr.Dataset:
    """Return a dataset whose two horizontal dimensions have coordinates.

    Raises:
        InputError: two-dimensional latitude and longitude form no grid that can be told.
    """
    if "ob_tran" in (projection or str(dataset.attrs.get("projection", ""))):
        for name in ("y", "x"):
            if name in dataset.coords:
                dataset[name].attrs["units"] = "degree"
                dataset[name].attrs.pop("standard_name", None)
    places = _places(dataset)
    if places is None:
        return dataset
    latitude, longitude = places
    dims = tuple(map(str, latitude.dims))
    known = {"y", "x"} <= {*dataset.coords} and set(dims) == {"y", "x"}
    if known or {"latitude", "longitude"} <= {*dataset.dims}:
        return dataset
    lat, lon = (np.asarray(item.values, np.float64) for item in (latitude, longitude))
    if not (np.isfinite(lat).all() and np.isfinite(lon).all()):
        raise InputError(f"{source}: latitude: found missing values in two-dimensional coordinates")
    dataset = dataset.drop_vars([latitude.name, longitude.name])
    names = ("latitude", "longitude") if not projection and _separable(lat, lon) else ("y", "x")
    if names[0] == "latitude":
        y, x, unit = lat[:, 0], lon[0], {}
    else:
        projection = (
            projection or wrf_projection(dict(dataset.attrs), source) or fitted_projection(lat, lon, source)
        )
        if not projection:
            raise InputError(
                f"{source}: latitude: found two dimensions ({dims[0]}, {dims[1]}) without a grid mapping; expected "
                "axes, or places that form an even grid on a Lambert, polar stereographic, Mercator or rotated map "
                "(interpolate to one first)"
            )
        dataset.attrs.setdefault("projection", projection)
        y, x = _on_map(lat, lon, projection, source)
        unit = {"units": "degree" if "ob_tran" in projection else "km"}
    dataset = dataset.drop_vars([name for name in (*dims, *names) if name in dataset.coords])
    dataset = dataset.rename(
        {old: new for old, new in zip(dims, names, strict=True) if old != new and old in dataset.dims}
    )
    return dataset.assign_coords({names[0]: (names[0], y, unit), names[1]: (names[1], x, unit)})


def _places(dataset: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray] | None:
    """Return two-dimensional latitude and longitude; None where there are none."""
    found = []
    for names, standard, units in (
        (_LATITUDES, "latitude", "degrees_north"),
        (_LONGITUDES, "longitude", "degrees_east"),
    ):
        named = [
            item
            for name, item in dataset.variables.items()
            if item.dtype.kind == "f"
            and (
                name in names
                or standard in (item.attrs.get("standard_name"),)
                or item.attrs.get("units") == units
            )
        ]
        both = [
            dataset[name]
            for name, item in dataset.variables.items()
            if any(item is other for other in named) and item.ndim in (2, 3)
        ]
        if not both:
            return None
        # WRF repeats its places at every time.
        found.append(both[0] if both[0].ndim == 2 else both[0].isel({both[0].dims[0]: 0}, drop=True))
    return (found[0], found[1]) if found[0].dims == found[1].dims else None


def _separable(lat: np.ndarray, lon: np.ndarray) -> bool:
    """Tell whether every row has one latitude and every column one longitude."""
    if min(lat.shape) < 2:
        return False
    step = [max(abs(float(np.diff(each).mean())), 1e-9) for each in (lat[:, 0], lon[0])]
    rows = np.abs(lat - lat[:, :1]).max() <= EVEN * step[0]
    turns = (lon - lon[:1] + 180) % 360 - 180
    return bool(rows and np.abs(turns).max() <= EVEN * step[1])


def _on_map(lat: np.ndarray, lon: np.ndarray, projection: str, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Return y and x of the even grid that places form on a map."""
    import pyproj

    to_map = pyproj.Transformer.from_crs("EPSG:4326", projection, always_xy=True)
    x, y = (np.asarray(part) for part in to_map.transform(lon, lat))
    axes = y.mean(axis=1), x.mean(axis=0)
    if not all(np.isfinite(axis).all() and axis.size > 1 for axis in axes):
        raise InputError(f"{source}: latitude: found places that are not on the map of its grid mapping")
    off = max(
        float(np.abs(part - axis).max()) / abs(float(np.diff(axis.ravel()).mean()))
        for part, axis in ((y, axes[0][:, None]), (x, axes[1][None]))
    )
    if off > 0.5:
        raise InputError(
            f"{source}: latitude: found places up to {off:.3g} cells from an even grid on the map '{projection[:80]}', "
            "expected a grid of that map"
        )
    if off > EVEN:
        warn(
            f"{source}: latitude: places lie up to {off:.2g} cells from an even grid of their map; it is used"
        )
    even = [np.linspace(axis[0], axis[-1], axis.size) for axis in axes]
    return even[0], even[1]
