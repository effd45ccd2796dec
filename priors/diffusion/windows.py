"""Overlapping windows along an axis: where they begin, and how much each counts."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

OVERLAP = 0.25


def window_starts(length: int, size: int) -> list[int]:
    """Return where windows begin that cover ``length`` and overlap by at least a quarter, evenly spread."""
    if length <= size:
        return [0]
    count = math.ceil((length - size) / (size * (1 - OVERLAP))) + 1
    return [round(k * (length - size) / (count - 1)) for k in range(count)]


def bell(size: int) -> Float[Tensor, "n"]:
    """Return the weights along one axis of a window, positive everywhere."""
    return torch.sin(math.pi * (torch.arange(size) + 0.5) / size) ** 2
