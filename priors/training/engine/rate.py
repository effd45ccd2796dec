r"""The learning rate of a step: warm-up, then a cosine, or a constant with a decay at the end.

    n < warmup              r (n + 1) / warmup
    cosine                  r (1 + cos(pi p)) / 2,          p = (n - warmup) / (steps - warmup)
    constant-decay          r up to n = (1 - cooldown) steps, then r (1 - sqrt(q)),  q in [0, 1] over the cooldown

A cosine is fitted to its number of steps: a run that shall go on afterwards needs a new one. Under constant-decay all
steps before the cooldown are those of any longer run, so a run can be prolonged without a seam. The decay of one minus
the square root is the best of those compared by Haegele et al. 2024 (arXiv 2405.18392, section 3.2).

A run prolonged after its end (``extended``) goes through warm-up and decay once more, over the steps added.
"""

import math

from priors.training.configuration.config import Optimisation


def learning_rate(step: int, settings: Optimisation) -> float:
    """Return the rate of step ``step``, counted from zero."""
    begin, end = settings.segment(step)
    n, steps = step - begin, end - begin
    if n < settings.warmup:
        return settings.learning_rate * (n + 1) / settings.warmup
    if settings.rate == "constant-decay":
        first = settings.cooldown_begin(begin, end) - begin
        passed = max(0, n - first) / max(1, steps - first)
        return settings.learning_rate * (1 - math.sqrt(min(1.0, passed)))
    progress = (n - settings.warmup) / max(1, steps - settings.warmup)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
