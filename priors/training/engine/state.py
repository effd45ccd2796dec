"""The state of a run as plain tensors, the same whether one process holds the weights or many a part each.

Weights and moments are keyed by the weights' names, so a checkpoint of one process continues in two, sharded or not,
and the other way round. Of sharded weights every process takes part in putting them together, and the first one writes.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def full_state(module: nn.Module) -> dict[str, Tensor]:
    """Return all weights and buffers, whole, on the CPU where they were sharded."""
    return {name: _whole(value) for name, value in module.state_dict().items()}


def load_full(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load whole weights and buffers; a process keeps its part.

    Raises:
        RuntimeError: a name or a shape differs.
    """
    own = module.state_dict()
    module.load_state_dict({name: _part(value, own.get(name)) for name, value in state.items()})


def full_moments(optimiser: torch.optim.Optimizer, module: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Return the optimiser's state by the name of the weight."""
    return {
        name: {key: _whole(torch.as_tensor(value)) for key, value in optimiser.state[weight].items()}
        for name, weight in module.named_parameters()
        if weight in optimiser.state
    }


def load_moments(optimiser: torch.optim.Optimizer, module: nn.Module, state: Mapping[Any, Any]) -> None:
    """Load what `full_moments` returned, or the state dict of an optimiser that numbers its weights.

    Raises:
        KeyError: a weight has no state.
    """
    if "param_groups" in state:
        numbered = state["state"]
        names = [name for name, _ in module.named_parameters()]
        state = {name: numbered[index] for index, name in enumerate(names) if index in numbered}
    for name, weight in module.named_parameters():
        if state and weight.requires_grad:
            optimiser.state[weight] = {
                key: value.clone() if key == "step" else _laid_out(_part(value, weight), weight)
                for key, value in state[name].items()
            }


def _laid_out(value: Tensor, weight: Tensor) -> Tensor:
    """Return moments in the memory layout of their weight: the fused optimiser walks both in memory order."""
    return value if isinstance(weight, DTensor) else torch.empty_like(weight).copy_(value)


def _whole(value: Tensor) -> Tensor:
    # The part of every process travels to all: those that do not write drop it at once.
    return value.full_tensor().cpu() if isinstance(value, DTensor) else value


def _part(value: Tensor, own: Tensor | None) -> Tensor:
    """Return this process's part of a whole tensor, laid out as ``own``."""
    if not isinstance(own, DTensor):
        # A copy: what was loaded may be the state of another run that goes on.
        return value.clone()
    mesh = own.device_mesh
    return distribute_tensor(value.to(mesh.device_type), mesh, own.placements, src_data_rank=None)
