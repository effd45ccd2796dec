"""What a file of fields or observations is: variables with unit and range, grid, times, members, what is missing.

Every frame is looked at, one at a time, up to ``BUDGET`` bytes; of a larger file evenly spaced frames are, and the
description says so.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from assimilation.fields.grid import Grid, Variable
from assimilation.fields.plausible import limits
from assimilation.fields.streams import FieldStream
from assimilation.inspect.table import inspect_table
from assimilation.io.observations.tables import SUFFIXES
from assimilation.io.registry import READERS, open_dataset, open_stream, reader_of
from priors.runtime.errors import warnings_kept
from priors.runtime.inspection import Inspection

BUDGET = 2 * 2**30
_EVEN = 1e-3
_LINES = 24


def claims(path: Path) -> bool:
    """Tell whether a path looks like fields or observations: a file, a Zarr folder, a folder of radar composites."""
    return path.suffix.lower() in SUFFIXES or any(reader.claims(path) for reader in READERS)


def inspect_file(path: Path) -> Inspection:
    """Describe fields or observations.

    Raises:
        InputError: they are damaged, of an unknown kind, or must be refused; the message says why.
    """
    path = Path(path)
    with warnings_kept() as said:
        inspection = inspect_table(path) if path.suffix.lower() in SUFFIXES else _fields(path)
    prefix = f"{path}: "
    return replace(inspection, warnings=(*(text.removeprefix(prefix) for text in said), *inspection.warnings))


def _fields(path: Path) -> Inspection:
    """Describe fields or gridded observations."""
    with open_stream(path) as stream:
        seen = _look(stream)
        facts = {
            "format": reader_of(path).kind,
            **_shape(stream),
            **_grid(stream.grid),
            **(_times(stream.times) if stream.starts is None else _leads(stream)),
            **seen.facts(stream),
            **seen.share(stream),
            **{key: stream.attributes[key] for key in ("title", "institution", "source", "normalised", "calendars")
               if key in stream.attributes},
        }  # fmt: skip
        kind = "ensemble" if stream.members > 1 else "fields"
        observed = _observed(path)
        warnings = [*_irregular(stream), *seen.warnings(stream)]
    return Inspection("observations on a grid" if observed else kind, {**facts, **observed}, tuple(warnings))


class _Seen:
    """Least, largest and mean value of every variable, and how many were missing."""

    def __init__(self, variables: int) -> None:
        self.frames = 0
        self.values = 0
        self.low, self.high = np.full(variables, np.inf), np.full(variables, -np.inf)
        self.total, self.finite = np.zeros(variables), np.zeros(variables, np.int64)
        self.empty = 0

    def add(self, frame: np.ndarray) -> None:
        """Take in a frame (m, k, y, x)."""
        self.frames += 1
        self.values += frame[:, 0].size
        finite = np.isfinite(frame)
        self.empty += not finite.any()
        for k in range(frame.shape[1]):
            values = frame[:, k][finite[:, k]].astype(np.float64)
            if values.size:
                self.low[k] = min(self.low[k], values.min())
                self.high[k] = max(self.high[k], values.max())
                self.total[k] += values.sum()
                self.finite[k] += values.size

    def facts(self, stream: FieldStream) -> dict[str, str]:
        """Return unit, range, mean and missing share of every variable; levels of one quantity together."""
        facts = {}
        for name, columns in _quantities(stream.variables).items():
            variable = stream.variables[columns[0]]
            named = f" ({variable.standard_name})" if variable.standard_name else ""
            finite, low, high = self.finite[columns].sum(), self.low[columns].min(), self.high[columns].max()
            if not finite:
                facts[name] = f"no value at all, {variable.unit}{named}"
                continue
            missing = 100 * (1 - finite / (self.values * len(columns)))
            facts[name] = (
                f"{low:.5g} .. {high:.5g} {variable.unit}, mean {self.total[columns].sum() / finite:.5g}, "
                f"{missing:.3g} % missing{named}"
            )
        return facts

    def share(self, stream: FieldStream) -> dict[str, str]:
        """Return how many frames were looked at, where it was not all."""
        count = stream.trajectories * stream.times.size
        return (
            {} if self.frames == count else {"looked at": f"{self.frames} of {count} frames, evenly spaced"}
        )

    def warnings(self, stream: FieldStream) -> Iterator[str]:
        """Yield what looks wrong with the values."""
        constant = []
        for k, variable in enumerate(stream.variables):
            if not self.finite[k]:
                yield f"{variable.name}: every value is missing"
                continue
            low, high = limits(variable)
            if self.low[k] < low or self.high[k] > high:
                yield (
                    f"{variable.name}: {self.low[k]:.5g} .. {self.high[k]:.5g} {variable.unit} is outside "
                    f"{low:g} .. {high:g}; is the unit right?"
                )
            if variable.minimum is not None and self.low[k] < variable.minimum:
                yield f"{variable.name}: found {self.low[k]:.5g} below its least value {variable.minimum:g}"
            if self.low[k] == self.high[k] and self.finite[k] > 1:
                constant.append(variable.name)
        if constant:
            more = f" and {len(constant) - 3} others" if len(constant) > 3 else ""
            yield f"one value everywhere: {', '.join(constant[:3])}{more}"
        if 0 < self.empty < self.frames:
            yield f"{self.empty} of {self.frames} frames have no value at all"


def _quantities(variables: tuple[Variable, ...]) -> dict[str, list[int]]:
    """Return the places of every variable; where there are very many, levels of one quantity share a line."""
    if len(variables) <= _LINES:
        return {variable.name: [k] for k, variable in enumerate(variables)}
    columns: dict[str, list[int]] = {}
    for k, variable in enumerate(variables):
        columns.setdefault(variable.name.rstrip("0123456789."), []).append(k)
    return {
        (f"{name} ({len(held)} levels)" if len(held) > 1 else variables[held[0]].name): held
        for name, held in columns.items()
    }


def _look(stream: FieldStream) -> _Seen:
    """Return what the values of a stream are."""
    seen = _Seen(len(stream.variables))
    count = stream.trajectories * stream.times.size
    looked = max(1, min(count, BUDGET // (4 * stream.frame_size)))
    for index in np.unique(np.linspace(0, count - 1, looked).round().astype(int)):
        trajectory, time = divmod(int(index), stream.times.size)
        seen.add(stream.read(trajectory, time))
    return seen


def _shape(stream: FieldStream) -> dict[str, str]:
    sizes = {
        "trajectory": stream.trajectories,
        "member": stream.members,
        "time": stream.times.size,
        "variable": len(stream.variables),
        **dict(zip(stream.grid.names, stream.grid.shape, strict=True)),
    }
    kept = {name: size for name, size in sizes.items() if size > 1 or name in ("time", "variable")}
    return {"shape": " x ".join(map(str, kept.values())) + f" ({', '.join(kept)})"}


def _grid(grid: Grid) -> dict[str, str]:
    """Return kind, extent, spacing and projection."""
    facts = {"grid": {"sphere": "latitude and longitude", "plane": "plane"}[grid.kind]}
    for name, axis, step, closed in zip(
        grid.names, (grid.y, grid.x), grid.spacing, grid.periodic, strict=True
    ):
        even = axis.size < 3 or np.allclose(np.diff(axis), step, rtol=_EVEN)
        facts[name] = (
            f"{axis[0]:.6g} .. {axis[-1]:.6g} {grid.unit}, spacing {step:.5g}"
            f"{'' if even else ' on average (uneven)'}{', periodic' if closed else ''}"
        )
    return {**facts, "projection": grid.projection} if grid.projection else facts


def _times(times: np.ndarray) -> dict[str, str]:
    facts = {"times": f"{_stamp(times[0])} .. {_stamp(times[-1])}" if times.size > 1 else _stamp(times[0])}
    steps = np.diff(times) / np.timedelta64(1, "s")
    if steps.size:
        even = (steps == steps[0]).all()
        facts["step"] = f"{steps[0]:g} s" if even else f"{steps.min():g} .. {steps.max():g} s (uneven)"
    return facts


def _leads(stream: FieldStream) -> dict[str, str]:
    """Return starts and leads of forecasts from several starts."""
    starts = stream.starts
    assert starts is not None
    leads = (stream.times - starts[0]) / np.timedelta64(1, "h")
    return {
        "starts": f"{_stamp(starts[0])} .. {_stamp(starts[-1])} ({starts.size})",
        "leads": f"{leads[0]:g} .. {leads[-1]:g} h ({leads.size}); scored by lead over all starts, --lead chooses one",
    }


def _irregular(stream: FieldStream) -> Iterator[str]:
    """Yield what looks wrong with the times."""
    steps = np.diff(stream.times) / np.timedelta64(1, "s")
    if steps.size and (steps != steps.min()).any():
        missing = int(np.rint(steps / steps.min() - 1).sum())
        yield f"the step is uneven; at the smallest ({steps.min():g} s) about {missing} times are missing"


def _observed(path: Path) -> dict[str, str]:
    """Return how the values were observed, where the file says so."""
    if reader_of(path).dataset is None:
        return {}
    with open_dataset(path) as dataset:
        sigma: dict[str, Any] = {
            str(name): array.attrs["sigma"]
            for name, array in dataset.data_vars.items()
            if "sigma" in array.attrs
        }
        sigma.update({str(name): "one each" for name in dataset.data_vars if str(name).endswith("_sigma")})
        if not sigma:
            return {}
        operator = str(dataset.attrs.get("observation_operator", "identity"))
    return {"observed by": operator, "sigma": ", ".join(f"{name} {value}" for name, value in sigma.items())}


def _stamp(time: np.datetime64) -> str:
    """Return a time to the second, or finer where it has a fraction."""
    whole = time == time.astype("datetime64[s]")
    return str(np.datetime_as_string(time, unit="s" if whole else "ns"))
