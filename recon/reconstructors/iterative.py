"""What reconstructors that are an iteration of ``recon.solvers`` share: start or continue, keep the state, report."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Float
from torch import Tensor

from recon.reconstructors.base import RunContext, StepRecord
from recon.solvers.base import IterativeMethod, P, S, Stop, iterate

LOOKS = 3
"""Looks at the figures from which the end is forecast: fewer than that say nothing."""


def run_iterations(
    method: IterativeMethod[P, S],
    problem: P,
    *,
    stop: Stop,
    context: RunContext,
    mark: str,
    start: Tensor,
    figures: Callable[[S], dict[str, float]] = lambda _: {},
) -> Float[Tensor, "z y x"]:
    """Run an iteration from zero or from where an interrupted run kept it, and return its estimate.

    Args:
        method: takes the steps.
        problem: what is solved.
        stop: when it ends.
        context: keeps the states; hears of every look at the figures.
        mark: see ``Reconstructor.mark``.
        start: first iterate.
        figures: more numbers to report with those of the method.

    Raises:
        InputError: the iteration met a NaN, or the kept state is of another run.
    """
    kept = context.load(mark)
    first: Any = start if kept is None else method.state_class(**kept)
    looks: list[tuple[int, Mapping[str, float]]] = []

    def on_step(state: S, numbers: dict[str, float]) -> None:
        looks.append((state.iteration, numbers))
        last = state.iteration == stop.iterations or stop.reached(numbers)
        total = state.iteration if last else forecast(stop, looks)
        watched = context.watch(method.estimate(problem, state))
        context.on_step(StepRecord(state.iteration, total, {**figures(state), **numbers, **watched}))

    def on_state(state: S) -> None:
        context.keep(vars(state), mark)

    return iterate(method, problem, start=first, stop=stop, on_step=on_step, on_state=on_state).x


def forecast(stop: Stop, looks: list[tuple[int, Mapping[str, float]]]) -> int | None:
    """Return the iteration at which a run will probably end, None before that can be said.

    Every figure that the stopping rule waits for is continued as a straight line in its logarithm through the last
    looks; the slowest decides. Where one does not fall, the run goes on to its largest number of iterations.
    """
    if not stop.below:
        return stop.iterations
    if len(looks) < LOOKS:
        return None
    (before, old), (now, new) = looks[-LOOKS], looks[-1]
    last = float(now)
    for name, bound in stop.below.items():
        if new[name] < bound:
            continue
        if bound <= 0 or not 0 < new[name] < old[name] < math.inf:
            return stop.iterations
        fall = (math.log(old[name]) - math.log(new[name])) / (now - before)
        last = max(last, now + (math.log(new[name]) - math.log(bound)) / fall)
    return min(stop.iterations, stop.every * math.ceil(last / stop.every))
