r"""Averages of a network's weights: exponential, or by a power of time.

    theta_g <- b theta_g + (1 - b) theta

    ema      b = min(decay, (1 + n) / (10 + n)) at step n, so that early averages forget the start
    power    b = (1 - 1 / t)^(g + 1), t = n + 1: the weight of step i is proportional to i^g for large t

The deviation of the power average's weights in time is sqrt(g + 1) / ((g + 2) sqrt(g + 3)) of t (Karras et al. 2024,
arXiv 2312.02696, Eq. 2 to 4 and 123).
"""

import copy
from collections.abc import Iterable

import torch
from scipy.optimize import brentq
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from priors.training.configuration.settings import Average


def relative_length(g: float) -> float:
    """Return the deviation of weights proportional to t^g, as a share of t."""
    return float((g + 1) ** 0.5 / ((g + 2) * (g + 3) ** 0.5))


def exponent(length: float) -> float:
    """Return g of a relative length; the longest, of equal weights, is 0.2887."""
    return float(brentq(lambda g: relative_length(g) - length, 0.0, 1e4))


class WeightAverage:
    """Average of parameters (buffers are copied).

    Args:
        module: the network being trained, before it is wrapped or sharded.
        decay: of the exponential average, once warmed up.
        settings: which average.
    """

    def __init__(self, module: nn.Module, *, decay: float, settings: Average = Average()) -> None:  # noqa: B008
        self.decay = decay
        self.power = exponent(settings.length) + 1 if settings.kind == "power" else None
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    def kept(self, step: int) -> float:
        """Return b at a step, counted from zero."""
        if self.power is not None:
            return float((1 - 1 / (step + 1)) ** self.power)
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average toward ``module``; of sharded networks every process moves its own part."""
        weight = 1 - self.kept(step)
        torch._foreach_lerp_(_local(self.module.parameters()), _local(module.parameters()), weight)
        for mine, theirs in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(theirs)


def _local(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [each.to_local() if isinstance(each, DTensor) else each for each in tensors]
