"""From files of fields to the prepared trajectories that training a prior reads.

Every event is read, cut in time, brought to one step and one spacing, and written as float32 (n, time, k, y, x):

    OUT/manifest.yaml      kind, step_s, spacing, spacing_unit, periodic, variables, events
    OUT/statistics.yaml    of each variable over the finite values of the training split only
    OUT/NAME.npy           one per event; NaN is missing
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, Field, field_validator

from assimilation.fields.fields import Fields
from assimilation.fields.grid import Variable
from assimilation.fields.resample import to_spacing, to_step
from assimilation.io.registry import read_any_fields
from assimilation.observation.instruments import position
from priors.runtime.errors import InputError
from priors.runtime.files import atomic

Split = Literal["train", "validation"]
_QUANTILES = (0.001, 0.01, 0.5, 0.99, 0.999)
_SAMPLE = 2_000_000


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EventSource(_Model):
    """One file, or a part of it.

    Attributes:
        path: file or folder, below the data folder or the current one.
        split: what it is for.
        licence: under which it may be used.
        start: first time, ISO 8601; the file's own where not given.
        stop: last time, included.
        share: weight of its windows in training.
    """

    path: str
    split: Split
    licence: str = "unknown"
    start: str | None = None
    stop: str | None = None
    share: float = Field(1.0, gt=0, allow_inf_nan=False)

    @field_validator("start", "stop")
    @classmethod
    def _time(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                np.datetime64(text, "ns")
            except ValueError as error:
                raise ValueError("expected an ISO 8601 time such as 2019-03-18T23:00") from error
        return text


class PrepareSettings(_Model):
    """What to prepare.

    Attributes:
        events: where the trajectories come from.
        step_s: seconds between frames; the first file's own where not given.
        spacing: of the grid in its own unit; the first file's own where not given.
        variables: names of the variables to keep, in order; all where empty.
    """

    events: tuple[EventSource, ...] = Field(min_length=1)
    step_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    spacing: float | None = Field(None, gt=0, allow_inf_nan=False)
    variables: tuple[str, ...] = ()


def prepare(settings: PrepareSettings, out: Path, *, data: Path | None = None) -> list[dict[str, Any]]:
    """Write a prepared folder and return its events.

    Args:
        settings: what to prepare.
        out: folder to write; files of the same names are replaced, the manifest last.
        data: folder the paths are relative to, before the current folder.

    Raises:
        InputError: a file cannot be read, lacks a variable, or differs in grid, step or variables from the
            first one; or no event is for training.
    """
    if not any(event.split == "train" for event in settings.events):
        raise InputError("events: found none with split 'train', expected one at least")
    written: list[Path] = []
    try:
        return _prepare(settings, out, data=data, written=written)
    except BaseException:
        # A folder without a manifest is of no use to anyone.
        for path in written:
            path.unlink(missing_ok=True)
        raise


def _prepare(
    settings: PrepareSettings, out: Path, *, data: Path | None, written: list[Path]
) -> list[dict[str, Any]]:
    """Write arrays, then statistics and the manifest; ``written`` tells what is there so far."""
    shared: dict[str, Any] = {}
    listed, samples = [], []
    for number, event in enumerate(settings.events):
        fields = read_event(event, settings, data=data)
        _agree(shared, described(fields), event.path)
        name = f"{number:02d}-{Path(event.path).stem}-{event.split}.npy"
        with atomic(out / name) as temporary, temporary.open("wb") as stream:
            np.save(stream, fields.values)
        written.append(out / name)
        entry = {"file": name, "split": event.split, "source": Path(event.path).name}
        listed.append({**entry, "licence": event.licence, "share": event.share})
        if event.split == "train":
            samples.append(_finite_values(fields))
    _write(out / "statistics.yaml", {"variables": _statistics(shared["variables"], samples)})
    _write(out / "manifest.yaml", {"kind": "trajectories", **shared, "events": listed})
    return listed


def read_event(event: EventSource, settings: PrepareSettings, *, data: Path | None) -> Fields:
    """Return the fields of one event on the wanted step, spacing and variables.

    Raises:
        InputError: see ``prepare``.
    """
    path = _found(event.path, data)
    fields = _chosen(read_any_fields(path), settings.variables, event.path)
    first = fields.times[0] if event.start is None else np.datetime64(event.start, "ns")
    last = fields.times[-1] if event.stop is None else np.datetime64(event.stop, "ns")
    inside = np.flatnonzero((fields.times >= first) & (fields.times <= last))
    if inside.size == 0:
        raise InputError(
            f"{event.path}: found times {fields.times[0]} to {fields.times[-1]}, expected some within "
            f"{event.start or 'the first'} and {event.stop or 'the last'}"
        )
    fields = fields.select(times=inside)
    if settings.step_s is not None:
        fields = to_step(fields, settings.step_s, source=event.path)
    elif fields.times.size > 1:
        fields = to_step(
            fields, float(np.diff(fields.times).min() / np.timedelta64(1, "s")), source=event.path
        )
    if settings.spacing is not None:
        fields = to_spacing(fields, settings.spacing, source=event.path)
    return fields


def described(fields: Fields) -> dict[str, Any]:
    """Return what all events share, as the manifest says it.

    Raises:
        InputError: a single frame, which has no step.
    """
    if fields.times.size < 2:
        raise InputError("time: found one frame, expected a trajectory of two at least")
    dy, dx = (float(f"{step:.6g}") for step in fields.grid.spacing)
    return {
        "step_s": float((fields.times[1] - fields.times[0]) / np.timedelta64(1, "s")),
        # Cells called 1 km may be 999.6 m wide; the archive says what its events agree on.
        "spacing": dy if dy == dx else [dy, dx],
        "spacing_unit": fields.grid.unit,
        "periodic": list(fields.grid.periodic),
        "variables": [_variable(item) for item in fields.variables],
    }


def _found(text: str, data: Path | None) -> Path:
    path = Path(text)
    if data is not None and not path.is_absolute() and (data / path).exists():
        return data / path
    if not path.exists():
        raise InputError(f"{text}: does not exist{'' if data is None else f' below {data}'}, expected fields")
    return path


def _chosen(fields: Fields, names: tuple[str, ...], source: str) -> Fields:
    """Return the wanted variables in the wanted order."""
    if not names:
        return fields
    try:
        places = [position(fields.variables, name) for name in names]
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    variables = tuple(fields.variables[place] for place in places)
    return Fields(fields.values[:, :, places], fields.times, variables, fields.grid, fields.attributes)


def _variable(item: Variable) -> dict[str, Any]:
    return {"name": item.name, "unit": item.unit, "standard_name": item.standard_name}


def _agree(shared: dict[str, Any], found: dict[str, Any], source: str) -> None:
    """Take the first event's description, and compare the later ones with it."""
    if not shared:
        shared.update(found)
    for key, value in found.items():
        same = np.allclose(value, shared[key], rtol=0.02) if key == "spacing" else value == shared[key]
        if not same:
            raise InputError(f"{source}: {key}: found {value}, expected {shared[key]} as in the first event")


def _finite_values(fields: Fields) -> list[np.ndarray]:
    """Return finite values of each variable, thinned evenly where there are very many."""
    chosen = []
    for k in range(len(fields.variables)):
        flat = fields.values[:, :, k].ravel()
        flat = flat[:: max(1, flat.size // _SAMPLE)]
        chosen.append(flat[np.isfinite(flat)])
    return chosen


def _statistics(variables: list[dict[str, Any]], samples: list[list[np.ndarray]]) -> list[dict[str, Any]]:
    told = []
    for k, item in enumerate(variables):
        values = np.concatenate([event[k] for event in samples]).astype(np.float64)
        if values.size == 0:
            raise InputError(f"{item['name']}: found no finite value in the training split, expected some")
        told.append(
            {
                "name": item["name"],
                "unit": item["unit"],
                "mean": float(values.mean()),
                "standard_deviation": float(values.std()),
                "minimum": float(values.min()),
                "maximum": float(values.max()),
                "quantiles": {str(q): float(np.quantile(values, q)) for q in _QUANTILES},
            }
        )
    return told


def _write(path: Path, tree: dict[str, Any]) -> None:
    with atomic(path) as temporary:
        OmegaConf.save(OmegaConf.create(tree), temporary)
