"""Processes that train one network: the loss of a step as a module, wrapped for ddp or sharded for fsdp.

Every process takes its share of the samples of a step. Gradients of sums are averaged over the processes by torch and
then scaled by (processes / values of all): a mean of the processes' means would be wrong where masks leave them
different numbers of values.

fully_shard refuses weights in channels_last ("does not support non-contiguous parameters"), so they are laid out anew.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from priors.diffusion.denoiser import NetworkDenoiser
from priors.runtime.errors import InputError
from priors.runtime.system import processes
from priors.training.engine.precision import blocks_of
from priors.training.task import Batch, TrainingTask

Made = TypeVar("Made")


class LossOfSamples(nn.Module):
    """The sum of the errors of some samples, as a module: what ddp has to call."""

    def __init__(self, denoiser: NetworkDenoiser, subject: TrainingTask) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.subject = subject

    def forward(self, batch: Batch) -> Tensor:
        """Return the sum of weighted squared errors, a scalar."""
        return self.subject.loss_sum(self.denoiser, batch)


def sharded(network: nn.Module) -> nn.Module:
    """Shard the weights of a network over all processes, block by block."""
    # Its import takes a second, which every assimilation would pay for.
    from torch.distributed.fsdp import fully_shard

    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for block in blocks_of(network):
        fully_shard(block)
    fully_shard(network)
    return network


def wrapped(module: LossOfSamples, *, mode: str) -> nn.Module:
    """Return the module that a process calls in its steps."""
    if processes.count() == 1 or mode == "fsdp":
        return module
    return DistributedDataParallel(module, broadcast_buffers=False, gradient_as_bucket_view=True)


def sum_of_all(values: list[float], device: torch.device) -> list[float]:
    """Return the sums of numbers over all processes, float64."""
    if processes.count() == 1:
        return values
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return [float(value) for value in total]


def from_first(value: Any) -> Any:
    """Return the first process's value on all of them, so that they decide alike."""
    if processes.count() == 1:
        return value
    holder = [value]
    dist.broadcast_object_list(holder, src=0)
    return holder[0]


def first_message(message: str | None) -> tuple[int, str] | None:
    """Return the rank and the message of the first process that has one, on all of them; None where none has."""
    if processes.count() == 1:
        return None if message is None else (0, message)
    messages: list[str | None] = [None] * processes.count()
    dist.all_gather_object(messages, message)
    return next(((rank, text) for rank, text in enumerate(messages) if text is not None), None)


def in_step(work: Callable[[], Made]) -> Made:
    """Do the same preparation in every process; a mistake is raised once, by the first process that saw it.

    Raises:
        InputError: this process is the one to tell it.
        SystemExit: another one is; status 2.
    """
    result: Made | None = None
    message = None
    try:
        result = work()
    except InputError as error:
        if processes.count() == 1:
            raise
        message = str(error)
    failed = first_message(message)
    if failed is not None:
        if failed[0] == processes.rank():
            raise InputError(failed[1])
        raise SystemExit(2)
    return cast("Made", result)
