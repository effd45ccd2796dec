r"""Attention within a frame and along time, with rotary positions, local reach and a key-value cache.

Rotary positions turn query and key pairs by an angle proportional to their position, so that their product
depends on the difference only (Su et al. 2021, arXiv 2104.09864). In time the angles are p theta_j: windows
slide and have no largest length. In space they are p theta_j on an open axis and 2 pi m_j p / n with whole
numbers m_j on a periodic axis of n tokens, which makes attention exactly equivariant to cyclic shifts.

Frame i attends to frame j of the same location where

    |i - j| <= reach   and   (j <= i   or neither ``causal`` nor frame i finished)

A *finished* frame is clean (t = 0). It looks back only, in both modes; so its keys and values never change,
and keeping them in a cache instead of computing them again is exact, whatever comes later.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from priors.gaussian.linear_filter import LinearFilter

Pairs = Float[Tensor, "... pairs"]


@dataclass(frozen=True)
class KeyValueCache:
    """Keys and values of the last finished frames, per temporal layer (b locations, heads, frames, width).

    Keys are stored before rotation, so a run of any length keeps full precision.
    """

    layers: tuple[tuple[Tensor, Tensor], ...]

    @property
    def frames(self) -> int:
        """Number of frames held, at most the network's reach."""
        return int(self.layers[0][0].shape[2])

    def repeat(self, members: int) -> "KeyValueCache":
        """Return the cache of a batch of one for ``members`` equal samples."""
        return KeyValueCache(
            tuple((k.repeat(members, 1, 1, 1), v.repeat(members, 1, 1, 1)) for k, v in self.layers)
        )


def turn(x: Float[Tensor, "... n d"], angles: Float[Tensor, "n pairs"]) -> Float[Tensor, "... n d"]:
    """Rotate the pairs (x_j, x_{j + d/2}) by ``angles``."""
    cosine, sine = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def open_angles(positions: Int[Tensor, "n"], pairs: int, base: float = 100.0) -> Float[Tensor, "n pairs"]:
    """Return p base^(-j / pairs), wavelengths from 2 pi to 2 pi base."""
    theta = base ** (-torch.arange(pairs, device=positions.device, dtype=torch.float64) / pairs)
    return positions.double()[:, None] * theta


