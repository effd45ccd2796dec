"""Times: what files round, and which of two lists of times are the same moments.

Two times are one moment where they differ by a hundredth of a step at most.
"""

from typing import Any

import numpy as np
import xarray as xr

from priors.runtime.errors import InputError, warn

SAME = 0.01
"""Largest difference of two times that are one moment, as a share of a step."""
FIRST, LAST = np.datetime64("1678-01-01", "s"), np.datetime64("2262-01-01", "s")
"""The times that 64 bits of nanoseconds hold."""
_SECONDS = {
    "day": 86400.0,
    "d": 86400.0,
    "hour": 3600.0,
    "hr": 3600.0,
    "h": 3600.0,
    "minute": 60.0,
    "min": 60.0,
}


def nanoseconds(times: np.ndarray, label: str) -> np.ndarray:
    """Return datetime64 of any resolution as datetime64[ns].

    Raises:
        InputError: one is outside the range that nanoseconds hold, where they would silently wrap around.
    """
    seconds = times.astype("datetime64[s]")
    known = seconds[~np.isnat(seconds)]
    if known.size and (known.min() < FIRST or known.max() >= LAST):
        raise InputError(f"{label}: found {known.min()} to {known.max()}, expected times from 1678 to 2261")
    return times.astype("datetime64[ns]")


def places_of(wanted: np.ndarray, held: np.ndarray, tolerance: np.timedelta64 | None = None) -> np.ndarray:
    """Return the index among ``held`` (ascending) of every wanted time, -1 where there is none.

    Args:
        wanted: datetime64[ns].
        held: datetime64[ns], ascending.
        tolerance: largest difference; a hundredth of the shortest step of either where not given.
    """
    if tolerance is None:
        steps = [np.diff(np.sort(times.astype("int64"))) for times in (wanted, held)]
        every = np.concatenate(steps)
        shortest = int(every[every > 0].min()) if (every > 0).any() else 10**9
        tolerance = np.timedelta64(max(int(SAME * shortest), 1000), "ns")
    right = np.clip(np.searchsorted(held, wanted), 1, max(held.size - 1, 1))
    left = right - 1
    right = np.minimum(right, held.size - 1)
    nearest = np.where(np.abs(held[left] - wanted) <= np.abs(held[right] - wanted), left, right)
    return np.asarray(np.where(np.abs(held[nearest] - wanted) <= tolerance, nearest, -1))


def unrounded(coded: xr.Dataset, decoded: xr.Dataset, source: str) -> xr.Dataset:
    """Return a dataset whose times, stored as floats, are the round ones they stand for.

    Args:
        coded: before its times were decoded.
        decoded: the same afterwards.
        source: what messages call it.
    """
    changed: dict[Any, Any] = {}
    for name, item in coded.variables.items():
        unit = str(item.attrs.get("units", ""))
        if (
            " since " not in unit
            or item.dtype.kind != "f"
            or decoded[name].dtype.kind != "M"
            or not item.size
        ):
            continue
        scale = _SECONDS.get(unit.split(" since ")[0].strip().lower().rstrip("s"), 1.0)
        stored = np.abs(item.values[np.isfinite(item.values)])
        error = float(np.spacing(stored.max())) * scale if stored.size else 0.0
        times = _rounded(decoded[name].values, error)
        if error > 1.0:
            warn(f"{source}: {name}: times are stored as {item.dtype} and known to {error:.3g} s only")
        changed[name] = (decoded[name].dims, times, decoded[name].attrs, decoded[name].encoding)
    return decoded.assign_coords({k: v for k, v in changed.items() if k in decoded.coords}).assign(
        {k: v for k, v in changed.items() if k not in decoded.coords}
    )


def _rounded(times: np.ndarray, error: float) -> np.ndarray:
    """Return times at full seconds where the error of storage explains the difference."""
    if times.dtype != np.dtype("datetime64[ns]") or np.isnat(times).any():
        return times
    counts = times.astype("int64")
    if error > 1.0 and times.ndim == 1 and times.size > 2:
        # Even steps of whole minutes, as the rounding of each allows.
        step = round((counts[-1] - counts[0]) / (times.size - 1) / 60e9) * 60_000_000_000
        first = round(counts[0] / 60e9) * 60_000_000_000
        even = first + step * np.arange(times.size, dtype="int64")
        if step > 0 and np.abs(even - counts).max() <= 2e9 * error:
            return np.asarray(even.astype("datetime64[ns]"))
    second = 1_000_000_000
    whole = (counts + second // 2) // second * second
    near = np.abs(whole - counts) <= max(2e9 * min(error, 0.2), 1e3)
    return np.asarray(np.where(near, whole, counts).astype("datetime64[ns]"))
