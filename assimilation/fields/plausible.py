"""What nature is known to reach: least and largest value of a quantity in its unit inside.

Values outside are codes, other units or damage. Limits are those of the Earth's surface and atmosphere up to the
stratopause, with room: -89.2 and 56.7 degrees Celsius are the records of air near the ground (WMO archive of extremes),
870 and 1085 hPa those of pressure at sea level, 305 mm in 42 minutes that of rain, 408 km/h that of a gust.
"""

from assimilation.fields.grid import Variable

_BY_NAME = {
    "air_temperature": (150.0, 350.0),
    "surface_temperature": (150.0, 370.0),
    "dew_point_temperature": (130.0, 320.0),
    "sea_surface_temperature": (260.0, 320.0),
    "air_pressure_at_mean_sea_level": (85000.0, 110000.0),
    "surface_air_pressure": (30000.0, 110000.0),
    "relative_humidity": (0.0, 200.0),
    "specific_humidity": (0.0, 1.0),
    "wind_speed": (0.0, 200.0),
    "wind_from_direction": (-360.0, 720.0),
    "rainfall_rate": (0.0, 1000.0),
    "precipitation_flux": (0.0, 1000.0),
    "lwe_precipitation_rate": (0.0, 1000.0),
    "geopotential_height": (-1000.0, 100000.0),
    "geopotential": (-10000.0, 1000000.0),
}
_BY_UNIT = {"K": (100.0, 400.0), "mm/h": (0.0, 1000.0), "m s-1": (-200.0, 200.0), "dBZ": (-100.0, 100.0)}


def limits(variable: Variable) -> tuple[float, float]:
    """Return least and largest plausible value of a variable; infinite where nothing is known."""
    return _BY_NAME.get(variable.standard_name, _BY_UNIT.get(variable.unit, (-float("inf"), float("inf"))))
