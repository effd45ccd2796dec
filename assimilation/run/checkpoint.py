"""The saved state of a run: written now and then while it computes, and when it is interrupted; checks against it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from assimilation.inference.assimilator import Assimilator, RunState
from assimilation.inference.problem import Problem
from assimilation.io.archive import EnsembleWriter
from assimilation.io.registry import open_stream
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


def check_archive(
    writer: EnsembleWriter, problem: Problem, assimilator: Assimilator, state: Mapping[str, Any] | None
) -> None:
    """Check that the archive holds what was finished before the checkpoint: it is not computed again.

    Raises:
        InputError: analyses are missing.
    """
    if state is None or writer.finished:
        return
    rows = islice(assimilator.schedule.rows(problem.frames), int(state["row"]))
    current, finished = int(state["trajectory"]), sum(len(row.emit) for row in rows)
    for trajectory in range(problem.trajectories):
        expected = problem.frames if trajectory < current else finished if trajectory == current else 0
        found = writer.done(trajectory).size
        if found < expected:
            raise InputError(
                f"{writer.path.parent}: holds {found} of {expected} analyses of trajectory {trajectory} that its "
                "checkpoint says are finished; start the run again with --overwrite"
            )


def check_whole(path: Path, problem: Problem) -> None:
    """Check that an archive holds every time of the run.

    Raises:
        InputError: some are missing.
    """
    with open_stream(path) as stream:
        found = stream.times.size
    if found != problem.frames:
        raise InputError(f"{path}: holds {found} of {problem.frames} times; start it again with --overwrite")
