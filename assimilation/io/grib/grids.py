"""Grids of GRIB messages: coordinates along the two axes, and the order of the values.

    regular_ll, regular_gg     latitude and longitude
    rotated_ll                 rotated latitude and longitude as y and x in degrees, with the pole as a PROJ text
    lambert, polar_stereographic, mercator, albers, lambert_azimuthal_equal_area     y and x in km with a PROJ text

Projected coordinates begin at the first point, of which the message gives latitude and longitude, and go on in steps of
Dx and Dy metres (WMO Manual on Codes, templates 3.0 to 3.140). Values lie row after row unless the scanning flags say
otherwise.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from assimilation.io.grib.messages import number_of, text_of
from priors.runtime.errors import InputError, warn

_PROJECTED = (
    "lambert",
    "lambert_lam",
    "polar_stereographic",
    "mercator",
    "albers",
    "lambert_azimuthal_equal_area",
)
_UNEVEN = {
    "reduced_gg": "rows of different lengths",
    "reduced_ll": "rows of different lengths",
    "sh": "spherical harmonics",
    "unstructured_grid": "points without rows",
    "space_view": "a view from space",
}


@dataclass(frozen=True, eq=False)
class MessageGrid:
    """Coordinates and order of the values of a message.

    Attributes:
        names: of the axes, (latitude, longitude) or (y, x).
        y, x: coordinates, in the order of the values.
        projection: PROJ text of a plane, "" on a sphere.
        by_columns: values go along y first.
        turning: every other row or column runs the other way.
    """

    names: tuple[str, str]
    y: np.ndarray
    x: np.ndarray
    projection: str = ""
    by_columns: bool = False
    turning: bool = False

    def image(self, values: np.ndarray) -> np.ndarray:
        """Return values (y, x).

        Raises:
            InputError: their number is not that of the grid.
        """
        rows, columns = self.y.size, self.x.size
        if values.size != rows * columns:
            raise InputError(f"found {values.size} values, expected {rows} x {columns}")
        lines = values.reshape((columns, rows) if self.by_columns else (rows, columns)).copy()
        if self.turning:
            lines[1::2] = lines[1::2, ::-1]
        return lines.T if self.by_columns else lines


def grid_of(handle: Any) -> MessageGrid:
    """Return the grid of a message.

    Raises:
        InputError: it is of a kind that has no two axes, or lacks what describes it.
    """
    kind = text_of(handle, "gridType", "unknown")
    order = {
        "by_columns": bool(number_of(handle, "jPointsAreConsecutive", 0)),
        "turning": bool(number_of(handle, "alternativeRowScanning", 0)),
    }
    if kind in ("regular_ll", "regular_gg", "rotated_ll"):
        return _geographic(handle, kind, order)
    if kind in _PROJECTED:
        return _projected(handle, kind, order)
    reason = _UNEVEN.get(kind, "not a kind of grid that is read")
    raise InputError(
        f"found the grid {kind} ({reason}), expected latitude and longitude, rotated or projected; bring it to one of "
        "these first"
    )


def _geographic(handle: Any, kind: str, order: dict[str, Any]) -> MessageGrid:
    import eccodes

    rows, columns = (int(number_of(handle, key)) for key in ("Nj", "Ni"))
    south, north = (number_of(handle, f"latitudeOf{end}GridPointInDegrees") for end in ("First", "Last"))
    west, east = (number_of(handle, f"longitudeOf{end}GridPointInDegrees") for end in ("First", "Last"))
    count = int(number_of(handle, "numberOfDataPoints"))
    if rows < 1 or columns < 1 or rows * columns != count:
        raise InputError(f"found a grid of {rows} x {columns} points, expected {count} as it has values")
    if number_of(handle, "iScansNegatively", 0):
        west += 360 if west < east else 0
    else:
        east += 360 if east < west else 0
    # A single column has one longitude, whatever the last point says.
    x = np.linspace(west, east, columns) if columns > 1 else np.array([west])
    y = np.linspace(south, north, rows) if rows > 1 else np.array([south])
    if kind == "regular_gg":
        try:
            y = np.sort(np.unique(np.round(eccodes.codes_get_array(handle, "latitudes"), 9)))
        except eccodes.CodesInternalError as error:
            raise InputError(f"the latitudes of its Gaussian grid cannot be told ({error})") from error
        if y.size != rows:
            raise InputError(f"found {y.size} latitudes of a Gaussian grid, expected {rows}")
        y = y[::-1] if south > north else y
    _warn_of_increments(handle, kind, y, x)
    if kind != "rotated_ll":
        return MessageGrid(("latitude", "longitude"), y, x, **order)
    if number_of(handle, "angleOfRotationInDegrees", 0) != 0:
        raise InputError("found a rotated grid that is turned about its pole as well, expected an angle of 0")
    latitude = number_of(handle, "latitudeOfSouthernPoleInDegrees")
    longitude = number_of(handle, "longitudeOfSouthernPoleInDegrees")
    text = f"+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p={-latitude:g} +lon_0={longitude:g} +R=6371229 +no_defs"
    x = x - 360 * np.round(x.mean() / 360)
    return MessageGrid(("y", "x"), y, x, text, **order)


def _warn_of_increments(handle: Any, kind: str, y: np.ndarray, x: np.ndarray) -> None:
    """Tell of increments that contradict corners and counts, which are used."""
    axes = {
        "iDirectionIncrementInDegrees": x,
        **({} if kind == "regular_gg" else {"jDirectionIncrementInDegrees": y}),
    }
    for key, axis in axes.items():
        stated = number_of(handle, key, 0.0)
        own = abs(float(axis[-1] - axis[0])) / max(axis.size - 1, 1)
        # Edition 1 stores thousandths of a degree.
        if axis.size > 1 and 0 < stated < 180 and abs(stated - own) > max(0.01 * own, 1e-3):
            warn(
                f"grid: found corners {own:g} degrees per step apart, but a {key} of {stated:g}; the corners are used"
            )


def _projected(handle: Any, kind: str, order: dict[str, Any]) -> MessageGrid:
    import pyproj

    text = text_of(handle, "projTargetString")
    columns, rows = (int(number_of(handle, key)) for key in ("Nx", "Ny"))
    dx, dy = (
        number_of(handle, f"{axis}InMetres", number_of(handle, f"{other}InMetres", 0.0)) / 1000
        for axis, other in (("Dx", "Di"), ("Dy", "Dj"))
    )
    if not text or rows < 1 or columns < 1 or rows * columns > 2**31 or not min(dx, dy) > 0:
        raise InputError(
            f"found a {kind} grid of {rows} x {columns} points, {dy:g} x {dx:g} km apart, PROJ text '{text}'"
        )
    latitude = number_of(handle, "latitudeOfFirstGridPointInDegrees")
    longitude = number_of(handle, "longitudeOfFirstGridPointInDegrees")
    if number_of(handle, "iScansNegatively", 0):
        dx = -dx
    if not number_of(handle, "jScansPositively", 0):
        dy = -dy
    words = [word for word in text.split() if not word.startswith("+units=")]
    if kind == "mercator":
        # The map is cut opposite to its central meridian: put that into the middle, so that no grid crosses the cut.
        radius = next((float(word[3:]) for word in words if word.startswith("+R=")), 6371229.0) / 1000
        at = np.cos(np.deg2rad(next((float(word[8:]) for word in words if word.startswith("+lat_ts=")), 0.0)))
        middle = longitude + np.rad2deg(dx * (columns - 1) / 2 / (radius * at))
        words = [
            f"+lon_0={(middle + 180) % 360 - 180:.6f}" if word.startswith("+lon_0=") else word
            for word in words
        ]
    text = " ".join([*words, "+units=km"])
    try:
        x0, y0 = pyproj.Proj(text)(longitude, latitude)
    except pyproj.exceptions.ProjError as error:
        raise InputError(f"found '{text}', which PROJ cannot read") from error
    if not np.isfinite([x0, y0]).all():
        raise InputError(f"found a first point ({latitude:g}, {longitude:g}) that is no place on its map")
    return MessageGrid(("y", "x"), y0 + dy * np.arange(rows), x0 + dx * np.arange(columns), text, **order)
