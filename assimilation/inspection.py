"""What a file of fields is: variables, times, grid, range, missing values."""

from pathlib import Path

import numpy as np

from assimilation.fields import Fields
from assimilation.io.radar import is_radar_folder
from assimilation.io.readers import read_any_fields
from priors.runtime.inspection import Inspection

_SIGNATURES = (b"\x89HDF\r\n\x1a\n", b"CDF\x01", b"CDF\x02", b"GRIB")


def claims(path: Path) -> bool:
    """Tell whether a path looks like fields: NetCDF, Zarr, GRIB, or a folder of radar composites."""
    if path.is_dir():
        return is_radar_folder(path) or any((path / name).exists() for name in ("zarr.json", ".zgroup"))
    with path.open("rb") as stream:
        return stream.read(8).startswith(_SIGNATURES)


def inspect_file(path: Path) -> Inspection:
    """Describe fields.

    Raises:
        InputError: they are damaged or of an unknown kind.
    """
    fields = read_any_fields(path)
    facts = {"shape": " x ".join(map(str, fields.values.shape)) + " (trajectory, time, variable, y, x)"}
    facts["times"] = f"{fields.times[0]} .. {fields.times[-1]}"
    for number, variable in enumerate(fields.variables):
        facts[variable.name] = _told(fields, number) + f" {variable.unit}"
    return Inspection("fields", facts)


def _told(fields: Fields, number: int) -> str:
    values = fields.values[:, :, number]
    missing = float(np.isnan(values).mean())
    return f"{np.nanmin(values):.5g} .. {np.nanmax(values):.5g}, {100 * missing:.2g} % missing,"
