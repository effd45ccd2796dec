"""The file from which an interrupted reconstruction continues.

A method offers its state whenever it has a new one. The file is written when the last one is older than ``every_s``,
and by ``save`` when the run is interrupted: a kill costs at most that time, Ctrl-C and SIGTERM cost nothing. It is
always whole (written under another name and renamed), and holds

    mark      hash of everything that decides the result: a state is never continued with anything else
    stage     what the state belongs to, where a method has several (a warm start, then its own levels)
    state     tensors and numbers; with the state of the random generator where the method draws
    seconds   wall and CPU time that went into it, over all processes that worked on it one after the other
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from priors.runtime.errors import InputError
from priors.runtime.files.writing import atomic
from priors.runtime.tensors import save_tensors


@dataclass(frozen=True)
class Spent:
    """Time that went into a run, in seconds: on the clock and of the processor."""

    wall: float = 0.0
    cpu: float = 0.0

    @classmethod
    def now(cls) -> "Spent":
        """Return the readings of this process's clocks."""
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(self.wall - other.wall, self.cpu - other.cpu)

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.wall + other.wall, self.cpu + other.cpu)


class Checkpoint:
    """Where a run keeps its state.

    Args:
        path: file to write, and to continue from where ``resume`` says so.
        resume: continue from the file if it exists.
        every_s: seconds between two writes; 0 writes every state that is offered.
    """

    def __init__(self, path: Path, *, resume: bool = False, every_s: float = 30.0) -> None:
        """Write nothing yet."""
        self._path, self._every_s, self._resume = path, every_s, resume
        self._content = _read(path) if resume and path.is_file() else None
        self.earlier = Spent(*self._content["seconds"]) if self._content else Spent()
        self._begin = Spent.now()
        self._written = self._begin.wall
        self._offered: dict[str, Any] | None = None

    @staticmethod
    def companion_name(name: str, what: str) -> str:
        """Return the name of the file of ``what`` beside a checkpoint called ``name``."""
        return f"{name}.{what}"

    def companion(self, what: str) -> "Checkpoint":
        """Return the checkpoint of ``what`` beside this one: a state that lasts longer than a stage.

        The time that went into the run is that of the newer file.
        """
        path = self._path.with_name(self.companion_name(self._path.name, what))
        other = Checkpoint(path, resume=self._resume, every_s=self._every_s)
        if other.earlier.wall > self.earlier.wall:
            self.earlier = other.earlier
        other.earlier = self.earlier
        return other

    def load(self, mark: str, stage: str = "") -> dict[str, Any] | None:
        """Return the state to continue from, None where there is none or it belongs to another stage.

        Raises:
            InputError: the file is of a run with other settings, data, seed, grid or prior.
        """
        if self._content is None:
            return None
        if self._content["stage"] != stage:
            return None
        if self._content["mark"] != mark:
            raise InputError(
                f"{self._path}: belongs to a run with other settings, data, grid, seed or prior; expected the same ones"
            )
        state: dict[str, Any] = self._content["state"]
        return state

    def offer(self, state: Mapping[str, Any], *, mark: str, stage: str = "") -> None:
        """Take the newest state, and write it if the last write is long ago. Its tensors must not change afterwards.

        Raises:
            InputError: the file cannot be written.
        """
        self._offered = {"mark": mark, "stage": stage, "state": dict(state)}
        # What was read is never asked for again once the run has moved on: its tensors need not stay in memory.
        self._content = None
        if time.perf_counter() - self._written >= self._every_s:
            self.save()

    def save(self) -> None:
        """Write the newest state, if there is one that is not written yet.

        Raises:
            InputError: the file cannot be written.
        """
        if self._offered is None:
            return
        spent = self.spent()
        with atomic(self._path) as temporary:
            save_tensors({**self._offered, "seconds": (spent.wall, spent.cpu)}, temporary)
        self._offered, self._written = None, time.perf_counter()

    def spent(self) -> Spent:
        """Return the time that went into the run so far, that of earlier processes included."""
        return self.earlier + (Spent.now() - self._begin)


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
        if set(content) != {"mark", "stage", "state", "seconds"}:
            raise ValueError("other keys")
    except Exception as error:
        raise InputError(f"{path}: not a checkpoint of a reconstruction ({type(error).__name__})") from error
    return content
