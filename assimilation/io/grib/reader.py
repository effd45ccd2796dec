"""GRIB files as datasets whose values are read from the messages when they are wanted.

    dataset[name] ([number,] time, y | latitude, x | longitude)              every valid time once
    dataset[name] ([number,] time, step, y | latitude, x | longitude)        several starts by several steps

A file may hold variables on different grids or at different times; those that share both with the wanted variable, or
the only such family, are read.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from assimilation.io.grib.grids import MessageGrid, grid_of
from assimilation.io.grib.messages import (
    SIGNATURE,
    Field,
    check_messages,
    fields_of,
    handles,
    text_of,
    values_of,
)
from assimilation.io.grib.names import named
from assimilation.io.grib.sums import Cell, cells_of
from priors.runtime.errors import InputError, warn

_NEVER_NEGATIVE = ("tp", "cp", "lsp", "sf", "acpcp", "ncpcp", "tprate", "prate", "rain_rate")
_MOST = 4  # frames of starts by steps and members for each field there is: more are no product of the three


def is_grib(path: Path) -> bool:
    """Tell whether a file begins as GRIB."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(SIGNATURE)) == SIGNATURE


@contextmanager
def opened_grib(path: Path, variable: str | None = None) -> Iterator[xr.Dataset]:
    """Yield the dataset in a GRIB file.

    Args:
        path: the file.
        variable: name of a variable that must be in it.

    Raises:
        InputError: eccodes is not installed, the file is damaged or truncated, its grid cannot be read, or it holds
            several families of variables and none was chosen.
    """
    check_messages(path)
    try:
        # Two copies of libproj meet in one process; the interpreter ends cleanly only if pyproj's comes first.
        import_module("pyproj")
        import_module("eccodes")
    except (ImportError, RuntimeError) as error:
        raise InputError(f"{path}: GRIB needs cfgrib and eccodes; pip install 'tomocast[grib]'") from error
    try:
        dataset = _dataset(path, variable)
    except (InputError, MemoryError):
        raise
    except Exception as error:
        # eccodes has its own errors for what a damaged message can cause.
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"{path}: is not readable as GRIB ({reason})") from error
    yield dataset


def _dataset(path: Path, variable: str | None) -> xr.Dataset:
    variables = named(fields_of(path))
    if not variables:
        raise InputError(f"{path}: holds no GRIB message")
    family = _family(variables, variable, path)
    first = variables[family[0]][0]
    with handles(path, first.offset) as messages:
        for place, handle in enumerate(messages):
            if place == first.place:
                try:
                    grid = grid_of(handle)
                except InputError as error:
                    raise InputError(f"{path}: {first.name}: {error}") from error
                institution = text_of(handle, "centreDescription")
                break
    dataset = xr.Dataset(attrs={"institution": institution})
    if grid.projection:
        dataset.attrs["projection"] = grid.projection
    frames = {name: cells_of(variables[name], f"{path}: {name}") for name in family}
    layout = _Layout(list(frames.values()), path)
    for name, cells in frames.items():
        held = indexing.LazilyIndexedArray(_Frames(path, layout.placed(cells, f"{path}: {name}"), grid))
        field = cells[0].field
        attributes = {"units": field.unit, "long_name": name, "step_type": field.step_type}
        if field.standard_name:
            attributes["standard_name"] = field.standard_name
        dataset[name] = xr.Variable((*layout.dims, *grid.names), held, attributes)
    dataset = dataset.assign_coords(layout.coordinates())
    unit = {"latitude": "degrees_north", "longitude": "degrees_east"}
    fallback = "degree" if "ob_tran" in grid.projection else "km"
    return dataset.assign_coords(
        {
            axis: (axis, values, {"units": unit.get(axis, fallback)})
            for axis, values in zip(grid.names, (grid.y, grid.x), strict=True)
        }
    )


def _family(variables: Mapping[str, Sequence[Field]], wanted: str | None, path: Path) -> list[str]:
    """Return the names of the variables that share grid and times with the wanted one, or of the only family."""
    families: dict[Any, list[str]] = defaultdict(list)
    for name, fields in variables.items():
        grids = {field.grid for field in fields}
        if len(grids) > 1:
            # The same name on two grids: neither can be meant by the name alone.
            families[name, "grids"].append(name)
            continue
        moments = frozenset((field.number, field.valid) for field in fields)
        families[grids.pop(), moments].append(name)
    names = ", ".join(variables)
    if wanted is not None:
        chosen = [family for family in families.values() if wanted in family]
        if not chosen:
            raise InputError(f"{path}: variable: found '{wanted}', expected one of {names}")
    else:
        chosen = _largest(list(families.values()), variables, path)
    for key, family in families.items():
        if family in chosen and key[1] == "grids":
            raise InputError(
                f"{path}: {family[0]}: found it on grids of different sizes, expected one of them"
            )
    if len(chosen) != 1:
        raise InputError(
            f"{path}: found {names} on different grids or at different times, expected one family (choose a variable)"
        )
    return chosen[0]


