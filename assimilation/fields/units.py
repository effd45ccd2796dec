"""Units: from what files state to one canonical unit per quantity.

    to = scale * from + offset        (offset only between temperatures)

Units are spelt as CF does ("m s-1", "kg m-2 s-1") or as people do ("m/s", "mm/h"). One kilogram of water on a
square metre is a layer of one millimetre, so rain in kg m-2 s-1 is a rate in mm/s.
"""

import re
from functools import lru_cache
from typing import Any

from priors.runtime.errors import InputError

# The unit each quantity has inside, by CF standard name.
CANONICAL = {
    "air_temperature": "K",
    "surface_temperature": "K",
    "dew_point_temperature": "K",
    "sea_surface_temperature": "K",
    "air_pressure": "Pa",
    "surface_air_pressure": "Pa",
    "air_pressure_at_mean_sea_level": "Pa",
    "rainfall_rate": "mm/h",
    "lwe_precipitation_rate": "mm/h",
    "precipitation_flux": "mm/h",
    "eastward_wind": "m s-1",
    "northward_wind": "m s-1",
    "x_wind": "m s-1",
    "y_wind": "m s-1",
    "wind_speed": "m s-1",
    "geopotential": "m2 s-2",
    "geopotential_height": "m",
}
# The dimension of that unit when nothing but the unit tells what a variable is.
_ALIASES = {
    "": "1",
    "~": "1",
    "(0 - 1)": "1",
    "m of water equivalent": "m",
    "degrees": "degree",
    "deg": "degree",
    **dict.fromkeys(
        (
            "celsius",
            "celcius",
            "degrees celcius",
            "°c",
            "c",
            "℃",
            "deg c",
            "deg.c",
            "deg. c",
            "deg_c",
            "degree c",
            "degrees c",
            "degree celsius",
        ),
        "degC",
    ),
    **dict.fromkeys(
        ("degrees celsius", "degree_c", "degrees_c", "degreec", "oc", "° c", "ºc", "degreescelsius"), "degC"
    ),
    **dict.fromkeys(("fahrenheit", "°f", "deg f", "deg_f", "degrees f", "degree fahrenheit"), "degF"),
    **dict.fromkeys(("kelvin", "kelvins", "deg k", "degrees k", "degk", "°k"), "K"),
    **dict.fromkeys(("kt", "kts", "knots"), "knot"),
    **dict.fromkeys(("mb", "mbar", "millibar", "millibars", "hpa", "hectopascal"), "hPa"),
    **dict.fromkeys(("mm h-1", "mm/hr", "mm hr-1", "mm/hour", "mm per hour", "mm h^-1", "mm.h-1"), "mm/h"),
    **dict.fromkeys(
        ("m/s", "m/sec", "m.s-1", "m s^-1", "mps", "meters per second", "metres per second"), "m s-1"
    ),
    **dict.fromkeys(("percent", "pct", "%"), "percent"),
}
_WATER = "mm / (kg m**-2)"


def canonical(standard_name: str, unit: str) -> str:
    """Return the unit a quantity has inside; its own where the table has none."""
    return CANONICAL.get(standard_name, unit)


def affine(unit: str, to: str, *, label: str) -> tuple[float, float]:
    """Return (scale, offset) with ``value_in_to = scale * value_in_unit + offset``.

    Args:
        unit: what is stated.
        to: what is wanted.
        label: file and key, for the message.

    Raises:
        InputError: the unit is unknown or measures something else.
    """
    if unit == to:
        return 1.0, 0.0
    registry, source, target = _registry(), _parse(unit, label), _parse(to, label)
    if source.dimensionality != target.dimensionality:
        water = registry.parse_units("mm") / registry.parse_units("kg/m**2")
        if (source * water).dimensionality != target.dimensionality:
            raise InputError(f"{label}: found unit '{unit}', expected one that converts to '{to}'")
        source = source * water
    zero = registry.Quantity(0.0, source).to(target).magnitude
    one = registry.Quantity(1.0, source).to(target).magnitude
    return float(one - zero), float(zero)


@lru_cache(maxsize=1)
def _registry() -> Any:
    """Return the registry of units; pint is slow to import and read."""
    import pint

    registry: Any = pint.UnitRegistry(autoconvert_offset_to_baseunit=True)
    registry.define("@alias degree_Celsius = degree_celsius")
    return registry


def _parse(unit: str, label: str) -> Any:
    # A unit is short and its powers are small: 9**9**9**9 would be computed.
    if len(unit) > 100 or re.search(
        r"(\*\*|\^)\s*[-+(]*\s*\d[\d.]*\s*\)*\s*(\*\*|\^)|(\*\*|\^)[-+( ]*\d{3}|\d{20}", unit
    ):
        raise InputError(f"{label}: found unit '{unit[:60]}', expected one such as K, m s-1 or mm/h")
    text = _ALIASES.get(unit.strip().lower(), unit.strip())
    # CF writes exponents without a sign of their own: m2 s-2, kg m-2 s-1.
    text = re.sub(r"(?<=[A-Za-z])(-?\d+)", r"**\1", text)
    text = re.sub(r"(?<=[\w)])[ .]+(?=[A-Za-z])", " * ", text)
    try:
        return _registry().parse_units(text)
    except Exception as error:
        # pint fails on a text that is no unit in many ways (undefined, tokenize, attribute, type, ...).
        raise InputError(f"{label}: found unit '{unit}', expected one such as K, m s-1 or mm/h") from error
