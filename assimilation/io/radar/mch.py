"""Accumulations of MeteoSwiss: GIF with 256 classes, mm over five minutes, on the Swiss grid CH1903 of 1 km.

Class i stands for 10^((i - 71.5)/20) units of Z = 316 R^1.5, so that

    mm = (10^((i - 71.5)/20) / 316)^(1/1.5)       2 <= i <= 250;   i < 2: no rain;   otherwise missing.

The name holds product, year, day of the year, hour and minute: AQC YY DDD HHMM.
"""

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from assimilation.fields.grid import Grid
from assimilation.io.radar.frame import Frame, centres
from priors.runtime.errors import InputError

PROJECTION = (
    "+proj=somerc +lat_0=46.9524055555556 +lon_0=7.43958333333333 +k_0=1 +x_0=600000 +y_0=200000 "
    "+ellps=bessel +towgs84=674.374,15.056,405.346,0,0,0,0 +units=km"
)
SHAPE = (640, 710)
_CORNER_KM = (-160.0, 255.0)
_LAST_CLASS = 250
_PER_HOUR = 12


def read_mch(path: Path) -> Frame:
    """Return one file's rain rate.

    Raises:
        InputError: the file is damaged, or has another size or name.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            # Asked before decoding: a damaged header may ask for any amount of memory.
            if image.size[::-1] != SHAPE:
                raise InputError(
                    f"{path}: found an image of {image.size[::-1]}, expected 8-bit classes {SHAPE}"
                )
            classes = np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: is a damaged or truncated GIF file") from error
    if classes.shape != SHAPE or classes.dtype != np.uint8:
        raise InputError(f"{path}: found {classes.dtype} {classes.shape}, expected 8-bit classes {SHAPE}")
    index = np.arange(256)
    table = _PER_HOUR * (10 ** ((index - 71.5) / 20) / 316) ** (1 / 1.5)
    table[:2], table[_LAST_CLASS + 1 :] = 0, np.nan
    y, x = (centres(edge, 1.0, count) for edge, count in zip(_CORNER_KM, SHAPE, strict=True))
    rate = table.astype(np.float32)[classes[::-1]]
    return Frame(rate, _time(path), Grid(y, x, "plane", "km", projection=PROJECTION))


def _time(path: Path) -> np.datetime64:
    stamp = re.match(r"[A-Z]{3}(\d{9})", path.name)
    if stamp is None:
        raise InputError(f"{path}: found no time in the name, expected AQC YY DDD HHMM")
    try:
        moment = datetime.strptime(stamp[1], "%y%j%H%M").replace(tzinfo=UTC)
    except ValueError as error:
        raise InputError(f"{path}: found {stamp[1]} in the name, expected YY DDD HHMM") from error
    return np.datetime64(moment.replace(tzinfo=None), "ns")
