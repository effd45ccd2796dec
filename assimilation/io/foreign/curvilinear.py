r"""The map on which two-dimensional latitude and longitude are an even grid, where a file does not name it.

The Lambert, polar stereographic, Mercator or rotated map that leaves the places closest to an even grid is used, with
a note, where they lie within a hundredth of a cell of one.

A Lambert map with two true parallels is one with a single parallel but for its scale: the scale is set so that lengths
are true at the middle of the grid (Snyder 1987, Map Projections: A Working Manual, 15).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import optimize

from priors.runtime.errors import warn

CLOSE = 0.01  # of a cell: what float32 coordinates leave of an even grid
_SAMPLES = 24  # rows and columns that a map is fitted to
_RADIUS = 6371229.0

Places = Float[np.ndarray, "y x"]


def fitted_projection(lat: Places, lon: Places, source: str) -> str:
    """Return the PROJ text, in km or degrees, of the map on which places form an even grid; "" where none does."""
    if min(lat.shape) < 3:
        return ""
    rows, columns = (
        np.unique(np.linspace(0, size - 1, min(size, _SAMPLES)).round().astype(int)) for size in lat.shape
    )
    some = lat[np.ix_(rows, columns)], lon[np.ix_(rows, columns)]
    middle = _middle(lat, lon)
    found: list[tuple[float, str]] = []
    for text, starts in _families(middle):
        for start in starts:
            result = optimize.minimize(
                lambda p, text=text: _unevenness(text(p), some, rows, columns),
                start,
                method="Nelder-Mead",
                options={"xatol": 1e-5, "fatol": 1e-6, "maxfev": 400},
            )
            found.append((float(result.fun), text(result.x)))
            if result.fun < CLOSE / 10:
                break
    off, best = min(found)
    if not off <= CLOSE:
        return ""
    best = best if "ob_tran" in best else _true_at_the_middle(best, middle)
    warn(
        f"{source}: latitude: found two dimensions without a grid mapping; the places are an even grid on the map "
        f"'{best}', which is used"
    )
    return best


Text = Callable[[Any], str]


def _families(middle: tuple[float, float]) -> list[tuple[Text, list[list[float]]]]:
    """Return maps with parameters, and where to start looking for them."""
    lat, lon = middle
    pole = 90 if lat >= 0 else -90
    return [
        (
            lambda p: _lambert(_within(p[0], 89.0), p[1]),
            [[lat if abs(lat) > 5 else 30.0, lon]],
        ),
        (lambda p: _text(f"+proj=stere +lat_0={pole} +lon_0={p[0]:.6f}"), [[lon], [lon + 30], [lon - 30]]),
        (
            lambda p: (
                f"+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p={_within(p[0], 90.0):.6f} +lon_0={p[1]:.6f} "
                f"+R={_RADIUS:.0f} +no_defs"
            ),
            [[90 - lat, lon], [90 - lat, lon + 20], [90 - lat, lon - 20]],
        ),
        (lambda p: _text(f"+proj=merc +lon_0={lon + 0 * p[0]:.6f}"), [[0.0]]),
    ]


def _unevenness(text: str, places: tuple[Places, Places], rows: np.ndarray, columns: np.ndarray) -> float:
    """Return how far places lie from an even grid of a map, in cells; large where the map does not hold them."""
    import pyproj

    try:
        to_map = pyproj.Transformer.from_crs("EPSG:4326", text, always_xy=True)
    except pyproj.exceptions.CRSError:
        return 1e6
    x, y = (np.asarray(part) for part in to_map.transform(places[1], places[0]))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return 1e6
    off = 0.0
    for part, numbers, axis in ((y, rows, 0), (x, columns, 1)):
        each = part.mean(axis=1 - axis)
        step, first = np.polyfit(numbers, each, 1)
        if step == 0:
            return 1e6
        even = first + step * numbers
        off = max(off, float(np.abs(part - np.expand_dims(even, 1 - axis)).max() / abs(step)))
    return off


def _lambert(parallel: float, meridian: float) -> str:
    # PROJ takes the equator for parallels that are not given.
    each = " ".join(f"+lat_{number}={parallel:.6f}" for number in (1, 2, 0))
    return _text(f"+proj=lcc {each} +lon_0={meridian:.6f}")


def _true_at_the_middle(text: str, middle: tuple[float, float]) -> str:
    """Return a conformal map with lengths true at a place."""
    import pyproj

    scale = pyproj.Proj(text).get_factors(middle[1], middle[0]).meridional_scale
    return text.replace(" +units=km", f" +k_0={1 / scale:.9f} +units=km")


def _middle(lat: Places, lon: Places) -> tuple[float, float]:
    """Return the place in the middle of a grid."""
    row, column = lat.shape[0] // 2, lat.shape[1] // 2
    return float(lat[row, column]), float((lon[row, column] + 180) % 360 - 180)


def _within(value: float, limit: float) -> float:
    return float(np.clip(value, -limit, limit))


def _text(projection: str) -> str:
    return f"{projection} +R={_RADIUS:.0f} +units=km"
