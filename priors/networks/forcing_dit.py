r"""The space-time transformer of ForcingDAS (arXiv 2605.14285), by the names of its weights.

Patches of every frame become tokens; a learned position per (frame, patch) is added. Each block attends within frames,
then across frames at one place (``factorised``), or over all tokens at once (``full``), and ends with a perceptron. The
noise level of a frame modulates every norm of its tokens (shift, scale) and gates what is added:

    x <- x + gate(c) F(norm(x) (1 + scale(c)) + shift(c)),        c = MLP(sinusoids of the frame's training step)

Positions are absolute, so frames finished long ago cannot slide out of a cache: the network takes at most ``frames``
frames, and the finished ones among them are given again on every call.
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from priors.networks.space_time_dit.attention import KeyValueCache
from priors.networks.trajectory import Levels, Trajectories, TrajectoryNetwork
from priors.runtime.errors import InputError

Tokens = Float[Tensor, "b f p c"]
Noise = Float[Tensor, "b f c"]
Gate = Float[Tensor, "b f 1 c"]


class ForcingDiT(BaseModel):
    """Card entry that builds a `ForcingTransformer`.

    Attributes:
        field_channels: variables of a frame.
        grid: field size, the only one.
        patch: pixels per token along each axis.
        width: channels.
        depth: blocks.
        heads: of attention.
        hidden: channels inside the perceptrons.
        frames: most frames at once.
        attention: ``factorised`` or ``full``.
        causal: frames see no later ones, as in training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["forcing-dit"] = "forcing-dit"
    field_channels: int = Field(1, ge=1)
    grid: tuple[int, int]
    patch: int = Field(2, ge=1)
    width: int = Field(384, ge=2)
    depth: int = Field(12, ge=1)
    heads: int = Field(6, ge=1)
    hidden: int = Field(1536, ge=1)
    frames: int = Field(64, ge=1)
    attention: Literal["factorised", "full"] = "factorised"
    causal: bool = True

    @model_validator(mode="after")
    def _sizes_fit(self) -> "ForcingDiT":
        if self.width % self.heads:
            raise ValueError(f"width ({self.width}) must be a multiple of heads ({self.heads})")
        if any(n % self.patch or n < self.patch for n in self.grid):
            raise ValueError(f"grid {self.grid} must be multiples of patch ({self.patch})")
        return self

    @property
    def tokens(self) -> int:
        """Tokens of a frame."""
        return (self.grid[0] // self.patch) * (self.grid[1] // self.patch)

    def build(self) -> "ForcingTransformer":
        """Return the network with random weights."""
        return ForcingTransformer(self)


class Modulated(nn.Module):
    """A norm whose scale and shift, and where there is a third part a gate, follow from the noise level."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, parts * width))

    def forward(self, x: Tokens, noise: Noise) -> tuple[Tokens, Gate]:
        """Return the modulated tokens and the gate, 1 where there is none."""
        shift, scale, *gate = self.modulation(noise)[:, :, None].chunk(self.parts, -1)
        return self.norm(x) * (1 + scale) + shift, gate[0] if gate else torch.ones_like(scale)


class Attention(nn.Module):
    """Attention over the axis before the last, with packed weights."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "*b n c"], mask: Bool[Tensor, "n n"] | None
    ) -> Float[Tensor, "*b n c"]:
        """Return what every token gathers from those it may see."""
        shape = (*x.shape[:-1], 3, self.heads, x.shape[-1] // self.heads)
        q, k, v = self.qkv(x).reshape(shape).movedim(-2, -4).unbind(-2)
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        answer: Tensor = self.proj(seen.movedim(-3, -2).flatten(-2))
        return answer


def _perceptron(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))


class FactorisedBlock(nn.Module):
    """Attention within frames, across frames at one point, perceptron."""

    def __init__(self, s: ForcingDiT) -> None:
        super().__init__()
        self.spatial_norm, self.spatial_attn = Modulated(s.width, 3), Attention(s.width, s.heads)
        self.temporal_norm, self.temporal_attn = Modulated(s.width, 3), Attention(s.width, s.heads)
        self.mlp_norm, self.mlp = Modulated(s.width, 3), _perceptron(s.width, s.hidden)

    def forward(self, x: Tokens, noise: Noise, mask: Bool[Tensor, "f f"] | None) -> Tokens:
        """Return the tokens after the block."""
        h, gate = self.spatial_norm(x, noise)
        x = x + gate * self.spatial_attn(h, None)
        h, gate = self.temporal_norm(x, noise)
        x = x + gate * self.temporal_attn(h.transpose(1, 2), mask).transpose(1, 2)
        h, gate = self.mlp_norm(x, noise)
        result: Tensor = x + gate * self.mlp(h)
        return result


