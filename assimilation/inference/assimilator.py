r"""Observations in, analyses out, one frame after the other.

For every row of the inference schedule the frames in flight take one guided step; a frame is given out as soon as
nothing can change it any more. Members are computed in chunks that fit the memory, trajectories one after the
other, so archives of any length and ensembles of any size pass through.

Every draw comes from a generator seeded by (seed, trajectory, member, row): a member is the same whatever the
number of members, the chunks, or the point at which an interrupted run continued.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from assimilation.inference.likelihoods import FrameObservations
from assimilation.inference.problem import Problem
from assimilation.inference.schedule import InferenceSchedule, Row
from assimilation.inference.trajectory import Stepper, Trajectories, TrajectoryModel, Window
from priors.codec import FieldCodec
from priors.runtime.errors import InputError


@dataclass(frozen=True, eq=False)
class Analysis:
    """The members of one time of one trajectory.

    Attributes:
        trajectory: which one.
        frame: index in the problem's times.
        time: valid time.
        members: physical units.
    """

    trajectory: int
    frame: int
    time: np.datetime64
    members: Float32[np.ndarray, "m k y x"]


@dataclass(frozen=True)
class EnsemblePlan:
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
        """Return one generator per member for one row.

        A generator per (seed, trajectory, member, row) instead of one that runs on makes a draw independent of how
        many were made before it: chunks, resumed runs and larger ensembles see the same numbers.
        """
        generators = []
        for member in members:
            seed = np.random.SeedSequence((self.seed, trajectory, member, row)).generate_state(1, np.uint64)
            # manual_seed takes a signed 64-bit number.
            generators.append(torch.Generator().manual_seed(int(seed[0] >> np.uint64(1))))
        return generators


@dataclass(frozen=True, eq=False)
class RunState:
    """Where a run stands: within one row of one trajectory, after some of its chunks.

    Attributes:
        trajectory: in progress.
        row: of the schedule, in progress.
        chunk: members per chunk.
        windows: of every chunk.
        complete: frames (b f k y x) this row has completed, of the chunks that have taken it; the last chunk may
            have fewer members, so b differs.
    """

    trajectory: int
    row: int
    chunk: int
    windows: tuple[Window, ...]
    complete: tuple[Tensor, ...] = ()

    def saved(self) -> dict[str, Any]:
        """Return numbers and tensors that `restored` understands."""
        windows = [window.saved() for window in self.windows]
        return {**vars(self), "windows": windows, "complete": list(self.complete)}


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
        problem: Problem,
        plan: EnsemblePlan,
        *,
        state: Mapping[str, Any] | None = None,
        on_state: Callable[[RunState], None] = lambda state: None,
        on_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[Analysis]:
        """Yield the analyses of every trajectory, times ascending.

        Args:
            problem: what is to be estimated.
            plan: members, seed, chunks.
            state: what `RunState.saved` returned, to continue from.
            on_state: called with the state after every step of a chunk; what it keeps can be continued from. The
                analyses of a row are yielded before the state that no longer holds them.
            on_step: called as ``on_step(done, total)`` after every step of a chunk.

        Raises:
            InputError: a state is not finite, or ``state`` is of another run.
        """
        chunks, rows = plan.chunks(), self.schedule.count(problem.frames)
        total = rows * len(chunks) * problem.trajectories
        first = 0 if state is None else int(state["trajectory"])
        for trajectory in range(first, problem.trajectories):
            run = TrajectoryRun(self, problem, plan, trajectory)
            current = run.start() if state is None else run.restored(state)
            state = None
            for number, row in islice(enumerate(self.schedule.rows(problem.frames)), current.row, None):
                for index in range(len(current.complete), len(chunks)):
                    current = run.advance(current, row, chunks[index])
                    on_state(current)
                    on_step((trajectory * rows + number) * len(chunks) + index + 1, total)
                yield from run.analyses(row, torch.cat(current.complete))
                current = RunState(trajectory, number + 1, plan.chunk, current.windows)
                on_state(current)


class TrajectoryRun:
    """One trajectory of a problem: its windows, chunk by chunk, and its observations."""

    def __init__(
        self, assimilator: Assimilator, problem: Problem, plan: EnsemblePlan, trajectory: int
    ) -> None:
        """Prepare a trajectory; nothing is read or computed before it is asked for."""
        self.assimilator, self.problem, self.plan, self.trajectory = assimilator, problem, plan, trajectory
        self.observations = None
        if problem.stream is not None:
            model = assimilator.model
            self.observations = FrameObservations(
                problem.stream, assimilator.codec, trajectory, problem.stream_index, model.device, model.dtype
            )

    def start(self) -> RunState:
        """Return the state before the first row, every chunk after its members' context."""
        windows = []
        for members in self.plan.chunks():
            context = self.problem.context
            if context is not None:
                # A background of one trajectory or of fewer members serves all in turn.
                own = context[self.trajectory % len(context)]
                context = own[[member % len(own) for member in members]]
            windows.append(self.assimilator.model.start(len(members), self.problem.shape, context))
        return RunState(self.trajectory, 0, self.plan.chunk, tuple(windows))

    def restored(self, saved: Mapping[str, Any]) -> RunState:
        """Return the state that was saved.

        Raises:
            InputError: it has other chunks than the plan.
        """
        start, windows = self.start(), saved["windows"]
        if len(windows) != len(start.windows) or int(saved["chunk"]) != self.plan.chunk:
            raise InputError(
                f"state: found {len(windows)} chunks of {saved['chunk']} members, expected {len(start.windows)} of "
                f"{self.plan.chunk}"
            )
        restored = [new.restored(old) for new, old in zip(start.windows, windows, strict=True)]
        device = self.assimilator.model.device
        complete = tuple(frames.to(device) for frames in saved["complete"])
        return RunState(self.trajectory, int(saved["row"]), self.plan.chunk, tuple(restored), complete)

    def advance(self, state: RunState, row: Row, members: range) -> RunState:
        """Take the row's step with the next chunk.

        Raises:
            InputError: a state is not finite.
        """
        index = len(state.complete)
        likelihood = None
        if self.observations is not None:
            likelihood = self.observations.likelihood(row.first, len(row.before))
        draws = self.plan.draws(members, trajectory=self.trajectory, row=state.row)
        window, complete = self.assimilator.model.advance(
            state.windows[index], row, self.assimilator.stepper, likelihood=likelihood, draws=draws
        )
        if not bool(torch.isfinite(window.u).all()) or not bool(torch.isfinite(complete).all()):
            raise InputError(
                f"assimilation: a state of frame {row.first} or later is not finite; expected finite values: check "
                "the observations' units and sigma, or use more steps"
            )
        windows = (*state.windows[:index], window, *state.windows[index + 1 :])
        return RunState(self.trajectory, state.row, state.chunk, windows, (*state.complete, complete))

    def analyses(self, row: Row, frames: Trajectories) -> Iterator[Analysis]:
        """Yield the frames a row completed, in physical units, cut to what is possible."""
        codec, problem = self.assimilator.codec, self.problem
        physical = codec.clip_to_physical(codec.decode(frames.float()))
        for index, frame in enumerate(row.emit):
            members = physical[:, index].cpu().contiguous().numpy()
            members = problem.states(members, self.trajectory, frame)
            yield Analysis(self.trajectory, frame, problem.times[frame], members)
