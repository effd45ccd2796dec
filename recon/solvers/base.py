"""Iterative methods: hyperparameters in the method, tensors in the state, one loop for all.

    state_0 = init(problem, x_0);   state_{k+1} = step(problem, state_k);   x = estimate(problem, state)

The loop runs without autograd, reports, stops, and refuses to go on with a NaN. A state is a frozen dataclass
of tensors and numbers, so that it can be saved, and a run continued from it takes the same steps.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from priors.runtime.errors import InputError


@dataclass(frozen=True)
class State:
    """What one iteration hands to the next.

    Attributes:
        x: the primal iterate.
        iteration: iterations done.
        change: |x - previous x| / |x|, relative to the last iteration; infinite before the first.
    """

    x: Tensor
    iteration: int
    change: float


S = TypeVar("S", bound=State)
P = TypeVar("P")


class IterativeMethod(BaseModel, ABC, Generic[P, S]):
    """Interface: a frozen set of hyperparameters that can start, step and report on a problem ``P``.

    Attributes:
        state_class: of its states; ``state_class(**vars(state))`` is the same state again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    state_class: ClassVar[type[State]]

    @abstractmethod
    def init(self, problem: P, x0: Float[Tensor, "*shape"]) -> S:
        """Return the state before the first iteration."""

    @abstractmethod
    def step(self, problem: P, state: S) -> S:
        """Return the state after one more iteration."""

    @abstractmethod
    def estimate(self, problem: P, state: S) -> Float[Tensor, "*shape"]:
        """Return the best answer the state holds, which satisfies the problem's constraints."""

    def figures(self, problem: P, state: S) -> dict[str, float]:
        """Return named numbers to report and to stop on; they may cost as much as an iteration."""
        return {"change": state.change}


class Stop(BaseModel):
    """When a run ends.

    Attributes:
        iterations: largest number of iterations.
        below: the run ends early once every figure named here is below its value.
        every: iterations between two looks at the figures.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    iterations: int = Field(ge=1)
    below: Mapping[str, float] = Field(default_factory=dict)
    every: int = Field(10, ge=1)

    def looks(self, iteration: int) -> bool:
        """Return whether the figures are looked at after so many iterations."""
        return iteration % self.every == 0 or iteration == self.iterations

    def reached(self, figures: Mapping[str, float]) -> bool:
        """Return whether the figures allow to stop."""
        return bool(self.below) and all(figures[name] < bound for name, bound in self.below.items())


@dataclass(frozen=True)
class Result(Generic[S]):
    """The end of a run.

    Attributes:
        x: the estimate.
        state: from which the run can go on.
        figures: at the last iteration.
        converged: whether the stopping rule was reached before the iterations ran out.
    """

    x: Tensor
    state: S
    figures: dict[str, float]
    converged: bool


def iterate(
    method: IterativeMethod[P, S],
    problem: P,
    *,
    start: Tensor | S,
    stop: Stop,
    on_step: Callable[[S, dict[str, float]], None] | None = None,
    on_state: Callable[[S], None] | None = None,
) -> Result[S]:
    """Run a method until its stopping rule.

    Args:
        method: takes the steps.
        problem: what is solved.
        start: first iterate, or the state of an earlier run to continue.
        stop: iterations in total (those of an earlier run included) and the early end.
        on_step: called with (state, figures) whenever the figures are looked at.
        on_state: called with every new state, so that it can be kept.

    Raises:
        InputError: the iterate or a figure became NaN or infinite.
    """
    with torch.no_grad():
        state = method.init(problem, start) if isinstance(start, Tensor) else start
        figures = method.figures(problem, state)
        # A run that ended by its rule and was interrupted before its result was written must end there again.
        converged = state.iteration > 0 and stop.looks(state.iteration) and stop.reached(figures)
        while state.iteration < stop.iterations and not converged:
            state = method.step(problem, state)
            if on_state is not None:
                on_state(state)
            if stop.looks(state.iteration):
                figures = method.figures(problem, state)
                _check(method, state, figures)
                converged = stop.reached(figures)
                if on_step is not None:
                    on_step(state, figures)
        return Result(method.estimate(problem, state), state, figures, converged)


def _check(method: BaseModel, state: State, figures: Mapping[str, float]) -> None:
    """Raise if a number is not finite: going on would only hide where it began."""
    bad = [name for name, value in figures.items() if not math.isfinite(value)]
    if not math.isfinite(float(state.x.sum(dtype=torch.float64))):
        bad.insert(0, "the iterate")
    if bad:
        raise InputError(
            f"{type(method).__name__.lower()}: {', '.join(bad)} became NaN or infinite by iteration "
            f"{state.iteration}; check the measurement and its weights for NaN, or make the steps smaller"
        )
