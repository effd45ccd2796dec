"""Values that a NetCDF file or a Zarr folder calls missing, and its packing, both applied when values are read.

    value = offset + scale * count          NaN where the count is missing

    _FillValue, missing_value (and their usual misspellings), lists and texts of them      compared in the file's type
    valid_range, valid_min, valid_max     what lies outside; limits of the file's integer type are counts, others values
    default fill values of NetCDF         of a variable without _FillValue, for types of two bytes and more
    fill_value of Zarr 2 and 3            only where it looks like a code: it also is what an absent chunk holds (0)

    1e20, 9.96921e36 and their like       of floats, also where the file does not say so

(CF-1.11, 2.5.1 and 8.1; NetCDF Users' Guide, attribute conventions.) Limits that are no numbers are told and not used.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from assimilation.io.foreign.lazy import mapped
from priors.runtime.errors import warn

# Names of attributes without their underscores and capitals: what people write for _FillValue and missing_value.
_CODES = {"fillvalue", "missingvalue", "nodata", "nodatavalue", "codemissing", "gdalnodata", "missingdata"}
_LIMITS = ("valid_range", "valid_min", "valid_max")
_PACKING = ("scale_factor", "add_offset", "_Unsigned")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?|nan|inf)", re.IGNORECASE)
_DEFAULTS = {
    "i2": -32767,
    "u2": 65535,
    "i4": -2147483647,
    "u4": 4294967295,
    "i8": -9223372036854775806,
    "u8": 18446744073709551614,
    "f4": 9.969209968386869e36,
    "f8": 9.969209968386869e36,
}
"""Fill values that the NetCDF library writes into cells nobody wrote (netcdf.h)."""
NEVER_MEANT = (1e20, 9.999e20, 1e30, 1e35, 1e36, 9.969209968386869e36, 3.4028234663852886e38)
"""What CMIP (1e20), NCEP (9.999e20), GrADS, ROMS, NetCDF and float32's limit leave in cells, often unstated."""
LARGE = 1e6
"""Codes this large are compared with a relative tolerance: texts and other precisions round them."""


