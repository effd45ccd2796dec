"""NCSN++ and DDPM++ as plain arithmetic on a state dict of score_sde: filters as dense matrices, attention spelt out.

Source: Song et al. 2021 (arXiv 2011.13456, appendix H); names and order of modules as in its code.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

FIR, MEAN = (1, 3, 3, 1), (1, 1)


def shrinking(size: int, taps=FIR) -> Tensor:
    """Return the matrix that filters by the taps over their sum and keeps every second value."""
    matrix = torch.zeros(size // 2, size)
    for row in range(size // 2):
        for tap, weight in enumerate(taps):
            place = 2 * row + tap - (len(taps) - 1) // 2
            if 0 <= place < size:
                matrix[row, place] += weight / sum(taps)
    return matrix


def growing(size: int, taps=FIR) -> Tensor:
    """Return the matrix that inserts zeros and filters by twice the taps: twice the transpose per axis."""
    return 2 * shrinking(2 * size, taps).T


def resampled(x: Tensor, kind: str, taps=FIR) -> Tensor:
    make = shrinking if kind == "down" else growing
    return make(x.shape[-2], taps) @ x @ make(x.shape[-1], taps).T


class _Modules:
    """Random weights, module after module in score_sde's order."""

    def __init__(self, width: int, seed: int) -> None:
        self.width, self.draw, self.modules = width, torch.Generator().manual_seed(seed), []

    def weight(self, *shape: int) -> Tensor:
        size = max(1, torch.Size(shape[1:]).numel())
        return torch.randn(shape, generator=self.draw) * 0.3 / size**0.5

    def norm(self, name: str, c: int) -> dict[str, Tensor]:
        return {f"{name}weight": 1 + 0.1 * self.weight(c), f"{name}bias": 0.1 * self.weight(c)}

    def conv(self, name: str, out: int, c: int, side: int = 3) -> dict[str, Tensor]:
        return {f"{name}weight": self.weight(out, c, side, side), f"{name}bias": self.weight(out)}

    def dense(self, name: str, out: int, c: int) -> dict[str, Tensor]:
        return {f"{name}weight": self.weight(out, c), f"{name}bias": self.weight(out)}

    def block(self, c: int, out: int, *, resamples: bool = False) -> None:
        shortcut = self.conv("Conv_2.", out, c, 1) if c != out or resamples else {}
        first = {**self.norm("GroupNorm_0.", c), **self.conv("Conv_0.", out, c)}
        first |= self.dense("Dense_0.", out, 4 * self.width)
        second = {**self.norm("GroupNorm_1.", out), **self.conv("Conv_1.", out, out)}
        self.modules.append({**first, **second, **shortcut})

    def attend(self, c: int) -> None:
        weights = self.norm("GroupNorm_0.", c)
        for n in range(4):
            weights |= {f"NIN_{n}.W": 2 * self.weight(c, c), f"NIN_{n}.b": self.weight(c)}
        self.modules.append(weights)

    def output(self, c: int) -> None:
        self.modules.extend([self.norm("", c), self.conv("", 1, c)])


def random_state(
    *, multipliers, blocks, attention, progressive, progressive_input, embedding="fourier", width=16, seed=0
) -> dict[str, Tensor]:
    """Return random weights by the names, and in the order, of score_sde's modules."""
    m = _Modules(width, seed)
    if embedding == "fourier":
        # Gaussian frequencies of deviation one: the features of neighbouring levels differ smoothly.
        m.modules.append({"W": torch.randn(width, generator=m.draw)})
    m.modules += [
        m.dense("", 4 * width, width * (2 if embedding == "fourier" else 1)),
        m.dense("", 4 * width, 4 * width),
    ]
    m.modules.append(m.conv("", width, 1))
    c, skips, pyramid, last = width, [width], 1, len(multipliers) - 1
    for level, factor in enumerate(multipliers):
        for _ in range(blocks):
            m.block(c, factor * width)
            c = factor * width
            if attention[level]:
                m.attend(c)
            skips.append(c)
        if level < last:
            m.block(c, c, resamples=True)
            if progressive_input == "residual":
                m.modules.append(m.conv("Conv2d_0.", c, pyramid))
                pyramid = c
            elif progressive_input == "input_skip":
                m.modules.append(m.conv("Conv_0.", c, 1, 1))
            skips.append(c)
    m.block(c, c)
    m.attend(c)
    m.block(c, c)
    for level in range(last, -1, -1):
        for _ in range(blocks + 1):
            m.block(c + skips.pop(), multipliers[level] * width)
            c = multipliers[level] * width
        if attention[level]:
            m.attend(c)
        if progressive == "output_skip":
            m.output(c)
        if level:
            m.block(c, c, resamples=True)
    if progressive == "none":
        m.output(c)
    return {f"all_modules.{n}.{key}": value for n, own in enumerate(m.modules) for key, value in own.items()}


class Reference:
    """The network.

    Args:
        state: weights by name (``all_modules.N...``).
        multipliers: of the levels.
        blocks: per level.
        attention: which levels attend.
        progressive: ``none`` or ``output_skip``.
        progressive_input: ``none``, ``input_skip`` or ``residual``.
        embedding: of the number told, ``fourier`` or ``positional``.
        taps: of resampling.
    """

    def __init__(
        self,
        state,
        *,
        multipliers,
        blocks,
        attention,
        progressive,
        progressive_input,
        embedding="fourier",
        taps=FIR,
    ) -> None:
        self.state, self.multipliers, self.blocks, self.attention = state, multipliers, blocks, attention
        self.progressive, self.progressive_input = progressive, progressive_input
        self.embedding, self.taps = embedding, taps

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
            h, x = resampled(h, kind, self.taps), resampled(x, kind, self.taps)
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

    def features(self, told: float) -> Tensor:
        """Return sines and cosines: of random multiples of log sigma, or of a time at geometric frequencies."""
        if self.embedding == "fourier":
            self.place, angles = 1, math.log(told) * self.state["all_modules.0.W"] * 2 * math.pi
        else:
            half = self.state["all_modules.0.weight"].shape[1] // 2
            self.place, angles = 0, told * torch.tensor([1e4 ** (-k / (half - 1)) for k in range(half)])
        return torch.cat([angles.sin(), angles.cos()])

    def score(self, x: Tensor, sigma: float) -> Tensor:
        """Return the score of variance-exploding diffusion of values in [0, 1]."""
        return self(2 * x - 1, sigma) / sigma

    def __call__(self, x: Tensor, told: float) -> Tensor:
        features = self.features(told)[None].expand(len(x), -1)
        self.told = self.plain(functional.silu(self.plain(features)))
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
                    assert self.taps == FIR
                    for axis in (2, 3):
                        wide = wide.unfold(axis, 4, 1) @ taps
                    h = pyramid = (self.conv(wide, "Conv2d_0.", stride=2) + h) / math.sqrt(2)
                    self.place += 1
                elif self.progressive_input == "input_skip":
                    pyramid = resampled(pyramid, "down", self.taps)
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
                total = (
                    self.output(h) if total is None else resampled(total, "up", self.taps) + self.output(h)
                )
            h = self.block(h, "up") if level else h
        return self.output(h) if total is None else total
