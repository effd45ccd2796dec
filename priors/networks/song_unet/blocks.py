r"""The blocks of score-based U-Nets: resampling by a filter, residual blocks with attention, embeddings of a number.

Resampling filters every channel by the outer square of the taps k: halving keeps every second of

    y = k * x,   sum k = 1,       doubling is its transpose, times 4:   y[2i + j] = 4 k_j x[i]   in two dimensions

Sources: Song et al. 2021 (arXiv 2011.13456, appendix H), Dhariwal and Nichol 2021 (arXiv 2105.05233), Karras et al.
2022 (arXiv 2206.00364, appendix F).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from priors.networks.song_unet.description import HEAD_WIDTH, Module, SongUNet

Images = Float[Tensor, "_ _ _ _"]
Features = Float[Tensor, "b c"]
ADM_EPS = 1e-5
SONG_EPS = 1e-6


def group_norm(channels: int, eps: float) -> nn.GroupNorm:
    """Return the normalisation of so many channels: at most 32 groups of at least 4."""
    return nn.GroupNorm(min(32, channels // 4), channels, eps=eps)


def _square(taps: tuple[float, ...], like: Images) -> Float[Tensor, "c 1 n n"]:
    kernel = torch.tensor(taps, dtype=torch.float64) / sum(taps)
    return torch.outer(kernel, kernel).to(like)[None, None].expand(like.shape[1], 1, -1, -1)


def halved(x: Images, taps: tuple[float, ...], *, border: int | None = None) -> Images:
    """Return an image filtered at every second place.

    Args:
        x: the image.
        taps: the filter along an axis.
        border: zeros around the image; by default those that keep it in the middle.
    """
    pads = (len(taps) - 1) // 2 if border is None else border
    return functional.conv2d(x, _square(taps, x), stride=2, padding=pads, groups=x.shape[1])


def doubled(x: Images, taps: tuple[float, ...]) -> Images:
    """Return an image with filtered places between its own."""
    pads = (len(taps) - 1) // 2
    return functional.conv_transpose2d(x, 4 * _square(taps, x), stride=2, padding=pads, groups=x.shape[1])


def sines(numbers: Float[Tensor, "b"], frequencies: Float[Tensor, "n"]) -> Features:
    """Return the sines of all multiples of a number, then the cosines."""
    angles = numbers[:, None] * frequencies[None].to(numbers)
    return torch.cat([angles.sin(), angles.cos()], 1)


def fixed_frequencies(count: int, *, to_the_end: bool) -> Float[Tensor, "n"]:
    """Return frequencies from 1 down to 1/10000, geometric; the last is one step short unless ``to_the_end``."""
    steps = count - 1 if to_the_end else count
    return torch.pow(1e-4, torch.arange(count, dtype=torch.float32) / max(1, steps))


class Block(nn.Module):
    """Residual block, perhaps resampling, perhaps followed by attention.

    Args:
        own: the module.
        settings: of the network.
    """

    def __init__(self, own: Module, settings: SongUNet) -> None:
        super().__init__()
        self.resample = own.kind if own.kind in ("down", "up") else ""
        self.taps, self.song = settings.taps, settings.variant == "song"
        embedded, c, out = settings.embedding_factor * settings.width, own.inputs, own.outputs
        eps = SONG_EPS if self.song else ADM_EPS
        self.norm0, self.conv0 = group_norm(c, eps), nn.Conv2d(c, out, 3, padding=1)
        self.affine = nn.Linear(embedded, out if self.song else 2 * out)
        self.norm1, self.conv1 = group_norm(out, eps), nn.Conv2d(out, out, 3, padding=1)
        projects = c != out or (self.song and bool(self.resample))
        self.skip = nn.Conv2d(c, out, 1) if projects else None
        self.heads = 0 if not own.attends else 1 if self.song else out // HEAD_WIDTH
        if self.heads:
            self.norm2, self.qkv, self.proj = (
                group_norm(out, eps),
                nn.Conv2d(out, 3 * out, 1),
                nn.Conv2d(out, out, 1),
            )

    def forward(self, x: Images, told: Features) -> Images:
        """Return the block's output."""
        scale = math.sqrt(0.5) if self.song else 1.0
        h = self.conv0(self._resampled(functional.silu(self.norm0(x))))
        told = self.affine(told)[:, :, None, None]
        if self.song:
            h = functional.silu(self.norm1(h + told))
        else:
            factor, shift = told.chunk(2, 1)
            h = functional.silu(self.norm1(h) * (1 + factor) + shift)
        shortcut = self._resampled(x)
        shortcut = shortcut if self.skip is None else self.skip(shortcut)
        x = scale * (shortcut + self.conv1(h))
        return scale * (x + self._attention(x)) if self.heads else x

    def _resampled(self, x: Images) -> Images:
        if not self.resample:
            return x
        return halved(x, self.taps) if self.resample == "down" else doubled(x, self.taps)

    def _attention(self, x: Images) -> Images:
        """Return what every place gathers from all places."""
        b, c, height, width = x.shape
        packed = self.qkv(self.norm2(x)).reshape(b, self.heads, c // self.heads, 3, height * width)
        q, k, v = (each.transpose(2, 3) for each in packed.unbind(3))
        seen = functional.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(x.shape)
        answer: Tensor = self.proj(seen)
        return answer


class Residual(nn.Module):
    """The pyramid of features: a convolution, then every second place, filtered."""

    def __init__(self, own: Module, taps: tuple[float, ...]) -> None:
        super().__init__()
        self.taps = taps
        self.conv = nn.Conv2d(own.inputs, own.outputs, 3, padding=1 + (len(taps) - 1) // 2, bias=False)
        self.bias = nn.Parameter(torch.zeros(own.outputs))

    def forward(self, x: Images) -> Images:
        """Return the next level of the pyramid."""
        # The bias comes last: filtered over the zeros of the border it would fade there.
        return halved(self.conv(x), self.taps, border=0) + self.bias[:, None, None]