@dataclass(frozen=True, eq=False)
class _Coding:
    """How the counts of one variable become values."""

    dtype: np.dtype[Any]
    scale: float
    offset: float
    codes: tuple[float, ...]
    low: float
    high: float
    undetect: tuple[float, ...] = ()

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Return values in double precision, NaN where missing."""
        counts = counts.view(self.dtype) if counts.dtype.itemsize == self.dtype.itemsize else counts
        missing = np.zeros(counts.shape, bool)
        for code in self.codes:
            missing |= equal(counts, code)
        if counts.dtype.kind == "f":
            missing |= _never_meant(counts)
        # NaN is neither below nor above.
        missing |= (counts < self.low) | (counts > self.high)
        values = counts.astype(np.float64)
        if (self.scale, self.offset) != (1.0, 0.0):
            values = values * self.scale + self.offset
        for code in self.undetect:
            values[equal(counts, code)] = 0.0
        values[missing] = np.nan
        return values


def _never_meant(counts: np.ndarray) -> np.ndarray:
    """Return where numbers are codes of missing that no quantity reaches by chance, whatever a file states."""
    large = np.asarray(np.abs(counts) >= min(NEVER_MEANT))
    if not large.any():
        return large
    return np.asarray(large & np.any([equal(np.abs(counts), code) for code in NEVER_MEANT], axis=0))


def equal(counts: np.ndarray, code: float) -> np.ndarray:
    """Return where counts are a code, compared in their own type."""
    if np.isnan(code):
        return np.asarray(np.isnan(counts)) if counts.dtype.kind == "f" else np.zeros(counts.shape, bool)
    if counts.dtype.kind == "f":
        with np.errstate(over="ignore"):
            same = counts == np.asarray(code).astype(counts.dtype)
        return np.asarray(same | (np.abs(counts - code) <= 1e-5 * abs(code)) if abs(code) >= LARGE else same)
    limits = np.iinfo(counts.dtype)
    fits = code == np.round(code) and limits.min <= code <= limits.max
    return np.asarray(counts == counts.dtype.type(int(code))) if fits else np.zeros(counts.shape, bool)


def decoded(dataset: xr.Dataset, source: str, *, defaults: bool) -> xr.Dataset:
    """Return a dataset with values instead of counts, NaN where missing.

    Args:
        dataset: opened without masking and scaling.
        source: what messages call it.
        defaults: whether NetCDF's default fill values are missing values of a variable without a stated one.
    """
    changed = {}
    for name, item in dataset.variables.items():
        if (
            item.dtype.kind not in "iuf"
            or item.dtype.itemsize > 8
            or " since " in str(item.attrs.get("units", ""))
        ):
            continue
        if item.attrs.get("dtype") == "bool":
            continue
        changed[name] = _decoded(item, f"{source}: {name}", defaults=defaults)
    return dataset.assign(changed)


def _decoded(item: xr.Variable, label: str, *, defaults: bool) -> xr.Variable:
    coding, attributes = _coding(item, label, defaults=defaults)
    # Floats may hold codes that nothing states.
    plain = item.dtype.kind != "f" and (coding.scale, coding.offset) == (1.0, 0.0)
    unlimited = not np.isfinite([coding.low, coding.high]).any()
    if plain and unlimited and not coding.codes and not coding.undetect and coding.dtype == item.dtype:
        return xr.Variable(item.dims, item._data, attributes, item.encoding)
    values = mapped(item, coding)
    values.attrs = attributes
    return values


def _coding(item: xr.Variable, label: str, *, defaults: bool) -> tuple[_Coding, dict[str, Any]]:
    """Return how a variable is decoded, and the attributes that hold for its values."""
    attributes = {str(key): value for key, value in item.attrs.items()}
    dtype = _true_type(item.dtype, attributes)
    scale, offset = (
        _single(attributes, key, fallback, label)
        for key, fallback in (("scale_factor", 1.0), ("add_offset", 0.0))
    )
    codes: list[float] = []
    stated = False
    for key in [key for key in attributes if _plain(key) in _CODES]:
        stated |= _plain(key) == "fillvalue"
        for code in _numbers(attributes.pop(key), f"{label}: {key}"):
            codes += [_as_count(_unsigned(code, item.dtype, dtype), dtype, scale=scale, offset=offset)]
    if defaults and not stated and f"{dtype.kind}{dtype.itemsize}" in _DEFAULTS:
        codes.append(float(_DEFAULTS[f"{dtype.kind}{dtype.itemsize}"]))
    undetect = tuple(_numbers(attributes.pop("_Undetect", None), f"{label}: _Undetect"))
    low, high = _limits(attributes, item.dtype, dtype, scale=scale, offset=offset, label=label)
    for key in (*_PACKING, "valid_range", "valid_max"):
        attributes.pop(key, None)
    least = low * scale + offset if scale > 0 else high * scale + offset
    attributes.pop("valid_min", None)
    if np.isfinite(least):
        attributes["valid_min"] = np.float32(least)
    return _Coding(dtype, scale, offset, tuple(codes), low, high, undetect), attributes


def _limits(
    attributes: dict[str, Any],
    raw: np.dtype[Any],
    dtype: np.dtype[Any],
    *,
    scale: float,
    offset: float,
    label: str,
) -> tuple[float, float]:
    """Return the least and the largest valid count."""
    low, high = -np.inf, np.inf
    packed = (scale, offset) != (1.0, 0.0)
    for key in _LIMITS:
        given = attributes.get(key)
        numbers = _numbers(given, f"{label}: {key}")
        if len(numbers) != (2 if key == "valid_range" else 1):
            if numbers:
                warn(f"{label}: {key}: found {len(numbers)} numbers; it is not used")
            continue
        least, most = {"valid_min": (numbers[0], np.inf), "valid_max": (-np.inf, numbers[0])}.get(
            key, (numbers[0], numbers[-1])
        )
        if _in_counts(given, raw, packed=packed):
            least, most = _unsigned(least, raw, dtype), _unsigned(most, raw, dtype)
        else:
            # Half a count is the rounding of what was packed.
            least, most = sorted(((least - offset) / scale, (most - offset) / scale))
            least, most = least - 0.5, most + 0.5
        low, high = max(low, least), min(high, most)
    if low > high:
        warn(f"{label}: found a valid range from {low:g} to {high:g}, which holds nothing; it is not used")
        return -np.inf, np.inf
    return low, high


def _in_counts(given: Any, raw: np.dtype[Any], *, packed: bool) -> bool:
    """Tell whether a limit is meant in counts: always where nothing is packed, else by its type (NUG)."""
    if not packed or raw.kind == "f":
        return True
    if isinstance(given, str | bytes):
        text = given.decode("utf-8", "replace") if isinstance(given, bytes) else given
        return re.fullmatch(r"[-+\d,;\s]+[bslLuU]*", text.strip()) is not None
    return np.asarray(given).dtype.kind in "iu"


def _true_type(raw: np.dtype[Any], attributes: dict[str, Any]) -> np.dtype[Any]:
    """Return the type counts are meant in: classic NetCDF has no unsigned types and says so in an attribute."""
    said = str(_text(attributes.get("_Unsigned", ""))).lower()
    if said == "true" and raw.kind == "i":
        return np.dtype(f"{raw.byteorder if raw.itemsize > 1 else '|'}u{raw.itemsize}")
    if said == "false" and raw.kind == "u":
        return np.dtype(f"{raw.byteorder if raw.itemsize > 1 else '|'}i{raw.itemsize}")
    return raw


def _unsigned(code: float, raw: np.dtype[Any], dtype: np.dtype[Any]) -> float:
    """Return a code of the file's signed type as the unsigned count it stands for."""
    if raw.kind == "i" and dtype.kind == "u" and -np.inf < code < 0:
        return code + 2.0 ** (8 * raw.itemsize)
    return code


