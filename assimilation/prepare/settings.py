"""Settings of ``prepare trajectories``: events, their split, step, spacing and variables."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from assimilation.io.radar.frame import DEFAULT_RELATION, RainRelation

Split = Literal["train", "validation"]


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
        rain: how reflectivity becomes rain.
    """

    events: tuple[EventSource, ...] = Field(min_length=1)
    step_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    spacing: float | None = Field(None, gt=0, allow_inf_nan=False)
    variables: tuple[str, ...] = ()
    rain: RainRelation = DEFAULT_RELATION
