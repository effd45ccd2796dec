"""NCSN++ as plain arithmetic on a state dict of score_sde: filters as dense matrices, attention spelt out.

Source: Song et al. 2021 (arXiv 2011.13456, appendix H); names and order of modules as in its code.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional


def shrinking(size: int) -> Tensor:
    """Return the matrix that filters by [1 3 3 1] / 8 and keeps every second value."""
    matrix = torch.zeros(size // 2, size)
    for row in range(size // 2):
        for tap, weight in enumerate((1, 3, 3, 1)):
            place = 2 * row + tap - 1
            if 0 <= place < size:
                matrix[row, place] += weight / 8
    return matrix


def growing(size: int) -> Tensor:
    """Return the matrix that inserts zeros and filters by [1 3 3 1] / 4: four times the transpose, twice per axis."""
    return 2 * shrinking(2 * size).T


def resampled(x: Tensor, kind: str) -> Tensor:
    make = shrinking if kind == "down" else growing
    return make(x.shape[-2]) @ x @ make(x.shape[-1]).T


class Reference:
    """The network.

    Args:
        state: weights by name (``all_modules.N...``).
        multipliers: of the levels.
        blocks: per level.
        attention: which levels attend.
        progressive: ``none`` or ``output_skip``.
        progressive_input: ``none``, ``input_skip`` or ``residual``.
    """

    def __init__(self, state, *, multipliers, blocks, attention, progressive, progressive_input) -> None:
        self.state, self.multipliers, self.blocks, self.attention = state, multipliers, blocks, attention
        self.progressive, self.progressive_input = progressive, progressive_input

    def w(self, name: str) -> Tensor:
        return self.state[f"all_modules.{self.place}.{name}"]

    def conv(self, x: Tensor, name: str = "", **more) -> Tensor:
        return functional.conv2d(x, self.w(f"{name}weight"), self.w(f"{name}bias"), **more)

    def norm(self, x: Tensor, name: str = "") -> Tensor:
        groups = min(x.shape[1] // 4, 32)
        return functional.group_norm(x, groups, self.w(f"{name}weight"), self.w(f"{name}bias"), 1e-6)

    def block(self, x: Tensor, kind: str = "") -> Tensor:
        h = functional.silu(self.norm(x, "GroupNorm_0."))
        if kind:
            h, x = resampled(h, kind), resampled(x, kind)
        h = self.conv(h, "Conv_0.", padding=1)
        told = functional.silu(self.told) @ self.w("Dense_0.weight").T + self.w("Dense_0.bias")
        h = functional.silu(self.norm(h + told[:, :, None, None], "GroupNorm_1."))
        h = self.conv(h, "Conv_1.", padding=1)
        x = self.conv(x, "Conv_2.") if f"all_modules.{self.place}.Conv_2.weight" in self.state else x
        self.place += 1
        return (x + h) / math.sqrt(2)

    def attend(self, x: Tensor) -> Tensor:
        h = self.norm(x, "GroupNorm_0.").flatten(2)
        q, k, v = (self.w(f"NIN_{n}.W").T @ h + self.w(f"NIN_{n}.b")[:, None] for n in range(3))
        seen = v @ torch.softmax(q.transpose(1, 2) @ k / math.sqrt(x.shape[1]), -1).transpose(1, 2)
        out = self.w("NIN_3.W").T @ seen + self.w("NIN_3.b")[:, None]
        self.place += 1
        return (x + out.reshape(x.shape)) / math.sqrt(2)

    def plain(self, x: Tensor, **more) -> Tensor:
        answer = self.conv(x, **more) if x.ndim == 4 else x @ self.w("weight").T + self.w("bias")
        self.place += 1
        return answer

    def output(self, h: Tensor) -> Tensor:
        h = functional.silu(self.norm(h))
        self.place += 1
        return self.plain(h, padding=1)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        self.place = 0
        angles = math.log(sigma) * self.w("W") * 2 * math.pi
        features = torch.cat([angles.sin(), angles.cos()])[None].expand(len(x), -1)
        self.place = 1
        self.told = self.plain(functional.silu(self.plain(features)))
        x = 2 * x - 1
        last, pyramid = len(self.multipliers) - 1, x
        held = [self.plain(x, padding=1)]
        for level in range(last + 1):
            for _ in range(self.blocks):
                h = self.block(held[-1])
                held.append(self.attend(h) if self.attention[level] else h)
            if level < last:
                h = self.block(held[-1], "down")
                if self.progressive_input == "residual":
                    # Filtered over a border of two, then a convolution of every second place.
                    wide = functional.pad(pyramid, (2, 2, 2, 2))
                    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
                    for axis in (2, 3):
                        wide = wide.unfold(axis, 4, 1) @ taps
                    h = pyramid = (self.conv(wide, "Conv2d_0.", stride=2) + h) / math.sqrt(2)
                    self.place += 1
                elif self.progressive_input == "input_skip":
                    pyramid = resampled(pyramid, "down")
                    h = self.conv(pyramid, "Conv_0.") + h
                    self.place += 1
                held.append(h)
        h = self.block(self.attend(self.block(held[-1])))
        total = None
        for level in range(last, -1, -1):
            for _ in range(self.blocks + 1):
                h = self.block(torch.cat([h, held.pop()], 1))
            h = self.attend(h) if self.attention[level] else h
            if self.progressive == "output_skip":
                total = self.output(h) if total is None else resampled(total, "up") + self.output(h)
            h = self.block(h, "up") if level else h
        return (self.output(h) if total is None else total) / sigma
