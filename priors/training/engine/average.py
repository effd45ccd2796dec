"""Exponential moving average of a network's weights, warmed up so that early averages forget the start."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class EMA:
    """Average of parameters (buffers are copied).

    Args:
        module: the network being trained, before it is wrapped or sharded.
        decay: weight of the past per step once warmed up; at step n it is min(decay, (1 + n) / (10 + n)).
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average toward ``module``; of sharded networks every process moves its own part."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(_local(self.module.parameters()), _local(module.parameters()), weight)
        for mine, theirs in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(theirs)


def _local(tensors: Iterable[Tensor]) -> list[Tensor]:
    return [each.to_local() if isinstance(each, DTensor) else each for each in tensors]
