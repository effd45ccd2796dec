r"""When a validation finds that a network begins to copy its training data.

    gap      the held-out error is further above that on training data than patients explain (`.gap`)
    copying  more of a few samples lie near a training slice than chance explains (`.copying`)

A validation draws few samples, so a share above the limit is chance now and then: their number must exceed the 99 %
quantile of the binomial distribution around the limit. Of two series alone nothing can be said from few samples.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from scipy.stats import binom

from priors.training.memorisation.gap import SUSPECT, overfits

MIDDLE = (0.1, 1.0)
"""Noise levels between which training and held-out errors are compared: below, every network sees the noise alone."""
CHANCE = 0.99
NAME = "memorises"


def compared_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """Return the validation levels whose gap is watched: those of `MIDDLE`, all where there is none."""
    low, high = MIDDLE
    return tuple(level for level in levels if low <= level <= high) or tuple(levels)


def too_many(figures: Mapping[str, float]) -> bool:
    """Tell whether so many of a few samples are near training slices that chance does not explain it."""
    if "copying_share" not in figures:
        return False
    samples = round(figures["copying_samples"])
    return bool(figures["copying_share"] * samples > binom.ppf(CHANCE, samples, figures["copying_limit"]))


def with_verdict(figures: Mapping[str, float]) -> dict[str, float]:
    """Return the figures of one validation's audits and what follows from them, 1 or 0; nothing of none."""
    if not figures:
        return {}
    return {**figures, NAME: float(overfits(figures) or too_many(figures))}


def complaint(figures: Mapping[str, float]) -> str | None:
    """Return what to say at the onset, None where a validation found nothing."""
    if not figures.get(NAME):
        return None
    found = []
    gaps = {name: value for name, value in figures.items() if name.startswith("gap_") and value > SUSPECT}
    if overfits(figures):
        worst = max(gaps, key=lambda name: gaps[name])
        where = worst.removeprefix("gap_")
        found.append(
            f"held-out data is {100 * (math.exp(gaps[worst]) - 1):.0f} % further off than training data "
            + ("one frame ahead" if where == "ahead" else f"at noise level {where}")
        )
    if too_many(figures):
        near = round(figures["copying_share"] * figures["copying_samples"])
        found.append(f"{near} of {figures['copying_samples']:.0f} samples lie near a training slice")
    return (
        f"the network begins to memorise: {'; '.join(found)}. More training data, augmentation or fewer steps help; "
        "`memorisation: {stop: true}` ends a run here"
    )


class Warner:
    """Says the complaint of the first validation that has one, once.

    Args:
        say: called with the sentence.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.said = say, False

    def __call__(self, step: int, figures: Mapping[str, float]) -> None:
        """Look at the figures of a step."""
        found = None if self.said else complaint(figures)
        if found is not None:
            self.said = True
            self.say(f"step {step}: {found}")


def onset(log: Path) -> int | None:
    """Return the step of the first validation in ``training.jsonl`` that found the network to memorise, if one did."""
    for line in log.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row.get(NAME):
            return int(row["step"])
    return None
