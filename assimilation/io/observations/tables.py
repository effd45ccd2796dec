"""Observations as tables, CSV or Parquet: time, latitude, longitude (or y, x), variable, value, sigma.

Optional columns: ``trajectory`` (0 where absent) and ``unit`` (that of the variable where absent). A table written
here also holds the state it observes, so that it can be used alone: grid, variables and analysis times as JSON,
in a CSV behind ``# tomocast `` on the first line, in Parquet under the key ``tomocast`` of its metadata.
"""

from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from assimilation.fields.grid import Grid, Variable
from assimilation.fields.plausible import limits
from assimilation.fields.units import affine
from assimilation.io.observations.columns import (
    ALIASES,
    CODES,
    Rejected,
    described,
    read_text,
    separators,
    traces,
    without_codes,
)
from assimilation.io.observations.layout import Layout
from assimilation.observation.instruments import position
from assimilation.observation.stream import Rows
from priors.runtime.errors import InputError, warn
from priors.runtime.files.bounds import check_fits
from priors.runtime.files.writing import atomic

SUFFIXES = (".csv", ".parquet")
NUMBER = 8
"""Bytes of a number or of a reference to a text in memory."""
_KEY = "tomocast"
_MARK = f"# {_KEY} "


def write_table(path: Path, columns: dict[str, np.ndarray], layout: Layout) -> None:
    """Write a table with the state it observes.

    Raises:
        InputError: the file cannot be written.
    """
    import pandas

    frame, told = pandas.DataFrame(columns), layout.to_json()
    with atomic(path) as temporary:
        if path.suffix == ".csv":
            with temporary.open("w", encoding="utf-8") as stream:
                stream.write(f"{_MARK}{told}\n")
                frame.assign(time=_texts(columns["time"])).to_csv(stream, index=False)
            return
        import pyarrow
        import pyarrow.parquet

        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        metadata = {**(table.schema.metadata or {}), _KEY.encode(): told.encode()}
        pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), temporary)


def read_table(path: Path) -> tuple[Any, Layout | None]:
    """Return the data frame in a CSV or Parquet file, and the state it was written for where it tells.

    Raises:
        InputError: the file cannot be read, or lacks a column or every row.
    """
    path = Path(path)
    try:
        frame, told = _read_csv(path) if path.suffix == ".csv" else _read_parquet(path)
        layout = None if told is None else Layout.from_json(told)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:
        # pandas and pyarrow fail on damaged files in many ways (Parser, Unicode, ArrowInvalid, EOF, ...).
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"{path}: is not readable as a table ({reason})") from error
    return checked_table(frame, path), layout


def checked_table(frame: Any, path: Path) -> Any:
    """Return a data frame with the usual names of its columns.

    Args:
        frame: of pandas.
        path: what messages call it.

    Raises:
        InputError: a column is lacking, or there are no rows.
    """
    frame = frame.rename(columns=lambda name: str(name).strip().lower()).rename(columns=_spelt)
    places = {"latitude", "longitude"} if "latitude" in frame.columns else {"y", "x"}
    needed = ["time", *sorted(places), "variable", "value", "sigma"]
    lacking = [name for name in needed if name not in frame.columns]
    if lacking:
        raise InputError(
            f"{path}: found columns {', '.join(map(str, frame.columns))}, expected also {', '.join(lacking)}"
        )
    if len(frame) == 0:
        raise InputError(f"{path}: found no rows, expected one observation at least")
    return frame


