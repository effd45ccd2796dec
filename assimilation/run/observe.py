"""What the verb ``observe`` does, once its options are read."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from assimilation.fields.fields import Fields
from assimilation.fields.grid import Grid
from assimilation.fields.resample import to_spacing, to_step
from assimilation.io.archive import write_fields
from assimilation.io.observations.files import check_observation_path, write_observations
from assimilation.io.radar.frame import DEFAULT_RELATION, RainRelation
from assimilation.io.registry import read_any_fields
from assimilation.io.store import check_path
from assimilation.observation.instruments import Instrument, Points
from assimilation.observation.observing import observe
from priors.runtime.errors import InputError
from priors.runtime.files.permissions import allow_nonsense
from priors.runtime.files.protect import check_output, check_outputs
from priors.runtime.system.seeds import Seed

_SPAN = r"-?\d*:-?\d*"


def _span(text: str) -> str:
    if not re.fullmatch(_SPAN, text):
        raise ValueError("expected START:STOP with either end left out at will")
    return text


def check_spans(text: str) -> str:
    """Return a part of a grid as it is written.

    Raises:
        ValueError: it is written otherwise.
    """
    if not re.fullmatch(f"{_SPAN},{_SPAN}", text):
        raise ValueError("expected Y0:Y1,X0:X1 with ends left out at will")
    return text


class ObserveSettings(BaseModel):
    """How fields are observed.

    Attributes:
        operator: the instrument.
        sigma: standard deviation of the error, a share of the field's own ("0.1") or with a unit ("0.5 K").
        seed: of places and noise.
        variable: read this one only.
        spacing: average to this grid spacing first, in the grid's unit.
        step_s: keep a frame every so many seconds.
        lead_hours: of forecasts from several starts by several leads, the lead to observe.
        rain: how reflectivity becomes rain.
        frames: which of them, START:STOP.
        crop: part of the grid in cells, Y0:Y1,X0:X1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)

    operator: Instrument = Points()
    sigma: str = "0.1"
    seed: Seed = 0
    variable: str | None = None
    spacing: float | None = Field(None, gt=0, allow_inf_nan=False)
    step_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    lead_hours: float | None = Field(None, ge=0, allow_inf_nan=False)
    rain: RainRelation = DEFAULT_RELATION
    frames: Annotated[str, AfterValidator(_span)] | None = None
    crop: Annotated[str, AfterValidator(check_spans)] | None = None


def without_none(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tree without the options that were not given."""
    kept = {key: without_none(value) if isinstance(value, Mapping) else value for key, value in tree.items()}
    return {key: value for key, value in kept.items() if value is not None and value != {}}


def observe_file(source: Path, settings: ObserveSettings, out: Path, *, truth: Path | None = None) -> None:
    """Read fields, observe them, write the observations.

    Args:
        source: the fields.
        settings: how they are observed.
        out: observations to write.
        truth: fields to write, as they were observed (resampled, cut).

    Raises:
        InputError: something cannot be read, observed or written.
    """
    check_observation_path(out, settings.operator)
    check_outputs(out, truth)
    for output in (out, truth):
        check_output(output, [source])
    if truth is not None:
        check_path(truth)
    hours = settings.lead_hours
    lead = None if hours is None else np.timedelta64(round(hours * 3600), "s")
    fields = observed_part(
        read_any_fields(source, settings.variable, lead=lead, rain=settings.rain),
        settings,
        source=str(source),
    )
    try:
        observed = observe(fields, settings.operator, sigma=settings.sigma, seed=settings.seed)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    count, errors = int(np.isfinite(observed.fields.values).sum()), []
    if count == 0:
        allow_nonsense(f"{source}: nothing was observed: every value is missing")
    write_observations(observed, out)
    if truth is not None:
        write_fields(fields, truth)
    for variable, sigma in zip(observed.fields.variables, observed.sigma.ravel(), strict=True):
        errors.append(f"{variable.name} sigma {sigma:.4g} {variable.unit}")
    print(f"{out}: {count} observations at {fields.times.size} times; {', '.join(errors)}", file=sys.stderr)


def observed_part(fields: Fields, settings: ObserveSettings, *, source: str) -> Fields:
    """Return the fields on the wanted spacing, step, frames and part of the grid.

    Raises:
        InputError: the spacing or the step do not fit, or nothing is left.
    """
    if settings.step_s is not None:
        fields = to_step(fields, settings.step_s, source=source)
    if settings.frames is not None:
        frames = _cut(settings.frames, fields.times.size, "frames")
        fields = fields.select(times=frames)
    if settings.spacing is not None:
        fields = to_spacing(fields, settings.spacing, source=source)
    if settings.crop is not None:
        texts = settings.crop.split(",")
        rows, columns = (
            _cut(text, size, "crop") for text, size in zip(texts, fields.grid.shape, strict=True)
        )
        fields = _cropped(fields, rows, columns)
    return fields


def _cut(text: str, size: int, key: str) -> slice:
    start, stop = (int(bound) if bound else None for bound in text.split(":"))
    picked = range(size)[slice(start, stop)]
    if not picked or (stop is not None and stop > size):
        raise InputError(f"{key}: found '{text}', expected a range within 0:{size}")
    return slice(picked.start, picked.stop)


def _cropped(fields: Fields, rows: slice, columns: slice) -> Fields:
    grid = fields.grid
    y, x = grid.y[rows], grid.x[columns]
    # An axis that is cut no longer closes on itself.
    periodic = (grid.periodic[0] and y.size == grid.shape[0], grid.periodic[1] and x.size == grid.shape[1])
    cropped = Grid(y, x, grid.kind, grid.unit, periodic, grid.projection)
    values = fields.values[..., rows, columns].copy()
    return Fields(values, fields.times, fields.variables, cropped, fields.attributes)