def _largest(
    families: list[list[str]], variables: Mapping[str, Sequence[Field]], path: Path
) -> list[list[str]]:
    """Leave out variables of a single time beside others of many, as land masks are."""
    if len(families) < 2:
        return families
    static = [
        family for family in families if all(len({f.valid for f in variables[name]}) == 1 for name in family)
    ]
    moving = [family for family in families if family not in static]
    if len(moving) == 1 and static:
        names = ", ".join(name for family in static for name in family)
        warn(f"{path}: {names}: left out beside variables of many times (choose a variable to read it)")
        return moving
    return families


class _Layout:
    """Where the frames of all variables lie along member, time and step."""

    def __init__(self, variables: Sequence[Sequence[Cell]], path: Path) -> None:
        fields = [cell.field for cells in variables for cell in cells]
        self.numbers = sorted({field.number for field in fields})
        valid = {(field.start, field.end): field.valid for field in fields}
        self.unique = len({*valid.values()}) == len(valid)
        self.valid = np.array(sorted({*valid.values()}), "datetime64[s]")
        self.starts = np.array(sorted({field.start for field in fields}), "datetime64[s]")
        self.ends = np.array(sorted({field.end for field in fields}), "int64")
        self.dims = ("number", "time") if self.unique else ("number", "time", "step")
        size = len(self.numbers) * self.starts.size * self.ends.size
        if not self.unique and size > _MOST * len(
            {(field.number, field.start, field.end) for field in fields}
        ):
            raise InputError(
                f"{path}: time: found {self.starts.size} starts, {self.ends.size} steps, {len(self.numbers)} members "
                "with overlapping valid times, most of whose combinations are absent; expected every valid time once, "
                "or several starts by several steps (choose one start or one member before)"
            )
        self._place = {time: place for place, time in enumerate(self.valid.tolist())}

    def placed(self, cells: Sequence[Cell], label: str) -> np.ndarray:
        """Return the frames as an array (number, time[, step]), None where there is none."""
        sizes = (self.valid.size,) if self.unique else (self.starts.size, self.ends.size)
        frames = np.full((len(self.numbers), *sizes), None, object)
        for cell in cells:
            field = cell.field
            if self.unique:
                place: tuple[int, ...] = (self._place[field.valid.astype("datetime64[s]").item()],)
            else:
                place = (
                    int(np.searchsorted(self.starts, field.start)),
                    int(np.searchsorted(self.ends, field.end)),
                )
            frames[(self.numbers.index(field.number), *place)] = cell
        absent = int(sum(frame is None for frame in frames.ravel()))
        if absent:
            warn(f"{label}: {absent} of {frames.size} fields are absent and count as missing")
        return frames

    def coordinates(self) -> dict[str, Any]:
        """Return the coordinates along member, time and step."""
        coords: dict[str, Any] = {"number": ("number", np.array(self.numbers))}
        if self.unique:
            coords["time"] = ("time", self.valid.astype("datetime64[ns]"))
            if self.starts.size == 1:
                coords["start_of_forecast"] = ((), self.starts[0].astype("datetime64[ns]"))
        else:
            coords["time"] = ("time", self.starts.astype("datetime64[ns]"))
            coords["step"] = ("step", self.ends.astype("timedelta64[s]").astype("timedelta64[ns]"))
        return coords


class _Frames(BackendArray):
    """The frames of one variable, read message by message."""

    def __init__(self, path: Path, frames: np.ndarray, grid: MessageGrid) -> None:
        self.path, self.frames, self.grid = path, frames, grid
        self.shape = (*frames.shape, grid.y.size, grid.x.size)
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        depth = self.frames.ndim
        kept = [index for index in key[:depth] if not isinstance(index, int | np.integer)]
        leading = [
            np.atleast_1d(np.arange(n)[index]) for n, index in zip(self.shape, key[:depth], strict=False)
        ]
        wanted = self.frames[np.ix_(*leading)]
        image = np.ix_(*(np.arange(n) for n in self.shape[depth:]))
        parts = [self._image(cell)[image][key[depth]][..., key[depth + 1]] for cell in wanted.ravel()]
        stacked = np.stack(parts).reshape(*wanted.shape, *parts[0].shape)
        # An integer takes its axis away.
        taken = tuple(slice(None) if not isinstance(index, int | np.integer) else 0 for index in key[:depth])
        assert len(kept) == sum(isinstance(index, slice) for index in taken)
        return np.asarray(stacked[taken], np.float32)

    def _image(self, cell: Cell | None) -> np.ndarray:
        """Return one frame (y, x)."""
        if cell is None or np.isnan(cell.terms[0][0]):
            return np.full((self.grid.y.size, self.grid.x.size), np.nan)
        total = sum(weight * values_of(self.path, field) for weight, field in cell.terms)
        image = self.grid.image(np.asarray(total))
        if len(cell.terms) > 1 and cell.field.name in _NEVER_NEGATIVE:
            # Sums are packed, so that a dry step may lose a little.
            image = np.maximum(image, 0.0)
        return image
