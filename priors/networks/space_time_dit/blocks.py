r"""Blocks of the space-time transformer, on (b, f, h, w, c) arrays: every block keeps frames apart but one part.

Each block adds gate * g(norm(x) * (1 + scale) + shift) to x. Scale, shift and gate come from the frame's noise
level and are computed once per frame, not per place; they start at zero, so every block starts as the identity
(AdaLN-Zero, Peebles and Xie 2023, arXiv 2212.09748). The norm is over the channels of one place.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from priors.networks.space_time_dit.attention import SpatialAttention, TemporalAttention, TimeAxis

Places = Float[Tensor, "b f h w c"]
Other = Float[Tensor, "b f ..."]
Padding = Literal["periodic", "reflect", "zeros"]


def pad_axis(
    x: Float[Tensor, "..."], axis: int, mode: Padding, below: int, above: int
) -> Float[Tensor, "..."]:
    """Extend one axis by ``below`` and ``above`` points."""
    if mode == "zeros":
        sides = [0, 0] * (x.ndim - 1 - axis % x.ndim) + [below, above]
        return functional.pad(x, sides)
    n = x.shape[axis]
    if mode == "periodic":
        index = torch.arange(-below, n + above, device=x.device) % n
    else:
        # Reflection about the first and last place, repeated where the axis is shorter than the extension.
        index = torch.arange(-below, n + above, device=x.device) % max(1, 2 * n - 2)
        index = torch.minimum(index, 2 * n - 2 - index)
    if below <= 1 and above <= 1:
        first, last = index[:below].tolist(), index[n + below :].tolist()
        sides_ = [x.narrow(axis, i, 1) for i in first], [x.narrow(axis, i, 1) for i in last]
        return torch.cat([*sides_[0], x, *sides_[1]], dim=axis)
    return x.index_select(axis, index)


class FieldConvolution(nn.Module):
    """3x3 convolution of each frame with a padding per axis."""

    def __init__(self, channels: int, out: int, *, padding: tuple[Padding, Padding]) -> None:
        super().__init__()
        self.padding = padding
        own = [1 if mode == "zeros" else 0 for mode in padding]
        self.conv = nn.Conv2d(channels, out, 3, padding=(own[0], own[1]))
        self.conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Places) -> Other:
        """Return the convolved frames."""
        flat = x.flatten(0, 1)
        for axis, mode in zip((1, 2), self.padding, strict=True):
            if mode != "zeros":
                flat = pad_axis(flat, axis, mode, 1, 1)
        out: Tensor = self.conv(flat.permute(0, 3, 1, 2))
        return out.permute(0, 2, 3, 1).reshape(*x.shape[:4], -1)


class NoiseEmbedding(nn.Module):
    """log(sigma / alpha) of every frame -> features, by cosines and sines and a small network."""

    frequencies: Tensor

    def __init__(self, width: int, *, waves: int = 32) -> None:
        super().__init__()
        spread = torch.linspace(math.log(0.1), math.log(16.0), waves).exp()
        self.register_buffer("frequencies", spread, persistent=False)
        self.first, self.second = nn.Linear(2 * waves, width), nn.Linear(width, width)

    def forward(self, log_ratio: Float[Tensor, "b f"]) -> Float[Tensor, "b f e"]:
        """Return the features, after their last nonlinearity."""
        angles = log_ratio[..., None] * self.frequencies
        hidden = functional.silu(self.first(torch.cat([angles.cos(), angles.sin()], -1)))
        return functional.silu(self.second(hidden))


class Modulation(nn.Linear):
    """Noise features -> ``parts`` vectors per frame, zero at the start."""

    def __init__(self, features: int, channels: int, *, parts: int) -> None:
        super().__init__(features, parts * channels)
        self.parts = parts
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def vectors(self, noise: Float[Tensor, "b f e"]) -> list[Float[Tensor, "b f 1 1 c"]]:
        """Return scale, shift, gate, ... of every frame."""
        return list(self(noise)[:, :, None, None].chunk(self.parts, dim=-1))


def modulated(x: Places, scale: Tensor, shift: Tensor) -> Places:
    """Return norm(x) * (1 + scale) + shift."""
    return torch.addcmul(shift, functional.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)


class StageBlock(nn.Module):
    """Two convolutions within each frame, then attention along time at each point."""

    def __init__(
        self, channels: int, *, features: int, padding: tuple[Padding, Padding], heads: int, layer: int
    ) -> None:
        super().__init__()
        self.modulation = Modulation(features, channels, parts=6)
        self.first = FieldConvolution(channels, channels, padding=padding)
        self.second = FieldConvolution(channels, channels, padding=padding)
        self.temporal = TemporalAttention(channels, heads=heads, layer=layer)

    def forward(self, x: Places, noise: Float[Tensor, "b f e"], axis: TimeAxis) -> Places:
        """Return the block's output."""
        scale, shift, gate, scale_t, shift_t, gate_t = self.modulation.vectors(noise)
        inside = self.second(functional.silu(self.first(functional.silu(modulated(x, scale, shift)))))
        x = torch.addcmul(x, gate, inside)
        return torch.addcmul(x, gate_t, self.temporal(modulated(x, scale_t, shift_t), axis))


class TransformerBlock(nn.Module):
    """Attention within each frame, attention along time at each point, a two-layer network."""

    def __init__(
        self, channels: int, *, features: int, spatial: SpatialAttention, temporal: TemporalAttention
    ) -> None:
        super().__init__()
        self.modulation = Modulation(features, channels, parts=9)
        self.spatial, self.temporal = spatial, temporal
        self.widen, self.narrow = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x: Places, noise: Float[Tensor, "b f e"], axis: TimeAxis) -> Places:
        """Return the block's output."""
        vectors = self.modulation.vectors(noise)
        x = torch.addcmul(x, vectors[2], self.spatial(modulated(x, *vectors[:2])))
        x = torch.addcmul(x, vectors[5], self.temporal(modulated(x, *vectors[3:5]), axis))
        hidden = functional.gelu(self.widen(modulated(x, *vectors[6:8])), approximate="tanh")
        return torch.addcmul(x, vectors[8], self.narrow(hidden))


class Down(nn.Linear):
    """2x2 tokens -> one, by a linear map."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__(4 * channels, out)

    def forward(self, x: Places) -> Other:
        """Return tokens of half the resolution."""
        b, f, h, w, c = x.shape
        packed = x.reshape(b, f, h // 2, 2, w // 2, 2, c).permute(0, 1, 2, 4, 3, 5, 6)
        return super().forward(packed.reshape(b, f, h // 2, w // 2, 4 * c))


class Up(nn.Module):
    """One token -> 2x2, merged with the skipped tokens by a linear map."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.spread, self.join = nn.Linear(channels, 4 * out), nn.Linear(2 * out, out)

    def forward(self, x: Places, skipped: Other) -> Other:
        """Return tokens of the resolution of ``skipped``."""
        b, f, h, w, _ = x.shape
        spread = self.spread(x).reshape(b, f, h, w, 2, 2, -1).permute(0, 1, 2, 4, 3, 5, 6)
        merged: Tensor = self.join(torch.cat([spread.reshape(b, f, 2 * h, 2 * w, -1), skipped], dim=-1))
        return merged
