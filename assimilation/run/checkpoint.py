"""The saved state of a run: written now and then while it computes, and when it is interrupted."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from assimilation.inference.assimilator import RunState
from priors.runtime.errors import InputError
from priors.runtime.files.writing import atomic
from priors.runtime.tensors import save_tensors

# Least time between two states, and the largest share of a run that saving them may take: the state of a large
# ensemble holds gigabytes of keys and values.
EVERY_S = 2.0
SHARE = 0.05
KEYS = {"trajectory", "row", "chunk", "windows", "complete"}


@dataclass
class Checkpoint:
    """The state of a run in a file.

    Attributes:
        path: of the file.
        seconds: of wall-clock time that earlier processes spent on the run.
        cpu_seconds: of processor time, likewise.
    """

    path: Path
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    _state: RunState | None = None
    _begin: tuple[float, float] = field(default_factory=lambda: (time.perf_counter(), time.process_time()))
    _next: float = 0.0

    def keep(self, state: RunState) -> None:
        """Take over the latest state and write it when it is time to."""
        self._state = state
        if time.perf_counter() >= self._next:
            self.save()

    def save(self) -> None:
        """Write the latest state so that a kill leaves the old file or the new one."""
        if self._state is None:
            return
        begin = time.perf_counter()
        seconds, cpu_seconds = self.spent()
        with atomic(self.path) as temporary:
            save_tensors({**self._state.saved(), "seconds": seconds, "cpu_seconds": cpu_seconds}, temporary)
        end = time.perf_counter()
        self._next = end + max(EVERY_S, (end - begin) / SHARE)

    def spent(self) -> tuple[float, float]:
        """Return the seconds and the CPU seconds of the whole run, earlier processes included."""
        wall, cpu = self._begin
        return self.seconds + time.perf_counter() - wall, self.cpu_seconds + time.process_time() - cpu

    def remove(self) -> None:
        """Remove the file of a run that is complete."""
        self.path.unlink(missing_ok=True)


def load_state(path: Path) -> Mapping[str, Any] | None:
    """Return the saved state, None where there is none.

    Raises:
        InputError: the file is no checkpoint.
    """
    if not path.is_file():
        return None
    try:
        saved: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        # torch.load fails on damaged files in many ways (zip, pickle, storage sizes).
        raise InputError(f"{path}: is no checkpoint of this version; start the run anew") from error
    if not isinstance(saved, dict) or not set(saved) >= KEYS | {"seconds", "cpu_seconds"}:
        raise InputError(f"{path}: is no checkpoint of this version; start the run anew")
    return saved