class FullBlock(nn.Module):
    """Attention over all tokens, perceptron."""

    def __init__(self, s: ForcingDiT) -> None:
        super().__init__()
        self.norm1, self.attn = Modulated(s.width, 3), Attention(s.width, s.heads)
        self.norm2, self.mlp = Modulated(s.width, 3), _perceptron(s.width, s.hidden)

    def forward(self, x: Tokens, noise: Noise, mask: Bool[Tensor, "f f"] | None) -> Tokens:
        """Return the tokens after the block."""
        points = x.shape[2]
        whole = None if mask is None else mask.repeat_interleave(points, 0).repeat_interleave(points, 1)
        h, gate = self.norm1(x, noise)
        x = x + gate * self.attn(h.flatten(1, 2), whole).reshape(h.shape)
        h, gate = self.norm2(x, noise)
        result: Tensor = x + gate * self.mlp(h)
        return result


class StepEmbedding(nn.Module):
    """Two layers after the sinusoids of a training step."""

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(features, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the embedding."""
        answer: Tensor = self.linear_2(functional.silu(self.linear_1(x)))
        return answer


class Sinusoids(nn.Module):
    """Cosines and sines of a number at frequencies from 1 down to 1/10000."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.pairs = features // 2

    def forward(self, noise_labels: Levels) -> Noise:
        """Return (b, f, features)."""
        steps = torch.arange(self.pairs, device=noise_labels.device, dtype=torch.float32) / self.pairs
        angles = noise_labels.float()[..., None] * torch.exp(-math.log(10_000.0) * steps)
        return torch.cat([angles.cos(), angles.sin()], -1)


class Patches(nn.Module):
    """Patches to tokens."""

    def __init__(self, s: ForcingDiT) -> None:
        super().__init__()
        self.proj = nn.Conv2d(s.field_channels, s.width, s.patch, stride=s.patch)

    def forward(self, x: Trajectories) -> Tokens:
        """Return the tokens of every frame, row by row."""
        cells = self.proj(x.flatten(0, 1)).flatten(2).transpose(1, 2)
        tokens: Tensor = cells.reshape(*x.shape[:2], *cells.shape[1:])
        return tokens


class Final(nn.Module):
    """Tokens to the pixels of their patches."""

    def __init__(self, s: ForcingDiT) -> None:
        super().__init__()
        self.norm = Modulated(s.width, 2)
        self.linear = nn.Linear(s.width, s.patch**2 * s.field_channels)

    def forward(self, x: Tokens, noise: Noise) -> Tensor:
        """Return (b, f, p, patch patch channels)."""
        answer: Tensor = self.linear(self.norm(x, noise)[0])
        return answer


class ForcingTransformer(TrajectoryNetwork):
    """The network a `ForcingDiT` describes."""

    def __init__(self, settings: ForcingDiT) -> None:
        super().__init__()
        self.settings = s = settings
        self.longest = s.frames
        features = max(s.width // 4, 64)
        self.patch_embed = Patches(s)
        self.pos_embed = nn.Parameter(torch.zeros(1, s.frames * s.tokens, s.width))
        self.noise_level_embedding = nn.Sequential(Sinusoids(features), StepEmbedding(features, s.width))
        block = FactorisedBlock if s.attention == "factorised" else FullBlock
        self.blocks = nn.ModuleList(block(s) for _ in range(s.depth))
        self.final_layer = Final(s)

    def forward(
        self,
        x: Trajectories,
        noise_labels: Levels,
        *,
        causal: bool = False,
        finished: Bool[Tensor, "b f"] | None = None,
        cache: KeyValueCache | None = None,
    ) -> Trajectories:
        """See `TrajectoryNetwork`.

        Raises:
            InputError: another field size, or more frames than the network has positions for.
        """
        s, frames = self.settings, x.shape[1]
        if tuple(x.shape[-2:]) != s.grid:
            raise InputError(
                f"field size: found {x.shape[-2]} x {x.shape[-1]}, this prior is for {s.grid[0]} x {s.grid[1]} only"
            )
        if frames > s.frames:
            raise InputError(
                f"frames: found {frames} at once, this prior knows at most {s.frames}; use a shorter lag"
            )
        tokens = self.patch_embed(x)
        tokens = tokens + self.pos_embed[0, : frames * s.tokens].reshape(1, frames, s.tokens, s.width)
        noise = self.noise_level_embedding(noise_labels)
        mask = None
        if s.causal or causal:
            mask = torch.ones(frames, frames, dtype=torch.bool, device=x.device).tril()
        for block in self.blocks:
            tokens = block(tokens, noise, mask)
        pixels = self.final_layer(tokens, noise)
        rows, columns = s.grid[0] // s.patch, s.grid[1] // s.patch
        cells = pixels.reshape(*x.shape[:2], rows, columns, s.patch, s.patch, s.field_channels)
        fields: Tensor = cells.permute(0, 1, 6, 2, 4, 3, 5).reshape(x.shape)
        return fields
