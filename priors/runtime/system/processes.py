"""Several processes that run the same program in step, as ``torchrun`` starts them.

Every process holds all arrays and takes a share of the expensive work; ``all_gather`` puts the shares together in the
order of the ranks, so that all processes go on with the same bits. Without ``torchrun`` there is one process, and
nothing is sent.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor

from priors.runtime.errors import InputError


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if _has_group() else 0


def count() -> int:
    """Return how many processes work together."""
    return dist.get_world_size() if _has_group() else 1


def share(items: int, of: int | None = None) -> range:
    """Return which of a number of items belong to this process (or to rank ``of``): neighbours, sizes within one."""
    k, n = rank() if of is None else of, count()
    return range(items * k // n, items * (k + 1) // n)


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that ``torchrun`` started, for as long as the context lasts: gloo, NCCL beside GPUs."""
    # Batch systems set WORLD_SIZE for programs of their own: without a rank nobody started several of this one.
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ or _has_group():
        yield
        return
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise InputError(
                f"{name}: is not set, but RANK and WORLD_SIZE are; start several processes with torchrun"
            )
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def all_gather(part: Tensor, axis: int, items: int) -> Tensor:
    """Return the shares of all processes side by side along an axis, fresh memory.

    Args:
        part: this process's share, ``share(items)`` long along ``axis``.
        axis: along which the items lie.
        items: number of items of all processes.
    """
    if count() == 1:
        return part
    first = part.movedim(axis, 0).contiguous()
    longest = max(len(share(items, of)) for of in range(count()))
    # Collectives want equal shapes: a shorter share travels with a filling that is cut off on arrival.
    padded = first.new_zeros((longest, *first.shape[1:]))
    padded[: len(first)] = first
    parts = [torch.empty_like(padded) for _ in range(count())]
    dist.all_gather(parts, padded)
    kept = [one[: len(share(items, of))] for of, one in enumerate(parts)]
    return torch.cat(kept).movedim(0, axis)


def all_reduce(part: Tensor) -> Tensor:
    """Return the sum of one array of every process, added in the order of the ranks: the same bits on all of them.

    One slice of the first axis travels at a time, which bounds the memory to the size of the array and ``count()``
    slices of it.
    """
    if count() == 1:
        return part
    result = torch.empty_like(part)
    for target, one in zip(result, part.contiguous(), strict=True):
        parts = [torch.empty_like(one) for _ in range(count())]
        dist.all_gather(parts, one)
        target.copy_(sum(parts[1:], start=parts[0]))
    return result


def barrier() -> None:
    """Wait until every process has come here."""
    if count() > 1:
        dist.barrier()


def _has_group() -> bool:
    return dist.is_available() and dist.is_initialized()
