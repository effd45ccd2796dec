r"""Observations in, analyses out, one frame after the other.

For every row of the inference schedule the frames in flight take one guided step; a frame is given out as soon as
nothing can change it any more. Members are computed in chunks that fit the memory, trajectories one after the
other, so archives of any length and ensembles of any size pass through.

Every draw comes from a generator seeded by (seed, trajectory, member, row): a member is the same whatever the
number of members, the chunks, or the point at which an interrupted run continued.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from assimilation.inference.likelihoods import FrameObservations
from assimilation.inference.schedule import InferenceSchedule, Row
from assimilation.inference.trajectory import Stepper, Trajectories, TrajectoryModel, Window
from assimilation.observation.base import ObservationStream
from priors.codec import FieldCodec
from priors.runtime.errors import InputError
from priors.runtime.files import atomic


@dataclass(frozen=True, eq=False)
class Analysis:
    """The members of one time of one trajectory.

    Attributes:
        trajectory: which one.
        frame: place in the run.
        members: physical units.
    """

    trajectory: int
    frame: int
    members: Float32[np.ndarray, "m k y x"]


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be analysed.

    Attributes:
        frames: length of the run.
        trajectories: how many.
        shape: of a state, (k, y, x).
        stream: observations; None for a forecast.
        places: index in the stream of every frame, -1 where the stream has no such time.
        context: clean frames before the first one in network units, (n or 1, members or 1, c, k, y, x).
    """

    frames: int
    trajectories: int
    shape: tuple[int, int, int]
    stream: ObservationStream | None = None
    places: Sequence[int] = ()
    context: Float[Tensor, "n m c k y x"] | None = None


@dataclass(frozen=True)
class Ensemble:
    """How many members, from which seed, computed how many at a time."""

    members: int
    seed: int
    chunk: int

    def chunks(self) -> list[range]:
        """Return the members of every chunk."""
        return [
            range(start, min(start + self.chunk, self.members))
            for start in range(0, self.members, self.chunk)
        ]

    def draws(self, members: range, *, trajectory: int, row: int) -> list[torch.Generator]:
        """Return one generator per member for one row."""
        found = []
        for member in members:
            seed = np.random.SeedSequence((self.seed, trajectory, member, row)).generate_state(1, np.uint64)
            found.append(torch.Generator().manual_seed(int(seed[0] >> np.uint64(1))))
        return found


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Where a run stands: windows of all chunks of one trajectory, before one row."""

    trajectory: int
    row: int
    chunk: int
    windows: list[dict[str, Tensor | list[Tensor]]]

    def save(self, path: Path) -> None:
        """Write the state so that a kill leaves the old file or the new one."""
        with atomic(path) as temporary:
            torch.save({**vars(self), "windows": self.windows}, temporary)

    @staticmethod
    def load(path: Path) -> "Checkpoint | None":
        """Return the state, None where there is none.

        Raises:
            InputError: the file is no checkpoint.
        """
        if not path.is_file():
            return None
        try:
            return Checkpoint(**torch.load(path, weights_only=True, map_location="cpu"))
        except Exception as error:
            raise InputError(f"{path}: is no checkpoint of this version; start the run anew") from error


@dataclass(frozen=True, eq=False)
class Assimilator:
    """A prior with a schedule and a way to use observations.

    Attributes:
        model: the prior's rolling window.
        codec: its units.
        schedule: rows of noise levels.
        stepper: sampler and guidance.
    """

    model: TrajectoryModel
    codec: FieldCodec
    schedule: InferenceSchedule
    stepper: Stepper

    def run(
        self,
        task: Task,
        ensemble: Ensemble,
        *,
        checkpoint: Path | None = None,
        on_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[Analysis]:
        """Yield the analyses of every trajectory, times ascending.

        Args:
            task: what is to be analysed.
            ensemble: members, seed, chunks.
            checkpoint: file to continue from where it exists, rewritten whenever an analysis was taken over.
            on_step: called as ``on_step(done, total)`` after every step of a chunk.

        Raises:
            InputError: a state is not finite.
        """
        saved = None if checkpoint is None else Checkpoint.load(checkpoint)
        rows = self.schedule.count(task.frames)
        total = rows * len(ensemble.chunks()) * task.trajectories
        for trajectory in range(0 if saved is None else saved.trajectory, task.trajectories):
            job = Job(self, task, ensemble, trajectory)
            windows, start = job.start(), 0
            if saved is not None:
                windows = [new.restored(old) for new, old in zip(windows, saved.windows, strict=True)]
                start, saved = saved.row, None
            for number, row in islice(enumerate(self.schedule.rows(task.frames)), start, None):
                parts = []
                for place, members in enumerate(ensemble.chunks()):
                    windows[place], emitted = job.advance(windows[place], members, row, number)
                    parts.append(emitted)
                    done = (trajectory * rows + number) * len(ensemble.chunks()) + place + 1
                    on_step(done, total)
                yield from job.analyses(row, torch.cat(parts))
                if checkpoint is not None and row.emit:
                    held = [window.saved() for window in windows]
                    Checkpoint(trajectory, number + 1, ensemble.chunk, held).save(checkpoint)


class Job:
    """One trajectory of a run: its windows, chunk by chunk, and its observations."""

    def __init__(self, owner: Assimilator, task: Task, ensemble: Ensemble, trajectory: int) -> None:
        self.owner, self.task, self.ensemble, self.trajectory = owner, task, ensemble, trajectory
        self.observations = None
        if task.stream is not None:
            self.observations = FrameObservations(
                task.stream, owner.codec, trajectory, task.places, owner.model.device, owner.model.dtype
            )

    def start(self) -> list[Window]:
        """Return the window of every chunk, after its members' context."""
        windows = []
        for members in self.ensemble.chunks():
            context = self.task.context
            if context is not None:
                own = context[self.trajectory % len(context)]
                context = own[[member % len(own) for member in members]]
            windows.append(self.owner.model.start(len(members), self.task.shape, context))
        return windows

    def advance(self, window: Window, members: range, row: Row, number: int) -> tuple[Window, Trajectories]:
        """Take the row's step with one chunk; return its window and the frames that are complete.

        Raises:
            InputError: a state is not finite.
        """
        likelihood = None
        if self.observations is not None:
            likelihood = self.observations.likelihood(row.first, len(row.before))
        draws = self.ensemble.draws(members, trajectory=self.trajectory, row=number)
        stepper = self.owner.stepper
        after, emitted = self.owner.model.advance(window, row, stepper, likelihood=likelihood, draws=draws)
        if not bool(torch.isfinite(after.u).all()) or not bool(torch.isfinite(emitted).all()):
            raise InputError(
                f"assimilation: a state of frame {row.first} or later is not finite; expected finite values: check "
                "the observations' units and sigma, or use more steps"
            )
        return after, emitted

    def analyses(self, row: Row, frames: Trajectories) -> Iterator[Analysis]:
        """Yield the frames a row completed, in physical units, cut to what is possible."""
        physical = self.owner.codec.clip_to_physical(self.owner.codec.decode(frames.float()))
        for place, frame in enumerate(row.emit):
            members = physical[:, place].cpu().contiguous().numpy()
            yield Analysis(self.trajectory, frame, members)