def _as_count(code: float, dtype: np.dtype[Any], *, scale: float, offset: float) -> float:
    """Return a code as a count; one that no count can be is taken as a value and packed."""
    if dtype.kind == "f" or not np.isfinite(code) or (scale, offset) == (1.0, 0.0):
        return code
    limits = np.iinfo(dtype)
    if code == np.round(code) and limits.min <= code <= limits.max:
        return code
    return float(np.round((code - offset) / scale))


def _single(attributes: dict[str, Any], key: str, fallback: float, label: str) -> float:
    """Return a number of an attribute, the fallback where there is none."""
    if key not in attributes:
        return fallback
    numbers = _numbers(attributes[key], f"{label}: {key}")
    if not numbers or not np.isfinite(numbers[0]) or (key == "scale_factor" and numbers[0] == 0):
        if numbers:
            warn(f"{label}: {key}: found {numbers[0]:g}, expected a number to pack with; it is not used")
        return fallback
    return numbers[0]


def _numbers(given: Any, label: str) -> list[float]:
    """Return the numbers in an attribute: a number, a list, or a text such as "-999.f"."""
    if given is None:
        return []
    if not isinstance(given, str | bytes) and np.asarray(given).dtype.kind in "iufb":
        return [float(number) for number in np.ravel(given)]
    text = _text(given)
    words = [word for word in re.split(r"[,;\s\[\]()]+", text) if word]
    found = [re.fullmatch(rf"({_NUMBER.pattern})[fFdDbBsSlLuU]*", word, re.IGNORECASE) for word in words]
    if not words or not all(found):
        warn(f"{label}: found '{text[:40]}', expected a number; it is not used")
        return []
    return [float(match[1]) for match in found if match]


def _text(given: Any) -> str:
    if isinstance(given, bytes):
        return given.decode("utf-8", "replace")
    if isinstance(given, np.ndarray):
        return " ".join(_text(part) for part in given.ravel())
    return str(given)


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def looks_like_a_code(value: Any) -> bool:
    """Tell whether Zarr's fill_value is a missing value: nobody means 0, which absent chunks hold by default."""
    if value is None or isinstance(value, str | bytes | bool | np.bool_):
        return False
    number = np.asarray(value)
    if number.dtype.kind not in "iuf" or number.ndim:
        return False
    if number.dtype.kind == "f":
        size = abs(float(number))
        nines = re.fullmatch(r"(9{3,}|8{3,}|7{3,})(\.9+)?", f"{size:.10g}")
        return not np.isfinite(size) or size >= 1e9 or nines is not None
    limits, code = np.iinfo(number.dtype), int(number)
    extremes = {limits.max, limits.max - 1, limits.min, limits.min + 1} - {0, 1}
    return code in extremes or re.fullmatch(r"(9{2,}|8{3,}|7{3,})", str(abs(code))) is not None
