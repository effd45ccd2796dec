"""Parameters that a centre numbers itself and eccodes has no name for.

Multi-Radar/Multi-Sensor products (NOAA, discipline 209; user table of the MRMS GRIB2 files): no bitmap, but codes

    rain        -1 missing      -3 no coverage
    reflectivity  -99 missing   -999 no coverage
"""

from dataclasses import dataclass

MRMS = 209


@dataclass(frozen=True)
class LocalParameter:
    """What a number of a centre stands for."""

    name: str
    unit: str
    standard_name: str
    codes: tuple[float, ...]


_RAIN = (-1.0, -3.0, -99.0, -999.0)
_REFLECTIVITY = (-99.0, -999.0)
_NAMED = {
    (6, 1): LocalParameter("rain_rate", "mm/h", "rainfall_rate", _RAIN),
    (9, 0): LocalParameter(
        "MergedReflectivityQCComposite", "dBZ", "equivalent_reflectivity_factor", _REFLECTIVITY
    ),
    (10, 0): LocalParameter(
        "MergedReflectivityQCComposite", "dBZ", "equivalent_reflectivity_factor", _REFLECTIVITY
    ),
}


def local_parameter(discipline: int, category: int, number: int, *, centre: str) -> LocalParameter | None:
    """Return what a local parameter is; None for those of the WMO's tables."""
    if discipline != MRMS:
        return None
    known = _NAMED.get((category, number))
    if known is not None:
        return known
    codes = _RAIN if category == 6 else _REFLECTIVITY
    return LocalParameter(f"mrms_{category}_{number}", "unknown", "", codes)
