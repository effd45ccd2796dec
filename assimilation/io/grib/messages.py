"""The fields in a GRIB file: what every message says of itself, without its values.

A message may hold several fields (NCEP's winds): a field is known by the byte its message begins at and its place
in it.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assimilation.io.grib.local import local_parameter
from priors.runtime.errors import InputError

SIGNATURE = b"GRIB"
MISSING = 1e30
ABSENT = 9.9e19
"""Values this large are codes of what is absent: old files of NCEP write 9.999e20 where they have no bitmap."""

_CORNERS = [
    f"{axis}Of{end}GridPointInDegrees" for axis in ("latitude", "longitude") for end in ("First", "Last")
]
_GRID_KEYS = (
    *("gridType", "numberOfDataPoints", "Ni", "Nj", *_CORNERS, "DxInMetres", "DyInMetres", "scanningMode"),
    *("LoVInDegrees", "LaDInDegrees", "Latin1InDegrees", "Latin2InDegrees", "orientationOfTheGridInDegrees"),
    *("latitudeOfSouthernPoleInDegrees", "longitudeOfSouthernPoleInDegrees", "alternativeRowScanning"),
)


@dataclass(frozen=True)
class Field:
    """One field: where it is, and what it says.

    Attributes:
        offset: byte at which its message begins.
        place: of the field in its message.
        name: CF name of eccodes, or its short name; without level and kind of step.
        unit, standard_name: as eccodes knows them; "unknown" and "" where it does not.
        step_type: instant, accum, avg, max, min ...
        level_type, level: typeOfLevel and level.
        number: of the member, 0 where there is none.
        start: of the forecast, datetime64[s].
        begin, end: of the time it is about, seconds after the start.
        grid: what its grid section says, as one text.
        codes: values that mean missing, beside the bitmap's.
    """

    offset: int
    place: int
    name: str
    unit: str
    standard_name: str
    step_type: str
    level_type: str
    level: float
    number: int
    start: np.datetime64
    begin: int
    end: int
    grid: str
    codes: tuple[float, ...] = ()

    @property
    def valid(self) -> np.datetime64:
        """Return the time at which, or up to which, the field holds."""
        return self.start + np.timedelta64(self.end, "s")


def fields_of(path: Path) -> list[Field]:
    """Return every field of a file in order.

    Raises:
        InputError: a message is damaged, or its times cannot be read.
    """
    found: list[Field] = []
    with handles(path) as messages:
        offset, place = -1, 0
        for handle in messages:
            here = int(number_of(handle, "offset", 0))
            place = place + 1 if here == offset else 0
            offset = here
            try:
                found.append(_field(handle, offset, place))
            except (ValueError, OverflowError, InputError) as error:
                raise InputError(f"{path}: message {len(found) + 1}: cannot be read ({error})") from error
    return found


@contextmanager
def handles(path: Path, offset: int = 0) -> Iterator[Iterator[Any]]:
    """Yield the handles of the fields from a byte on; each is released when the next one is taken."""
    import eccodes

    def each(stream: Any) -> Generator[Any, None, None]:
        while (handle := eccodes.codes_grib_new_from_file(stream)) is not None:
            try:
                yield handle
            finally:
                eccodes.codes_release(handle)

    with path.open("rb") as stream:
        stream.seek(offset)
        eccodes.codes_grib_multi_support_on()
        messages = each(stream)
        try:
            yield messages
        finally:
            messages.close()
            eccodes.codes_grib_multi_support_reset_file(stream)


def values_of(path: Path, field: Field) -> np.ndarray:
    """Return the values of a field in the order of its message, NaN where missing."""
    import eccodes

    with handles(path, field.offset) as messages:
        for place, handle in enumerate(messages):
            if place < field.place:
                continue
            # The bitmap, and packings that have codes of their own for missing, are told by this value.
            eccodes.codes_set(handle, "missingValue", MISSING)
            values = np.asarray(eccodes.codes_get_array(handle, "values"), np.float64)
            values[np.abs(values) >= ABSENT] = np.nan
            for code in field.codes:
                values[np.isclose(values, code, rtol=0, atol=1e-3)] = np.nan
            return values
    raise InputError(f"{path}: found no field at byte {field.offset}")


def text_of(handle: Any, key: str, fallback: str = "") -> str:
    """Return a key as text."""
    import eccodes

    try:
        return str(eccodes.codes_get(handle, key, ktype=str))
    except eccodes.CodesInternalError:
        return fallback


def number_of(handle: Any, key: str, fallback: Any = None) -> float:
    """Return a key as a number.

    Raises:
        InputError: there is none, and no fallback.
    """
    import eccodes

    try:
        return float(eccodes.codes_get(handle, key, ktype=float))
    except (eccodes.CodesInternalError, ValueError) as error:
        if fallback is None:
            raise InputError(f"found no key {key}") from error
        return float(fallback)


def _field(handle: Any, offset: int, place: int) -> Field:
    name = text_of(handle, "cfVarName", "unknown")
    name = text_of(handle, "shortName", "unknown") if name == "unknown" else name
    standard = text_of(handle, "cfName")
    unit = text_of(handle, "units", "unknown")
    codes: tuple[float, ...] = ()
    local = local_parameter(
        *(int(number_of(handle, key, -1)) for key in ("discipline", "parameterCategory", "parameterNumber")),
        centre=text_of(handle, "centre"),
    )
    if local is not None:
        codes = local.codes
        if name == "unknown":
            name, unit, standard = local.name, local.unit, local.standard_name
    if name == "unknown":
        keys = ("discipline", "parameterCategory", "parameterNumber")
        parts = [int(number_of(handle, key, -1)) for key in keys]
        if parts[2] < 0:
            parts = [int(number_of(handle, key, -1)) for key in ("table2Version", "indicatorOfParameter")]
        name = "unknown_" + "_".join(map(str, parts))
    begin, end = _steps(handle)
    return Field(
        offset,
        place,
        name,
        unit,
        "" if standard == "unknown" else standard,
        text_of(handle, "stepType", "instant"),
        text_of(handle, "typeOfLevel"),
        number_of(handle, "level", 0.0),
        int(number_of(handle, "number", 0)),
        _start(handle),
        begin,
        end,
        "/".join(text_of(handle, key) for key in _GRID_KEYS),
        codes,
    )


def _start(handle: Any) -> np.datetime64:
    """Return dataDate and dataTime, to the second."""
    date = int(number_of(handle, "dataDate"))
    hour, minute, second = (int(number_of(handle, key, 0)) for key in ("hour", "minute", "second"))
    day = f"{date // 10000:04d}-{date // 100 % 100:02d}-{date % 100:02d}"
    return np.datetime64(f"{day}T{hour:02d}:{minute:02d}:{second:02d}", "s")


def _steps(handle: Any) -> tuple[int, int]:
    """Return begin and end of what the field is about, seconds after the start."""
    import eccodes

    try:
        eccodes.codes_set(handle, "stepUnits", "s")
        return int(number_of(handle, "startStep")), int(number_of(handle, "endStep"))
    except (eccodes.CodesInternalError, InputError):
        # Steps in months have no length in seconds, but the message says when it is valid.
        date, clock = (int(number_of(handle, key)) for key in ("validityDate", "validityTime"))
        day = f"{date // 10000:04d}-{date // 100 % 100:02d}-{date % 100:02d}"
        valid = np.datetime64(f"{day}T{clock // 100:02d}:{clock % 100:02d}:00", "s")
        seconds = int((valid - _start(handle)) / np.timedelta64(1, "s"))
        return seconds, seconds


def check_messages(path: Path) -> None:
    """Walk over the messages: each says its length and ends in 7777, so a truncated file is told at once.

    Raises:
        InputError: a message does not end, or something else lies between two.
    """
    size, position, count = path.stat().st_size, 0, 0
    with path.open("rb") as stream:
        while position < size:
            stream.seek(position)
            head = stream.read(16)
            padding = len(head) - len(head.lstrip(b"\0"))
            if padding:
                position += padding
                continue
            if head[:4] != SIGNATURE:
                raise InputError(f"{path}: is a damaged GRIB file (no message begins at byte {position})")
            edition2 = len(head) == 16 and head[7] == 2
            length = int.from_bytes(head[8:16] if edition2 else head[4:7], "big")
            stream.seek(max(position + length - 4, 0))
            if length < 16 or stream.read(4) != b"7777":
                raise InputError(f"{path}: is a truncated GRIB file (message {count + 1} does not end)")
            position, count = position + length, count + 1
