"""GRIB 1 and 2, through eccodes (``pip install tomocast[grib]``)."""

from assimilation.io.grib.reader import is_grib, opened_grib

__all__ = ["is_grib", "opened_grib"]