def to_rows(frame: Any, *, variables: tuple[Variable, ...], grid: Grid, source: str) -> Rows:
    """Return the valid rows of a data frame; a row without a value is left out.

    Raises:
        InputError: a time, number, unit or variable that cannot be used, a sigma that is not positive, rows
            that say twice what one instrument saw, or no row with a value.
    """
    rejected = Rejected(source, len(frame))
    frame = traces(frame, source)
    frame = without_codes(frame, ("value", "sigma", "latitude", "longitude", "y", "x"))
    frame = frame[~_missing(frame["value"])].reset_index(drop=True)
    if len(frame) == 0:
        raise InputError(f"{source}: value: every row is missing, expected one observation at least")
    frame = _with_numbers(frame, rejected)
    frame = _with_error(frame, rejected)
    frame = _inside(frame, grid, rejected)
    value, sigma = (_numbers(frame, name, source) for name in ("value", "sigma"))
    channel = np.array([_channel(name, variables, source) for name in frame["variable"]], np.int64)
    # A code is no number of a unit: it goes before values are converted.
    # Where nothing is known of a variable, rows of nines with a minus are codes all the same.
    unknown = np.array([not np.isfinite(limits(item)[0]) for item in variables])[channel]
    codes = (np.isin(value, CODES) & ~_plausible(value, channel, variables)) | (
        np.isin(value, CODES[:5]) & unknown
    )
    converted, errors = _converted(frame, value, sigma, [variables[k] for k in channel], source=source)
    wrong = codes | ~_plausible(converted, channel, variables)
    kept = ~wrong

    def reason(row: int) -> str:
        item = variables[channel[row]]
        low, high = limits(item)
        if not np.isfinite(low):
            return f"{item.name}: found {value[row]:g}, a code of missing"
        return (
            f"{item.name}: found {value[row]:g}, which is outside {low:g} to {high:g} {item.unit} (a code, or "
            "another unit?)"
        )

    frame = rejected.leave_out(frame, wrong, reason)
    y, x = _coordinates(frame, grid, source)
    trajectory = (
        _numbers(frame, "trajectory", source).astype(np.int64)
        if "trajectory" in frame.columns
        else np.zeros(len(frame), np.int64)
    )
    if (trajectory < 0).any():
        raise InputError(f"{source}: trajectory: found {trajectory.min()}, expected 0 or more")
    rows = Rows(trajectory, _times(frame, source), y, x, channel[kept], converted[kept], errors[kept])
    _refuse_duplicates(rows, source)
    return rows


def _spelt(name: str) -> str:
    return ALIASES.get(name, name)


def _with_numbers(frame: Any, rejected: Rejected) -> Any:
    """Return the rows whose value is a number; texts such as 12.3* are left out and counted."""
    wrong = ~np.isfinite(np.asarray(_to_numeric(frame["value"]), np.float64))
    texts = frame["value"].astype(str).to_numpy()
    return rejected.leave_out(frame, wrong, lambda row: f"value: found '{texts[row]}', expected a number")


def _with_error(frame: Any, rejected: Rejected) -> Any:
    """Return the rows that have an error; what is no positive number is refused, what is a code of missing left out."""
    numbers = np.asarray(_to_numeric(frame["sigma"]), np.float64)
    absent = _missing(frame["sigma"]) | np.isin(numbers, CODES[:7])
    frame = rejected.leave_out(frame, absent, lambda row: "sigma: found none, expected a positive number")
    sigma = _numbers(frame, "sigma", rejected.source)
    if not (sigma > 0).all():
        row = int(np.argmin(sigma > 0))
        raise InputError(
            f"{rejected.source}: sigma: found {sigma[row]:g} in row {row + 1}, expected a positive number"
        )
    return frame


