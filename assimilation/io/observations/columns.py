"""What people put into tables: spellings of columns, codes of what is missing, semicolons and decimal commas."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from priors.runtime.errors import InputError, warn

ALIASES = {
    **dict.fromkeys(("lat", "lat_deg", "latitude_deg", "ylat"), "latitude"),
    **dict.fromkeys(("lon", "long", "lng", "lon_deg", "longitude_deg", "xlon"), "longitude"),
    **dict.fromkeys(
        ("valid_time", "datetime", "date_time", "timestamp", "valid", "obs_time", "date"), "time"
    ),
    **dict.fromkeys(("var", "parameter", "element", "variable_name"), "variable"),
    **dict.fromkeys(("obs", "observation", "obs_value", "val"), "value"),
    **dict.fromkeys(("error", "std", "stddev", "uncertainty", "obs_error", "sd"), "sigma"),
    **dict.fromkeys(("units",), "unit"),
}
MISSING = {
    "",
    "-",
    "--",
    "---",
    "/",
    "//",
    "///",
    "////",
    "*",
    "?",
    ".",
    "m",
    "mm",
    "x",
    "xx",
    "na",
    "n/a",
    "nan",
    "none",
}
MISSING |= {
    "null",
    "nil",
    "missing",
    "msg",
    "no data",
    "nodata",
    "void",
    "#n/a",
    "#na",
    "<na>",
    "\u2014",
    "\u2013",
}
CODES = (
    -9999.0,
    -999.0,
    -99999.0,
    -9999.9,
    -999.9,
    -99.9,
    -99.0,
    9999.0,
    99999.0,
    999.9,
    9999.9,
    -32768.0,
    9.96921e36,
    1e20,
)
"""Numbers that agencies write where nothing was measured; -99 and 999.9 may be values, so that only a range decides."""


def read_text(path: Path) -> tuple[str, str]:
    """Return the text of a table and its encoding: UTF-8, with or without a mark, else Windows-1252.

    Raises:
        InputError: it holds zero bytes, as UTF-16 and binary files do.
    """
    raw = path.read_bytes()
    if b"\0" in raw[:4096]:
        raise InputError("found bytes that are no text, expected a table in UTF-8")
    try:
        return raw.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        warn(f"{path}: is not UTF-8; read as Windows-1252")
        return raw.decode("cp1252", "replace"), "cp1252"


def separators(text: str) -> tuple[str, str]:
    """Return what separates columns, and the decimal mark: "," and "." unless the header is split by ";" or tabs."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")][:50]
    if not lines:
        return ",", "."
    counts = {mark: lines[0].count(mark) for mark in (",", ";", "\t", "|")}
    mark = max(counts, key=lambda each: counts[each])
    if counts[mark] == 0 or mark == ",":
        return ",", "."
    body = "\n".join(lines[1:])
    # With ; between columns, digits on both sides of a comma are a decimal comma.
    decimal = "," if re.search(r"\d,\d", body) and not re.search(r"\d\.\d+[;\t|]", body) else "."
    return mark, decimal


def described(text: str) -> str:
    """Return a table without the line ``sep=;`` that spreadsheets put first."""
    first, _, rest = text.partition("\n")
    return rest if re.fullmatch(r"\s*sep=.\s*", first) else text


def traces(frame: Any, source: str) -> Any:
    """Return a frame in which traces of rain (T, trace, <0.1) are 0, and tell how many they were.

    A trace is rain too little to be measured (WMO Guide to Instruments, 6.1.2): less than half of the smallest unit.
    """
    if frame["value"].dtype.kind in "fiub":
        return frame
    texts = frame["value"].astype("string").str.strip().str.lower()
    rain = frame["variable"].astype("string").str.contains("rain|precip|^tp$|^pr$", case=False, regex=True)
    small = texts.str.fullmatch(r"t|tr\.?|trace\??|<\s*0?[.,]\d+")
    found = np.asarray((small & rain).fillna(False), bool)
    if found.any():
        warn(f"{source}: value: {int(found.sum())} traces of rain are read as 0")
        frame = frame.copy()
        frame.loc[found, "value"] = "0"
    return frame


def without_codes(frame: Any, names: tuple[str, ...]) -> Any:
    """Return a frame whose texts for missing are missing in some columns."""
    frame = frame.copy()
    for name in names:
        if name in frame.columns and frame[name].dtype.kind not in "fiub":
            texts = frame[name].astype("string").str.strip()
            absent = texts.isna() | texts.str.lower().isin(MISSING)
            frame[name] = texts.mask(np.asarray(absent, bool)).astype(object)
    return frame


class Rejected:
    """Rows left out, by reason, and how many there were."""

    def __init__(self, source: str, total: int) -> None:
        self.source, self.total = source, total

    def leave_out(self, frame: Any, wrong: np.ndarray, reason: Callable[[int], str]) -> Any:
        """Return a frame without the wrong rows, and tell how many they were and why.

        Args:
            frame: data frame.
            wrong: which rows.
            reason: of a row, by its place in the frame.

        Raises:
            InputError: no row would be left.
        """
        count = int(wrong.sum())
        if count == 0:
            return frame
        text = reason(int(np.argmax(wrong)))
        if count == len(frame):
            raise InputError(f"{self.source}: {text}; all of {self.total} rows are so")
        warn(f"{self.source}: {count} of {self.total} rows left out: {text}")
        return frame[~wrong].reset_index(drop=True)