def periodic_angles(count: int, pairs: int, device: torch.device) -> Float[Tensor, "n pairs"]:
    """Return 2 pi m_j p / n with m_j = 1, 2, ..., n / 2, 1, ..."""
    whole = 1 + torch.arange(pairs, device=device, dtype=torch.float64) % max(1, count // 2)
    position = torch.arange(count, device=device, dtype=torch.float64)
    return 2 * math.pi / count * position[:, None] * whole


def plane_angles(
    size: tuple[int, int], pairs: int, *, periodic: tuple[bool, bool], device: torch.device
) -> Float[Tensor, "n pairs"]:
    """Return the angles of all tokens of a (y, x) grid, half the pairs for each axis."""
    by_axis = []
    for count, cyclic, share in zip(size, periodic, (pairs // 2, pairs - pairs // 2), strict=True):
        positions = torch.arange(count, device=device)
        by_axis.append(periodic_angles(count, share, device) if cyclic else open_angles(positions, share))
    rows = by_axis[0].repeat_interleave(size[1], 0)
    return torch.cat([rows, by_axis[1].repeat(size[0], 1)], dim=1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return softmax(q k^T / sqrt(d)) v; on the CPU in float32, where bfloat16's backward pass is slow."""
    if q.device.type != "cpu":
        return functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    wide = torch.promote_types(q.dtype, torch.float32)
    with torch.autocast("cpu", enabled=False):
        return functional.scaled_dot_product_attention(q.to(wide), k.to(wide), v.to(wide), attn_mask=mask).to(
            q.dtype
        )


@dataclass
class TimeAxis:
    """What the temporal layers of one call share: who may see whom, positions, and the cache.

    Attributes:
        mask: (b, f, g) or (f, g), query frames by cached and own frames.
        cache: finished frames before these ones.
        kept: keys and values of these frames, in the order of the layers, where they are to be remembered.
    """

    mask: Tensor
    cache: KeyValueCache | None
    keep: bool = False
    kept: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, layer: int) -> Tensor:
        """Return the attention of (b locations, heads, frames, width) arrays along frames."""
        return attend(*self._after_cached(q, k, v, layer), self._mask(len(q)))

    def estimate(self, x: Tensor, log_ratio: Tensor, *, by: LinearFilter, layer: int) -> Tensor:
        """Return a filter's estimate of (b, f, ...) frames from the frames each of them sees."""
        k, v = log_ratio[:, None, :, None], x.flatten(2)[:, None]
        if self.cache is not None:
            old_k, old_v = self.cache.layers[layer]
            k, v = torch.cat([old_k.to(k), k], dim=2), torch.cat([old_v.to(v), v], dim=2)
        if self.keep:
            self.kept.append((k, v))
        return by.estimate(v[:, 0], k[:, 0, :, 0], self.mask).reshape(x.shape)

    def _after_cached(self, q: Tensor, k: Tensor, v: Tensor, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated queries and keys, and values, after the cached ones."""
        if self.cache is not None:
            old_k, old_v = self.cache.layers[layer]
            k, v = torch.cat([old_k.to(k), k], dim=2), torch.cat([old_v.to(v), v], dim=2)
        if self.keep:
            self.kept.append((k, v))
        # Positions count from the first cached frame: only differences matter, so the window may start at 0 each time,
        # and angles stay small in a run of any length. This is why keys are cached before rotation.
        total = k.shape[2]
        angles = open_angles(torch.arange(total, device=q.device), q.shape[-1] // 2)
        return turn(q, angles[total - q.shape[2] :]), turn(k, angles), v

    def _mask(self, count: int) -> Tensor:
        """Return the mask for ``count`` = b locations."""
        if self.mask.ndim == 2:
            return self.mask
        return self.mask.repeat_interleave(count // len(self.mask), 0)[:, None]


def visibility(
    finished: Bool[Tensor, "b f"], *, reach: int, causal: bool, cached: int = 0
) -> Bool[Tensor, "..."]:
    """Return who may see whom (see the module), (f, cached + f) where all samples agree, else (b, f, ...)."""
    frames = finished.shape[1]
    query = torch.arange(cached, cached + frames, device=finished.device)[:, None]
    key = torch.arange(cached + frames, device=finished.device)[None]
    near, back = (query - key).abs() <= reach, key <= query
    # A frame in flight may look ahead in a bidirectional network; a finished one never, or its cached keys and values
    # would depend on frames that had not entered yet. One mask for all samples lets attention skip the batch axis.
    if causal or bool(finished.all()):
        return near & back
    if not bool(finished.any()):
        return near
    if bool((finished == finished[:1]).all()):
        return near & (back | ~finished[0, :, None])
    return near & (back | ~finished[:, :, None])


class TemporalAttention(nn.Module):
    """Attention along time at every location; nothing else in the network mixes frames."""

    def __init__(self, channels: int, *, heads: int, layer: int) -> None:
        super().__init__()
        self.heads, self.layer = heads, layer
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "b f h w c"], axis: TimeAxis) -> Float[Tensor, "b f h w c"]:
        """Return the attention's output, to be added to ``x``."""
        b, f, h, w, c = x.shape
        split = self.qkv(x).reshape(b, f, h * w, 3, self.heads, c // self.heads)
        q, k, v = split.permute(3, 0, 2, 4, 1, 5).reshape(3, b * h * w, self.heads, f, c // self.heads)
        seen = axis.attend(q, k, v, self.layer).reshape(b, h * w, self.heads, f, c // self.heads)
        out: Tensor = self.proj(seen.permute(0, 3, 1, 2, 4).reshape(b, f, h, w, c))
        return out


def near_places(
    size: tuple[int, int], reach: int, *, periodic: tuple[bool, bool], device: torch.device
) -> Bool[Tensor, "n n"]:
    """Return which tokens of a (y, x) grid lie within ``reach`` of each other along both axes."""
    near = []
    for count, cyclic in zip(size, periodic, strict=True):
        position = torch.arange(count, device=device)
        distance = (position[:, None] - position).abs()
        near.append((torch.minimum(distance, count - distance) if cyclic else distance) <= reach)
    return torch.kron(near[0].int(), near[1].int()).bool()


class SpatialAttention(nn.Module):
    """Attention within each frame, up to ``reach`` tokens away where it is given."""

    def __init__(
        self, channels: int, *, heads: int, periodic: tuple[bool, bool], reach: int | None = None
    ) -> None:
        super().__init__()
        self.heads, self.periodic, self.reach = heads, periodic, reach
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "b f h w c"]) -> Float[Tensor, "b f h w c"]:
        """Return the attention's output, to be added to ``x``."""
        b, f, h, w, c = x.shape
        split = self.qkv(x).reshape(b * f, h * w, 3, self.heads, c // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        angles = plane_angles((h, w), q.shape[-1] // 2, periodic=self.periodic, device=x.device)
        mask = None
        if self.reach is not None:
            mask = near_places((h, w), self.reach, periodic=self.periodic, device=x.device)
        seen = attend(turn(q, angles), turn(k, angles), v, mask)
        out: Tensor = self.proj(seen.transpose(1, 2).reshape(b, f, h, w, c))
        return out
