"""What a table of observations is: rows, places, times, and the range of every variable in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from assimilation.fields.grid import Variable
from assimilation.fields.plausible import limits
from assimilation.fields.units import canonical
from assimilation.io.foreign.normalise import STANDARD
from assimilation.io.observations.columns import CODES, without_codes
from assimilation.io.observations.tables import read_table
from priors.runtime.errors import InputError
from priors.runtime.inspection import Inspection


def inspect_table(path: Path) -> Inspection:
    """Describe a CSV or Parquet table of observations.

    Raises:
        InputError: it cannot be read, or lacks a column, every row or a number.
    """
    frame, layout = read_table(path)
    frame = without_codes(frame, ("value", "sigma", "latitude", "longitude", "y", "x"))
    axes = ("latitude", "longitude") if "latitude" in frame.columns else ("y", "x")
    times = _times(frame, path)
    facts = {
        "format": f"table ({path.suffix[1:].lower()})",
        "rows": str(len(frame)),
        "times": f"{times.min()} .. {times.max()} ({times.nunique()} different)",
    }
    for name in axes:
        values = _numbers(frame, name, path)
        facts[name] = f"{np.nanmin(values):.6g} .. {np.nanmax(values):.6g}"
    facts["places"] = f"{len(frame[list(axes)].drop_duplicates())} different"
    if "trajectory" in frame.columns:
        facts["trajectories"] = str(frame["trajectory"].nunique())
    for variable, rows in frame.groupby("variable"):
        facts[str(variable)] = _summary(rows, path)
    if layout is not None:
        facts["state"] = f"{layout.grid.shape[0]} x {layout.grid.shape[1]} points, {layout.times.size} times"
    return Inspection("observations in a table", facts, tuple(_warnings(frame, path, axes)))


def _summary(rows: Any, path: Path) -> str:
    """Return unit, range, errors and missing share of one variable."""
    values, sigma = _numbers(rows, "value", path), _numbers(rows, "sigma", path)
    units = (
        ", ".join(sorted({str(unit) for unit in rows["unit"]}))
        if "unit" in rows.columns
        else "the state's unit"
    )
    if not np.isfinite(values).any():
        return f"no value at all, {units}"
    missing = 100 * float(np.isnan(values).mean())
    return (
        f"{np.nanmin(values):.5g} .. {np.nanmax(values):.5g} {units}, sigma {np.nanmin(sigma):.3g} .. "
        f"{np.nanmax(sigma):.3g}, {missing:.3g} % missing, {len(rows)} rows"
    )


def _warnings(frame: Any, path: Path, axes: tuple[str, str]) -> list[str]:
    sentences = list(_codes(frame, path))
    sigma = _numbers(frame, "sigma", path)
    if not (sigma > 0).all():
        sentences.append(f"sigma: {int((~(sigma > 0)).sum())} rows have none that is positive")
    keys = [name for name in ("trajectory", "time", *axes, "variable") if name in frame.columns]
    twice = int(frame.duplicated(keys).sum())
    if twice:
        sentences.append(f"{twice} rows repeat the time, place and variable of another")
    if axes[0] == "latitude" and (np.abs(_numbers(frame, "latitude", path)) > 90).any():
        sentences.append("latitude: some rows lie beyond a pole")
    return sentences


def _codes(frame: Any, path: Path) -> Iterator[str]:
    """Yield how many values of each variable are codes of missing, or beyond what nature reaches."""
    for name, rows in frame.groupby("variable"):
        values = _numbers(rows, "value", path)
        units = {str(unit) for unit in rows["unit"]} if "unit" in rows.columns else set()
        standard = STANDARD.get(str(name), str(name))
        unit = canonical(standard, units.pop() if len(units) == 1 else "")
        low, high = limits(Variable(str(name), unit, standard)) if not units else (-np.inf, np.inf)
        wrong = np.isin(values, CODES[:5]) & ~((values >= low) & (values <= high) & np.isfinite(low))
        if len({str(unit) for unit in rows.get("unit", [unit])} - {unit}) == 0:
            wrong |= (values < low) | (values > high)
        if wrong.any():
            yield (
                f"{name}: {int(wrong.sum())} of {len(rows)} values such as {values[wrong][0]:g} are codes, or of "
                "another unit; they are left out where the table is used"
            )


def _times(frame: Any, path: Path) -> Any:
    import pandas

    try:
        return pandas.to_datetime(frame["time"], utc=True, format="ISO8601").dt.tz_localize(None)
    except (ValueError, TypeError, OverflowError) as error:
        raise InputError(f"{path}: time: found a text that is no ISO 8601 time ({error})") from error


def _numbers(frame: Any, name: str, path: Path) -> np.ndarray:
    """Return a column as numbers, NaN where a cell is empty."""
    import pandas

    try:
        return np.asarray(pandas.to_numeric(frame[name]), np.float64)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: {name}: found a text that is no number ({error})") from error
