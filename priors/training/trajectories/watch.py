r"""What a validation asks about memorising trajectories: skill on training windows beside that on held-out ones.

Days differ in how variable they are by more than a network overfits, so errors are compared by their skill:

    q_s = error_s / (s v / (s^2 + v^2)^(1/2)),      v the deviation of the windows' values
    q_f = error one frame ahead / error of persistence
    gap = ln(q held out / q training)

The first denominator is the error of the best estimate that knows mean and deviation alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from priors.training.memorisation.onset import compared_levels

TINY = 1e-6
Windows = Float[Tensor, "b f k y x"]
Valid = Bool[Tensor, "b f k y x"]
Figures = Callable[[Windows, Valid, tuple[float, ...]], dict[str, float]]


@dataclass(frozen=True)
class Watch:
    """Windows of both splits, network units, and which of their values are known."""

    train: tuple[Windows, Valid]
    held_out: tuple[Windows, Valid]
    levels: Sequence[float]

    def gaps(self, measure: Figures, held_out: Mapping[str, float]) -> dict[str, float]:
        """Return the gap by level and one frame ahead.

        Args:
            measure: returns ``error_LEVEL``, ``forecast`` and ``persistence`` of some windows.
            held_out: those of the held-out windows.
        """
        levels = compared_levels(self.levels)
        seen = measure(*self.train, levels)
        widths = [deviation(*windows) for windows in (self.held_out, self.train)]
        found = {}
        for level in levels:
            new, old = (
                figures[f"error_{level:g}"] * math.hypot(level, width) / width
                for figures, width in zip((held_out, seen), widths, strict=True)
            )
            found[f"gap_{level:g}"] = math.log(new / old)
        new, old = (figures["forecast"] / max(figures["persistence"], TINY) for figures in (held_out, seen))
        return {**found, "gap_ahead": math.log(new / old)}


def deviation(x: Windows, valid: Valid) -> float:
    """Return the deviation of the known values."""
    return max(float(x[valid].double().std()), TINY)
