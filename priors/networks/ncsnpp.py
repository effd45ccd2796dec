r"""NCSN++ (Song et al. 2021, arXiv 2011.13456, appendix H), by the names of its weights in score_sde.

A U-Net whose modules stand in one list, in the order in which they are used: Fourier features of log sigma, two linear
layers, a convolution, the levels down (residual blocks, attention, a resampling block), the middle, the levels up, a
norm and a convolution. Residual blocks end with (x + h) / sqrt(2); resampling filters with [1 3 3 1] before it drops or
after it inserts pixels. A pyramid of the input may join every level on the way down, one of outputs on the way up. The
output is divided by sigma: it is the score.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

Images = Float[Tensor, "_ _ _ _"]
KERNEL = (1.0, 3.0, 3.0, 1.0)


class NCSNpp(BaseModel):
    """Card entry that builds a `ScoreNetwork`.

    Attributes:
        field_channels: channels of the data.
        width: channels of the first level, and of the Fourier features.
        multipliers: of the levels.
        blocks: residual blocks per level.
        attention: which levels attend.
        progressive: outputs of levels that are added up.
        progressive_input: how the input joins the levels.
        centred: values lie in [-1, 1]; otherwise in [0, 1], and the network moves them there itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["ncsnpp"] = "ncsnpp"
    field_channels: int = Field(1, ge=1)
    width: int = Field(128, ge=4)
    multipliers: tuple[int, ...] = Field((1, 2, 2, 2), min_length=1)
    blocks: int = Field(2, ge=1)
    attention: tuple[bool, ...] = (False, True, False, False)
    progressive: Literal["none", "output_skip"] = "none"
    progressive_input: Literal["none", "input_skip", "residual"] = "residual"
    centred: bool = True

    @model_validator(mode="after")
    def _levels_fit(self) -> "NCSNpp":
        if len(self.attention) != len(self.multipliers):
            raise ValueError(f"attention needs one entry per level ({len(self.multipliers)})")
        return self

    @property
    def stride(self) -> int:
        """Pixels that every side must be a multiple of."""
        return int(2 ** (len(self.multipliers) - 1))

    @property
    def attends(self) -> bool:
        """Whether the network knows its size: it always attends in the middle."""
        return True

    def build(self) -> "ScoreNetwork":
        """Return the network with random weights."""
        return ScoreNetwork(self)


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(min(channels // 4, 32), channels, eps=1e-6)


def _filter(x: Images, kernel: Tensor, pads: tuple[int, int]) -> Images:
    """Return every channel filtered by the outer square of ``kernel``."""
    padded = functional.pad(x, (*pads, *pads))
    square = torch.outer(kernel, kernel).to(x)[None, None].expand(x.shape[1], 1, -1, -1)
    return functional.conv2d(padded, square, groups=x.shape[1])


def shrunk(x: Images) -> Images:
    """Return an image at half the resolution, filtered by [1 3 3 1] / 8."""
    kernel = torch.tensor(KERNEL) / sum(KERNEL)
    return _filter(x, kernel, (1, 1))[..., ::2, ::2]


def grown(x: Images) -> Images:
    """Return an image at twice the resolution: zeros between its pixels, filtered by [1 3 3 1] / 4."""
    b, k, height, width = x.shape
    spread = x.new_zeros(b, k, 2 * height, 2 * width)
    spread[..., ::2, ::2] = x
    return _filter(spread, torch.tensor(KERNEL) / sum(KERNEL) * 2, (2, 1))


class Fourier(nn.Module):
    """Sines and cosines of random multiples of a number."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(width), requires_grad=False)

    def forward(self, x: Float[Tensor, "b"]) -> Float[Tensor, "b c"]:
        """Return the features."""
        angles = x[:, None] * self.W[None] * 2 * math.pi
        return torch.cat([angles.sin(), angles.cos()], 1)


class Mix(nn.Module):
    """A linear map over channels."""

    def __init__(self, c: int, out: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(c, out) / c**0.5)
        self.b = nn.Parameter(torch.zeros(out))

    def forward(self, x: Images) -> Images:
        """Return the mixed channels."""
        return torch.einsum("bcyx,cd->bdyx", x, self.W) + self.b[:, None, None]


class Block(nn.Module):
    """Residual block, perhaps resampling."""

    def __init__(self, c: int, out: int, emb: int, resample: Literal["", "down", "up"] = "") -> None:
        super().__init__()
        self.resample = resample
        self.GroupNorm_0, self.Conv_0 = _norm(c), nn.Conv2d(c, out, 3, padding=1)
        self.Dense_0 = nn.Linear(emb, out)
        self.GroupNorm_1, self.Conv_1 = _norm(out), nn.Conv2d(out, out, 3, padding=1)
        self.Conv_2 = nn.Conv2d(c, out, 1) if c != out or resample else None

    def forward(self, x: Images, told: Float[Tensor, "b c"]) -> Images:
        """Return the block's output."""
        h = functional.silu(self.GroupNorm_0(x))
        if self.resample:
            move = shrunk if self.resample == "down" else grown
            h, x = move(h), move(x)
        h = self.Conv_0(h) + self.Dense_0(functional.silu(told))[:, :, None, None]
        h = self.Conv_1(functional.silu(self.GroupNorm_1(h)))
        shortcut = x if self.Conv_2 is None else self.Conv_2(x)
        answer: Tensor = (shortcut + h) / math.sqrt(2)
        return answer


class Attention(nn.Module):
    """Attention over all places with one head."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.GroupNorm_0 = _norm(c)
        self.NIN_0, self.NIN_1, self.NIN_2, self.NIN_3 = (Mix(c, c) for _ in range(4))

    def forward(self, x: Images) -> Images:
        """Return the block's output."""
        h = self.GroupNorm_0(x)
        q, k, v = (
            part(h).flatten(2).transpose(1, 2)[:, None] for part in (self.NIN_0, self.NIN_1, self.NIN_2)
        )
        seen = functional.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2).reshape(x.shape)
        answer: Tensor = (x + self.NIN_3(seen)) / math.sqrt(2)
        return answer


class Pyramid(nn.Module):
    """The input at half the resolution, filtered and convolved at once."""

    def __init__(self, c: int, out: int) -> None:
        super().__init__()
        self.Conv2d_0 = nn.Conv2d(c, out, 3, stride=2)

    def forward(self, x: Images) -> Images:
        """Return the next level of the pyramid."""
        kernel = torch.tensor(KERNEL) / sum(KERNEL)
        answer: Tensor = self.Conv2d_0(_filter(x, kernel, (2, 2)))
        return answer


class Combine(nn.Module):
    """The shrunk input added to a level."""

    def __init__(self, c: int, out: int) -> None:
        super().__init__()
        self.Conv_0 = nn.Conv2d(c, out, 1)

    def forward(self, x: Images, h: Images) -> Images:
        """Return the sum."""
        answer: Tensor = self.Conv_0(x) + h
        return answer


class ScoreNetwork(nn.Module):
    """The network an `NCSNpp` describes; called with states and sigma."""

    def __init__(self, settings: NCSNpp) -> None:
        super().__init__()
        self.settings = s = settings
        emb, c, k = 4 * s.width, s.width, s.field_channels
        modules: list[nn.Module] = [Fourier(s.width), nn.Linear(2 * s.width, emb), nn.Linear(emb, emb)]
        modules.append(nn.Conv2d(k, c, 3, padding=1))
        skips, pyramid, last = [c], k, len(s.multipliers) - 1
        for level, factor in enumerate(s.multipliers):
            for _ in range(s.blocks):
                modules.append(Block(c, factor * s.width, emb))
                c = factor * s.width
                modules += [Attention(c)] if s.attention[level] else []
                skips.append(c)
            if level < last:
                modules.append(Block(c, c, emb, "down"))
                if s.progressive_input == "residual":
                    modules.append(Pyramid(pyramid, c))
                    pyramid = c
                elif s.progressive_input == "input_skip":
                    modules.append(Combine(k, c))
                skips.append(c)
        modules += [Block(c, c, emb), Attention(c), Block(c, c, emb)]
        for level, factor in reversed(list(enumerate(s.multipliers))):
            for _ in range(s.blocks + 1):
                modules.append(Block(c + skips.pop(), factor * s.width, emb))
                c = factor * s.width
            modules += [Attention(c)] if s.attention[level] else []
            if s.progressive == "output_skip":
                modules += [_norm(c), nn.Conv2d(c, k, 3, padding=1)]
            modules += [Block(c, c, emb, "up")] if level else []
        if s.progressive == "none":
            modules += [_norm(c), nn.Conv2d(c, k, 3, padding=1)]
        self.all_modules = nn.ModuleList(modules)

    def forward(self, x: Images, sigma: Float[Tensor, "b"]) -> Images:
        """Return the score, same shape as ``x``."""
        s, following = self.settings, iter(self.all_modules)

        def ask(*given: Tensor) -> Tensor:
            answer: Tensor = next(following)(*given)
            return answer

        told = ask(ask(torch.log(sigma)))
        told = ask(functional.silu(told))
        x = x if s.centred else 2 * x - 1
        pyramid, h, last = x, ask(x), len(s.multipliers) - 1
        skips = [h]
        for level in range(last + 1):
            for _ in range(s.blocks):
                h = ask(skips[-1], told)
                h = ask(h) if s.attention[level] else h
                skips.append(h)
            if level < last:
                h = ask(h, told)
                if s.progressive_input == "residual":
                    h = pyramid = (ask(pyramid) + h) / math.sqrt(2)
                elif s.progressive_input == "input_skip":
                    pyramid = shrunk(pyramid)
                    h = ask(pyramid, h)
                skips.append(h)
        h = ask(ask(ask(h, told)), told)
        output: Tensor | None = None
        for level in range(last, -1, -1):
            for _ in range(s.blocks + 1):
                h = ask(torch.cat([h, skips.pop()], 1), told)
            h = ask(h) if s.attention[level] else h
            if s.progressive == "output_skip":
                own = ask(functional.silu(ask(h)))
                output = own if output is None else grown(output) + own
            h = ask(h, told) if level else h
        if output is None:
            output = ask(functional.silu(ask(h)))
        return output / sigma.reshape(-1, 1, 1, 1)
