"""Composites of KNMI (the Netherlands): HDF5 (KNMI's own layout 3.5), mm over five minutes, or dBZ.

Calibration, missing value, cell size, projection and times are attributes of the file; lengths are in km, the
row offset counts cells from the pole to the upper edge.
"""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from assimilation.fields.grid import Grid
from assimilation.io.radar.frame import DEFAULT_RELATION, Frame, RainRelation, centres, holds, rain_rate
from priors.runtime.errors import InputError
from priors.runtime.files.hdf5_probe import check_hdf5


def is_knmi(path: Path) -> bool:
    """Tell whether a file holds what these accumulations hold, whatever its name."""
    return holds(path, "overview", "geographic", "image1/image_data", "image1/calibration")


def read_knmi(path: Path, relation: RainRelation = DEFAULT_RELATION) -> Frame:
    """Return one file's rain rate.

    Raises:
        InputError: the file is damaged or lacks what these files hold, or holds another quantity.
    """
    check_hdf5(path)
    try:
        with h5py.File(path, "r") as file:
            return _frame(file, path, relation)
    except (OSError, KeyError, ValueError, RuntimeError, IndexError) as error:
        raise InputError(f"{path}: is not a readable accumulation of KNMI ({error})") from error


def _frame(file: h5py.File, path: Path, relation: RainRelation) -> Frame:
    counts = file["image1/image_data"][()]
    calibration = file["image1/calibration"].attrs
    formula = re.fullmatch(
        r"GEO=([-+\d.eE]+)\*PV\+?([-+]?[\d.eE]+)", _text(calibration["calibration_formulas"])
    )
    if formula is None:
        raise InputError(
            f"{path}: calibration: found {_text(calibration['calibration_formulas'])}, expected a line"
        )
    outside = [int(_first(calibration[f"calibration_{key}"])) for key in ("missing_data", "out_of_image")]
    values = float(formula[1]) * counts.astype(np.float64) + float(formula[2])
    overview = file["overview"].attrs
    start, end = (_time(_text(_first(overview[f"product_datetime_{key}"]))) for key in ("start", "end"))
    rain = _rain(values, _text(file["image1"].attrs["image_geo_parameter"]), end - start, path, relation)
    rate = np.where(np.isin(counts, outside), np.nan, rain).astype(np.float32)
    return Frame(rate[::-1], end.astype("datetime64[ns]"), _grid(file["geographic"], counts.shape))


def _rain(
    values: np.ndarray, quantity: str, duration: np.timedelta64, path: Path, relation: RainRelation
) -> np.ndarray:
    """Return mm/h from what the file says its values are."""
    if "[MM]" in quantity:
        hours = float(duration / np.timedelta64(1, "h"))
        if not hours > 0:
            raise InputError(f"{path}: found an accumulation over {hours:g} h, expected a positive time")
        return np.asarray(values / hours)
    if "[DBZ]" in quantity:
        return np.asarray(rain_rate(values, relation))
    raise InputError(f"{path}: image_geo_parameter: found '{quantity}', expected one in [MM] or [DBZ]")


def _grid(geographic: h5py.Group, shape: tuple[int, int]) -> Grid:
    place = {name: float(_first(geographic.attrs[f"geo_{name}"])) for name in
             ("pixel_size_x", "pixel_size_y", "row_offset", "column_offset")}  # fmt: skip
    dy, dx = place["pixel_size_y"], place["pixel_size_x"]
    # Rows count downwards from the offset: the first centre is the northernmost.
    y = centres(dy * place["row_offset"], dy, shape[0])[::-1].copy()
    x = centres(dx * place["column_offset"], dx, shape[1])
    projection = _in_metres(_text(geographic["map_projection"].attrs["projection_proj4_params"]))
    return Grid(y, x, "plane", "km", projection=projection)


def _in_metres(text: str) -> str:
    """Return the PROJ text with the Earth's axes in metres, as PROJ wants them, and lengths on the map in km."""

    def metres(match: re.Match[str]) -> str:
        axis = float(match[2])
        return f"{match[1]}{1000 * axis:.3f}" if axis < 1e4 else match[0]

    return re.sub(r"(\+[ab]=)([\d.]+)", metres, text) + " +units=km"


def _first(value: Any) -> Any:
    return np.asarray(value).ravel()[0]


def _text(value: Any) -> str:
    value = _first(value)
    return value.decode() if isinstance(value, bytes) else str(value)


def _time(text: str) -> np.datetime64:
    """Return a time such as 26-AUG-2010;00:05:00.000."""
    moment = datetime.strptime(text[:20].title(), "%d-%b-%Y;%H:%M:%S").replace(tzinfo=UTC)
    return np.datetime64(moment.replace(tzinfo=None), "ns")