def _inside(frame: Any, grid: Grid, rejected: Rejected) -> Any:
    """Return the rows at places on the grid; a table without any is left to those who place it."""
    axes = ("latitude", "longitude") if "latitude" in frame.columns else ("y", "x")
    numbers = [np.asarray(_to_numeric(frame[name]), np.float64) for name in axes]
    unplaced = ~np.isfinite(numbers).all(axis=0) & (_missing(frame[axes[0]]) | _missing(frame[axes[1]]))
    frame = rejected.leave_out(frame, unplaced, lambda row: f"{axes[0]}: found no place")
    try:
        y, x = _coordinates(frame, grid, rejected.source)
    except InputError:
        # What one place says is left out below; what all say wrongly is refused where they are used.
        numbers = [np.asarray(_to_numeric(frame[name]), np.float64) for name in axes]
        wrong = np.abs(numbers[0]) > 90 if axes[0] == "latitude" else np.zeros(len(frame), bool)
        if not wrong.any() or wrong.all():
            raise
        frame = rejected.leave_out(
            frame, wrong, lambda row: f"latitude: found {numbers[0][row]:g}, expected -90 to 90"
        )
        y, x = _coordinates(frame, grid, rejected.source)
    outside = ~_on_grid(grid, y, x)
    if outside.all():
        return frame
    return rejected.leave_out(
        frame,
        outside,
        lambda row: (
            f"{axes[0]}, {axes[1]}: found ({y[row]:g}, {x[row]:g}), outside the grid ({grid.y[0]:g}, {grid.x[0]:g}) to "
            f"({grid.y[-1]:g}, {grid.x[-1]:g})"
        ),
    )


