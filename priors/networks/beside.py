"""What a slice network is told beside the noise level: a class, and how far its answer jumps.

MONAI's U-Net adds the embedding of a class to that of the noise level. This module stands in its place, so that more
facts go the same way. All of them start at zero: a network that is given one more answers as before.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Told = tuple[Int[Tensor, "b"] | None, Float[Tensor, "b"] | None]
WAVES = 32
JUMP_UNIT = 1000.0
"""Jumps of 0 to 1 are spread over the range of a usual sinusoidal embedding of steps."""


class Beside(nn.Module):
    """Embedding of a class and of a jump; called with both, ``None`` for what the network is not told.

    Args:
        classes: real classes; one more stands for none. None where the network knows no classes.
        jumps: whether it is told how far its answer jumps.
        width: of the embedding.
    """

    def __init__(self, classes: int | None, *, jumps: bool, width: int) -> None:
        super().__init__()
        self.label = None if classes is None else nn.Embedding(classes + 1, width)
        if self.label is not None:
            nn.init.zeros_(self.label.weight)
        self.jump: nn.Sequential | None = None
        if jumps:
            last = nn.Linear(width, width)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
            self.jump = nn.Sequential(nn.Linear(2 * WAVES, width), nn.SiLU(), last)

    def forward(self, told: Told) -> Float[Tensor, "b width"]:
        """Return the sum of the embeddings."""
        labels, jump = told
        parts = []
        if self.label is not None:
            assert labels is not None
            parts.append(self.label(labels))
        if self.jump is not None:
            assert jump is not None
            # No jump is exactly zero waves of sine: the features are smooth in it, as a derivative needs.
            like = next(self.jump.parameters())
            rates = torch.exp(-math.log(1e4) * torch.arange(WAVES, device=jump.device) / WAVES)
            angles = JUMP_UNIT * jump[:, None].to(like) * rates.to(like)
            parts.append(self.jump(torch.cat([angles.sin(), angles.cos()], 1)))
        total: Tensor = torch.stack(parts).sum(0)
        return total
