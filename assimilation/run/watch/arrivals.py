"""Frames that arrive in a folder: new, late, damaged, or not yet whole.

A file is read when its size or time of change is new. What cannot be read is noted and read again when it changes: a
file that is still being copied is damaged until it is whole. Which files have been dealt with is kept in a record, so
that a program that starts again knows what came while it did not run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from assimilation.fields.fields import Ensemble
from assimilation.io.radar.frame import RainRelation
from assimilation.io.registry import open_stream
from priors.runtime.errors import InputError, warnings_kept
from priors.runtime.files.writing import atomic

Stamp = tuple[int, int]


@dataclass(frozen=True)
class Moment:
    """A frame of a file.

    Attributes:
        time: valid time.
        file: where it is.
        place: of the frame in its file.
    """

    time: np.datetime64
    file: Path
    place: int


@dataclass
class Arrivals:
    """The frames in a folder.

    Attributes:
        folder: that is watched.
        record: file with the names that have been dealt with.
        rain: from reflectivity to rain.
        moments: of every readable file.
        damaged: why a file cannot be read.
    """

    folder: Path
    record: Path
    rain: RainRelation
    moments: dict[str, tuple[Moment, ...]] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)
    _stamps: dict[str, Stamp] = field(default_factory=dict)
    _known: dict[str, Stamp] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read the record of an earlier run."""
        if self.record.exists():
            self._known = _stamps_in(self.record)

    @property
    def first(self) -> bool:
        """Whether nothing has been dealt with yet."""
        return not self._known

    def look(self) -> list[Moment]:
        """Return the frames of files that are new or changed since they were dealt with, times ascending.

        Raises:
            InputError: the folder cannot be listed.
        """
        present = self._listed()
        for name in {*self._stamps} - {*present}:
            # Services remove old files; what was read of them is no longer there.
            self._forget(name)
        for name, stamp in present.items():
            if self._stamps.get(name) != stamp:
                self._read(name, stamp)
        fresh = [name for name in self.moments if self._known.get(name) != self._stamps[name]]
        return sorted((each for name in fresh for each in self.moments[name]), key=lambda each: each.time)

    def finish(self, moment: Moment) -> None:
        """Note that a frame's file has been dealt with."""
        name = moment.file.name
        if name in self._stamps and moment == self.moments[name][-1]:
            self._known[name] = self._stamps[name]
            with atomic(self.record) as temporary:
                temporary.write_text(json.dumps({key: list(value) for key, value in self._known.items()}))

    def before(self, moment: Moment, reach: np.timedelta64) -> Ensemble:
        """Return the frames up to a moment and as far back as ``reach``.

        Of a time that two files hold, that of the file whose name is later.

        Raises:
            InputError: a file cannot be read any more, or grids differ.
        """
        each = {
            one.time: one
            for name in sorted(self.moments)
            for one in self.moments[name]
            if moment.time - reach <= one.time <= moment.time
        }
        frames, like = [], None
        for time in sorted(each):
            with warnings_kept(), open_stream(each[time].file, rain=self.rain) as stream:
                if like is not None and not stream.grid.same_as(like.grid):
                    raise InputError(f"{each[time].file}: found another grid than in the frames before")
                like = stream
                frames.append(stream.read(0, each[time].place))
        assert like is not None
        members = np.stack(frames, axis=1)[None].astype(np.float32)
        return Ensemble(members, np.array(sorted(each)), like.variables, like.grid, dict(like.attributes))

    def _listed(self) -> dict[str, Stamp]:
        """Return size and time of change of every file, hidden ones (half-written by many programs) aside."""
        found = {}
        try:
            for item in self.folder.iterdir():
                if item.name.startswith(".") or not item.is_file():
                    continue
                held = item.stat()
                found[item.name] = (held.st_size, held.st_mtime_ns)
        except FileNotFoundError:
            # A file that went between listing and asking is not there.
            if not self.folder.is_dir():
                raise InputError(f"{self.folder}: does not exist, expected a folder of frames") from None
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be listed ({error.strerror})") from error
        return found

    def _read(self, name: str, stamp: Stamp) -> None:
        """Take in the times of a file."""
        self._forget(name)
        self._stamps[name] = stamp
        path = self.folder / name
        try:
            with warnings_kept(), open_stream(path, rain=self.rain) as stream:
                if stream.starts is not None or stream.trajectories > 1 or stream.members > 1:
                    raise InputError(f"{path}: found trajectories or members, expected single frames")
                # A frame that cannot be read is found now, not in the middle of a forecast.
                for place in range(stream.times.size):
                    stream.read(0, place)
                times = enumerate(stream.times)
                self.moments[name] = tuple(Moment(time, path, place) for place, time in times)
        except InputError as error:
            self.damaged[name] = str(error)

    def _forget(self, name: str) -> None:
        for held in (self._stamps, self.moments, self.damaged):
            held.pop(name, None)  # type: ignore[attr-defined]


def _stamps_in(record: Path) -> dict[str, Stamp]:
    """Return the record of an earlier run.

    Raises:
        InputError: it is damaged.
    """
    try:
        held: Mapping[str, Any] = json.loads(record.read_text(encoding="utf-8"))
        return {name: (int(size), int(changed)) for name, (size, changed) in held.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{record}: is damaged; remove it to begin with the newest frame again") from error