def _on_grid(grid: Grid, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return which places lie on the cells of a grid."""
    inside = np.isfinite(y) & np.isfinite(x)
    for axis, step, places, closed, turn in zip(
        (grid.y, grid.x), grid.spacing, (y, x), grid.periodic, (False, grid.kind == "sphere"), strict=True
    ):
        if closed:
            continue
        edge = 0.5 * step * (1 + 1e-6)
        shifted = axis[0] - edge + (places - axis[0] + edge) % 360 if turn else places
        inside &= (shifted >= axis[0] - edge) & (shifted <= axis[-1] + edge)
    return np.asarray(inside)


def _plausible(value: np.ndarray, channel: np.ndarray, variables: tuple[Variable, ...]) -> np.ndarray:
    """Return which values nature is known to reach."""
    low, high = (np.array([limits(item)[end] for item in variables])[channel] for end in (0, 1))
    return np.asarray((value >= low) & (value <= high))


def _to_numeric(column: Any) -> Any:
    import pandas

    return pandas.to_numeric(column, errors="coerce")


def _read_csv(path: Path) -> tuple[Any, str | None]:
    import pandas

    text = described(read_text(path)[0])
    first = text.split("\n", 1)[0]
    told = first.removeprefix(_MARK) if first.startswith(_MARK) else None
    if not first.strip():
        raise InputError("is empty, expected a table")
    mark, decimal = separators(text)
    if (mark, decimal) != (",", "."):
        shown = {";": "semicolons", "\t": "tabs", "|": "bars"}[mark]
        comma = " and decimal commas" if decimal == "," else ""
        warn(f"{path}: read with {shown} between columns{comma}")
    frame = pandas.read_csv(
        StringIO(text), comment="#", skipinitialspace=True, sep=mark, decimal=decimal, keep_default_na=True
    )
    return frame, told


def _read_parquet(path: Path) -> tuple[Any, str | None]:
    import pyarrow.parquet

    said = pyarrow.parquet.read_metadata(path)
    # Runs of one value take next to nothing in the file, and as much as any others in memory.
    groups = (said.row_group(index).total_byte_size for index in range(said.num_row_groups))
    check_fits(path.name, max(NUMBER * said.num_rows * said.num_columns, sum(groups)))
    table = pyarrow.parquet.read_table(path)
    told = (table.schema.metadata or {}).get(_KEY.encode())
    return table.to_pandas(), None if told is None else told.decode()


def _texts(times: np.ndarray) -> np.ndarray:
    """Return ISO 8601 times to the second, or to the nanosecond where a second is not enough."""
    whole = (times == times.astype("datetime64[s]")).all()
    return np.datetime_as_string(times, unit="s" if whole else "ns")


def _missing(column: Any) -> np.ndarray:
    return np.asarray(column.isna(), dtype=bool)


def _numbers(frame: Any, name: str, source: str) -> np.ndarray:
    """Return a column as finite float64."""
    import pandas

    numbers = np.asarray(pandas.to_numeric(frame[name], errors="coerce"), np.float64)
    bad = ~np.isfinite(numbers)
    if bad.any():
        row = int(np.argmax(bad))
        raise InputError(
            f"{source}: {name}: found '{frame[name].iloc[row]}' in row {row + 1}, expected a number"
        )
    return numbers


def _times(frame: Any, source: str) -> np.ndarray:
    """Return the column of times, UTC where a zone is stated."""
    import pandas

    column = _compact(frame["time"])
    try:
        times = pandas.to_datetime(column, utc=True, format="ISO8601")
    except (ValueError, TypeError, OverflowError) as error:
        reason = str(error).split("You might")[0].strip().rstrip(".")
        raise InputError(f"{source}: time: found a text that is no ISO 8601 time ({reason})") from error
    if times.isna().any():
        raise InputError(f"{source}: time: found a row without one, expected ISO 8601 times")
    return np.asarray(times.dt.tz_localize(None), dtype="datetime64[ns]")


def _compact(column: Any) -> Any:
    """Return times as ISO 8601 where all are written as twelve or fourteen digits, YYYYMMDDhhmm[ss]."""
    texts = column.astype("string").str.strip()
    if not bool(texts.str.fullmatch(r"(19|20)\d{10}(\d\d)?").fillna(False).all()):
        return column
    return texts.str.slice(0, 8) + "T" + texts.str.slice(8)


def _channel(name: Any, variables: tuple[Variable, ...], source: str) -> int:
    standard = [k for k, item in enumerate(variables) if item.standard_name == str(name)]
    try:
        return standard[0] if len(standard) == 1 else position(variables, str(name))
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def _converted(
    frame: Any, value: np.ndarray, sigma: np.ndarray, meant: list[Variable], *, source: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return values and errors in the unit of their variable."""
    if "unit" not in frame.columns:
        return value, sigma
    stated = [meant[row].unit if text != text else str(text) for row, text in enumerate(frame["unit"])]
    pairs = {(unit, item.unit) for unit, item in zip(stated, meant, strict=True)}
    maps = {pair: affine(*pair, label=f"{source}: unit") for pair in pairs}
    chosen = np.array([maps[unit, item.unit] for unit, item in zip(stated, meant, strict=True)])
    return value * chosen[:, 0] + chosen[:, 1], sigma * np.abs(chosen[:, 0])


def _coordinates(frame: Any, grid: Grid, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the coordinates on the grid; geographic ones are projected onto a plane that has a projection."""
    if "latitude" not in frame.columns:
        if grid.kind == "sphere":
            raise InputError(f"{source}: found columns y and x, expected latitude and longitude")
        return _numbers(frame, "y", source), _numbers(frame, "x", source)
    latitude, longitude = (_numbers(frame, name, source) for name in ("latitude", "longitude"))
    if (np.abs(latitude) > 90).any():
        raise InputError(
            f"{source}: latitude: found {latitude[np.abs(latitude) > 90][0]:g}, expected -90 to 90"
        )
    if grid.kind == "sphere":
        return latitude, longitude
    if not grid.projection:
        raise InputError(
            f"{source}: found latitude and longitude, expected y and x: the grid has no projection"
        )
    import pyproj

    x, y = pyproj.Transformer.from_crs("EPSG:4326", grid.projection, always_xy=True).transform(
        longitude, latitude
    )
    return np.asarray(y), np.asarray(x)


def _refuse_duplicates(rows: Rows, source: str) -> None:
    """Refuse rows at the same trajectory, time, place and variable: one would silently count twice."""
    keys = np.stack(
        [rows.trajectory.astype(float), rows.time.astype("int64").astype(float), rows.y, rows.x, rows.channel]
    )
    _, first, counts = np.unique(keys, axis=1, return_index=True, return_counts=True)
    if (counts > 1).any():
        row = int(first[counts > 1].min())
        raise InputError(
            f"{source}: found {int((counts - 1).sum())} duplicate rows (time, place and variable of row "
            f"{row + 1} occur again), expected each observation once"
        )
