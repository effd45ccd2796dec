"""Ensembles of nowcasts: every member's rain evolves while it stands still, and is carried to where it will be.

One evaluation of the prior per member and frame, none where the frames seen say that it adds nothing to
extrapolation. Every draw comes from a generator seeded by (seed, trajectory, member, frame), as in
``assimilation.inference.assimilator``: a member is the same whatever the number of members, the chunks, or the point at
which an interrupted run continued.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32

from assimilation.inference.assimilator import Analysis, Assimilator, EnsemblePlan, RunState
from assimilation.inference.lagrangian import RAIN, Advection, Draws
from assimilation.inference.nowcast.cascade import Bands, rain_of
from assimilation.inference.nowcast.evolution import Evolution
from assimilation.inference.nowcast.noise import Strays, drift
from assimilation.inference.one_ahead import one_ahead
from assimilation.inference.problem import Problem
from priors.runtime.errors import InputError

Rain = Float32[np.ndarray, "b f y x"]
SMALLEST = 8  # cells: a grid with no room for bands
WORTH = 0.1  # least share of a prior for which it is evaluated: less changes no score


def nowcasts(problem: Problem) -> bool:
    """Tell whether a problem is one of rain that moves, on a grid in km."""
    return (
        problem.advection is not None
        and problem.stream is None
        and len(problem.variables) == 1
        and problem.variables[0].standard_name in RAIN
        and problem.variables[0].unit == "mm/h"
        and problem.grid.unit == "km"
        and min(problem.grid.shape) >= SMALLEST
    )


@dataclass(frozen=True, eq=False)
class Nowcaster(Assimilator):
    """Forecasts of moving rain; see the module.

    ``schedule`` has one step: a frame is one evaluation of the prior.

    Attributes:
        minutes: between two frames.
    """

    minutes: float = 10.0

    def run(
        self,
        problem: Problem,
        plan: EnsemblePlan,
        *,
        state: Mapping[str, Any] | None = None,
        on_state: Callable[[RunState], None] = lambda state: None,
        on_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[Analysis]:
        """Yield the forecasts of every trajectory, times ascending; see `Assimilator.run`.

        A run that continues computes the frames before again, which takes as long as they did, and yields those after.
        """
        total = problem.frames * problem.trajectories
        first = 0 if state is None else int(state["trajectory"])
        done_frames = 0 if state is None else int(state["row"])
        for trajectory in range(first, problem.trajectories):
            for frame, members in enumerate(self._frames(problem, plan, trajectory)):
                if frame >= done_frames:
                    yield Analysis(trajectory, frame, problem.times[frame], members)
                    on_state(RunState(trajectory, frame + 1, plan.chunk, ()))
                on_step(trajectory * problem.frames + frame + 1, total)
            done_frames = 0

    def _frames(
        self, problem: Problem, plan: EnsemblePlan, trajectory: int
    ) -> Iterator[Float32[np.ndarray, "m k y x"]]:
        """Yield the members of one frame after the other."""
        seen = self.seen(problem, trajectory)
        past = [seen[member % len(seen)] for member in range(plan.members)]
        evolutions = [self.evolution(frames) for frames in seen]
        own = [evolutions[member % len(seen)] for member in range(plan.members)]
        states = [each.start for each in own]
        strays = [Strays.drawn(_generator(plan.seed, trajectory, member)) for member in range(plan.members)]
        for frame in range(problem.frames):
            expected = self._expected(past, own, plan)
            for member, evolution in enumerate(own):
                draws = _generator(plan.seed, trajectory, member, frame)
                states[member] = evolution.step(states[member], draws, expected[member])
            rain = np.stack([_rain(*each) for each in zip(own, states, strict=True)])
            if any(evolution.shares.max() >= WORTH for evolution in evolutions):
                past = [
                    np.append(frames[1:], one[None], axis=0) for frames, one in zip(past, rain, strict=True)
                ]
            yield self._carried(problem, rain, strays, trajectory=trajectory, frame=frame)

    def seen(self, problem: Problem, trajectory: int) -> Rain:
        """Return the frames a trajectory starts from, rain standing still, of every member of the start.

        Raises:
            InputError: there are none.
        """
        if problem.context is None:
            raise InputError("nowcast: found no frames to start from, expected two or more")
        own = problem.context[trajectory % len(problem.context)]
        return np.asarray(self.codec.clip_to_physical(self.codec.decode(own.float()))[:, :, 0].cpu().numpy())

    def evolution(self, frames: Float32[np.ndarray, "f y x"]) -> Evolution:
        """Return the evolution of frames, the prior's shares by what it expected of the last one."""
        expected = self.expected(frames[None, :-1])[0] if len(frames) > 2 else None
        return Evolution.seen(frames.astype(np.float64), expected)

    def expected(self, frames: Rain) -> Float32[np.ndarray, "b y x"]:
        """Return the prior's mean of the frame after these, in mm/h."""
        return one_ahead(self.model, self.codec, frames[:, :, None])[:, 0]

    def _expected(
        self, past: list[np.ndarray], own: list[Evolution], plan: EnsemblePlan
    ) -> list[np.ndarray | None]:
        """Return the prior's mean of every member's next frame, None where it has no say."""
        found: list[np.ndarray | None] = [None] * len(past)
        wanted = [member for member, each in enumerate(own) if each.shares.max() >= WORTH]
        for first in range(0, len(wanted), plan.chunk):
            chunk = wanted[first : first + plan.chunk]
            means = self.expected(np.stack([past[member] for member in chunk]))
            for member, mean in zip(chunk, means, strict=True):
                found[member] = mean.astype(np.float64)
        return found

    def _carried(
        self, problem: Problem, rain: np.ndarray, strays: list[Strays], *, trajectory: int, frame: int
    ) -> Float32[np.ndarray, "m k y x"]:
        """Return the members of a frame where the rain will be, each with its own error of the motion and inflow."""
        advection = problem.advection
        assert isinstance(advection, Advection)
        size = np.asarray(problem.grid.spacing)
        velocity = advection.mean(trajectory) * size
        shifts = [
            drift(velocity[member % len(velocity)], (frame + 1) * self.minutes, stray.motion) / size
            for member, stray in enumerate(strays)
        ]
        draws = Draws(
            np.stack(shifts),
            np.stack([2 * np.asarray(problem.grid.shape) * stray.offset for stray in strays]),
            np.array([stray.reach_km for stray in strays]) / float(size.mean()),
        )
        return problem.states(rain[:, None].astype(np.float32), trajectory, frame, draws=draws)


def _rain(evolution: Evolution, state: tuple[Bands, Bands]) -> np.ndarray:
    return np.asarray(rain_of(evolution.frame(state[0])), np.float32)


def _generator(*key: int) -> np.random.Generator:
    """Return the generator of a key; the key of a motion has no frame."""
    return np.random.default_rng(np.random.SeedSequence(key))
