"""One event as a stream of frames: the wanted times, variables, step and spacing, read when they are asked for."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from assimilation.fields.fields import Fields
from assimilation.fields.resample import frames_on_step, to_spacing
from assimilation.fields.streams import FieldStream
from assimilation.io.registry import open_stream
from assimilation.observation.instruments import position
from assimilation.prepare.settings import EventSource, PrepareSettings
from priors.runtime.errors import InputError


@contextmanager
def opened_event(
    event: EventSource, settings: PrepareSettings, *, data: Path | None
) -> Iterator[FieldStream]:
    """Yield the frames of one event on the wanted step, spacing and variables.

    Only the frames that are wanted are read, when they are: a month of an archive of years is read as a month.

    Raises:
        InputError: see ``prepare``.
    """
    with open_stream(_resolved_path(event.path, data), rain=settings.rain) as whole:
        if whole.members > 1:
            raise InputError(
                f"{event.path}: found the dimension member ({whole.members}), expected single fields"
            )
        if whole.starts is not None:
            raise InputError(
                f"{event.path}: time: found several starts by several leads, expected fields of one time each"
            )
        stream = _within(_in_order(whole, settings.variables, event.path), event)
        own = float(np.diff(stream.times).min() / np.timedelta64(1, "s")) if stream.times.size > 1 else None
        step_s = settings.step_s or own
        stream = stream if step_s is None else _on_step(stream, step_s, event.path)
        yield stream if settings.spacing is None else _on_spacing(stream, settings.spacing, event.path)


def _within(stream: FieldStream, event: EventSource) -> FieldStream:
    """Return the frames between the first and the last time of an event."""
    first = stream.times[0] if event.start is None else np.datetime64(event.start, "ns")
    last = stream.times[-1] if event.stop is None else np.datetime64(event.stop, "ns")
    inside = np.flatnonzero((stream.times >= first) & (stream.times <= last))
    if inside.size == 0:
        raise InputError(
            f"{event.path}: found times {stream.times[0]} to {stream.times[-1]}, expected some within "
            f"{event.start or 'the first'} and {event.stop or 'the last'}"
        )
    begin = int(inside[0])
    return replace(stream, times=stream.times[inside], read=lambda n, time: stream.read(n, begin + time))


def _on_step(stream: FieldStream, step_s: float, source: str) -> FieldStream:
    """Return frames ``step_s`` seconds apart; a time without a frame is one of missing values."""
    times, indices = frames_on_step(stream.times, step_s, source=source)
    missing = np.full((1, len(stream.variables), *stream.grid.shape), np.nan, np.float32)

    def read(trajectory: int, time: int) -> np.ndarray:
        index = int(indices[time])
        return missing if index < 0 else stream.read(trajectory, index)

    return replace(stream, times=times, read=read)


def _on_spacing(stream: FieldStream, spacing: float, source: str) -> FieldStream:
    """Return block means of every frame."""

    def coarse(trajectory: int, time: int) -> Fields:
        frame = stream.read(trajectory, time)
        return to_spacing(
            Fields(frame[:, None], stream.times[time : time + 1], stream.variables, stream.grid),
            spacing,
            source=source,
        )

    grid = coarse(0, 0).grid
    return replace(stream, grid=grid, read=lambda n, time: np.asarray(coarse(n, time).values[:, 0]))


def _resolved_path(text: str, data: Path | None) -> Path:
    path = Path(text)
    if data is not None and not path.is_absolute() and (data / path).exists():
        return data / path
    if not path.exists():
        raise InputError(f"{text}: does not exist{'' if data is None else f' below {data}'}, expected fields")
    return path


def _in_order(stream: FieldStream, names: tuple[str, ...], source: str) -> FieldStream:
    """Return the wanted variables in the wanted order."""
    if not names:
        return stream
    try:
        columns = [position(stream.variables, name) for name in names]
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    variables = tuple(stream.variables[column] for column in columns)
    return replace(
        stream, variables=variables, read=lambda n, time: np.asarray(stream.read(n, time)[:, columns])
    )
