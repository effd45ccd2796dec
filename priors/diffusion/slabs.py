r"""Windows of neighbouring slices: how a denoiser that sees several slices at once answers about a whole volume.

    E[x | u]_z  ~  sum_w  weight_w(z) D(u[slices of w])_z,        sum_w weight_w(z) = 1

``neighbours``: one window per slice, k slices around it, of which only the middle is answered; beyond the first and the
last slice the end is repeated. ``block``: windows of d slices that overlap by at least a quarter; their answers are
weighted by the same bell as windows in a slice (sin^2) and divided by its sum. A prior of single slices is a window of
one slice.

A vector-Jacobian product goes the same way back: what the windows pull at a slice adds up, so that it belongs to the
very estimate whatever is computed at a time.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from priors.diffusion.windows import bell, window_starts


@dataclass(frozen=True)
class Slabs:
    """Which slices of a volume every window holds and answers.

    Attributes:
        held: slices that go in.
        answered: slices that its answer is of.
        weight: share of the answer in the slice's estimate.
    """

    held: Int[Tensor, "windows d"]
    answered: Int[Tensor, "windows e"]
    weight: Float[Tensor, "windows e"]

    def __len__(self) -> int:
        return len(self.held)

    @property
    def single(self) -> bool:
        """Whether every window is one slice."""
        return self.held.shape[1] == 1


def single_slices(count: int) -> Slabs:
    """Return one window per slice."""
    each = torch.arange(count)[:, None]
    return Slabs(each, each, torch.ones(count, 1))


def neighbours(count: int, slices: int) -> Slabs:
    """Return one window of an odd number of slices around every slice, the ends repeated."""
    middle, reach = torch.arange(count)[:, None], slices // 2
    held = (middle + torch.arange(-reach, reach + 1)).clamp(0, count - 1)
    return Slabs(held, middle, torch.ones(count, 1))


def blocks(count: int, slices: int) -> Slabs:
    """Return overlapping windows of so many slices; one of all slices where there are no more."""
    depth = min(count, slices)
    held = torch.tensor(window_starts(count, depth))[:, None] + torch.arange(depth)
    weight = bell(depth).expand(held.shape)
    total = torch.zeros(count).index_add_(0, held.flatten(), weight.flatten())
    return Slabs(held, held, weight / total[held])
