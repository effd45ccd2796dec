r"""Slices for a network that is particular about them: its size, its channels, which way up they lie.

**Size.** A network with attention knows the size it was trained on. A smaller slice is put in the middle of that size,
surrounded by air *with the noise of the level*, alpha air + sigma e, since a border without noise is nothing the
network has seen at that level. A larger slice is seen through overlapping windows of that size; every window weighs its
pixels by the same bell (sin^2 along each axis) and the weights of a pixel are divided by their sum. A noisy state is
never resampled.

**Channels.** A network of colour images serves grey slices exactly. Three channels with independent noise of level s'
and one grey image x under it hold x as well as their mean does, which has noise s' / sqrt(3). So a grey state
u = x + s z becomes, with unit noise w and its mean m over channels,

    u_c = u + sqrt(3) s (w_c - m),     told the level sqrt(3) s,     answer: mean over channels

whose noises are independent, each of level sqrt(3) s. Repeating the slice and telling s is wrong: its noise is then the
same in every channel.

**Slices.** A network that takes neighbouring slices as channels, or a block of them, is given windows of the volume
(`priors.diffusion.slabs`), and its answer about the middle one, or about all, is returned.

The noise added here is a function of the level alone, so that the denoiser is one function of the state: a
vector-Jacobian product belongs to the estimate it is taken of, and no answer depends on which slices share a call.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from torch.nn import functional

from priors.diffusion.denoiser import Denoiser, NetworkDenoiser
from priors.diffusion.schedule import AnySchedule, Schedule
from priors.diffusion.slabs import Slabs, blocks, neighbours, single_slices
from priors.diffusion.windows import bell, window_starts
from priors.runtime.system.seeds import generator_of

Slices = Float[Tensor, "b d y x"]
Answer = Float[Tensor, "b e y x"]
Padded = Float[Tensor, "b depth height width"]
Times = Float[Tensor, "b"]
Orientation = Literal["y x", "-y x", "y -x", "-y -x", "x y", "-x y", "x -y", "-x -y"]


class SliceFit(BaseModel):
    """What a network expects of a slice.

    Attributes:
        channels: ``grey`` takes one slice, ``rgb`` three channels of a colour image; ``neighbours`` takes slices around
            one as channels and answers the one, ``block`` takes a block of slices and answers all.
        slices: how many slices it takes.
        size: the only field size (y, x) it takes; None where any multiple of the stride will do.
        stride: pixels that every side must be a multiple of.
        orientation: axes of the prior's slices in terms of ours; ``-y x`` are upside down, ``x y`` transposed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    channels: Literal["grey", "rgb", "neighbours", "block"] = "grey"
    slices: int = Field(1, ge=1)
    size: tuple[int, int] | None = None
    stride: int = Field(1, ge=1)
    orientation: Orientation = "y x"

    @model_validator(mode="after")
    def _slices_fit(self) -> "SliceFit":
        several = self.channels in ("neighbours", "block")
        if several != (self.slices > 1) or (self.channels == "neighbours" and self.slices % 2 == 0):
            expected = {"neighbours": "an odd number from 3 on", "block": "2 or more"}.get(self.channels, "1")
            raise ValueError(
                f"slices: found {self.slices} with channels {self.channels!r}, expected {expected}"
            )
        return self

    @property
    def plain(self) -> bool:
        """Whether slices are passed on as they are."""
        return self == SliceFit()


class Averaged(Schedule):
    """The schedule of the mean of several channels with independent noise: sigma / sqrt(channels)."""

    name: Literal["averaged"] = "averaged"
    inner: AnySchedule
    channels: int = Field(3, ge=1)

    def __call__(self, t: Float[Tensor, "..."]) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
        """See `Schedule`."""
        alpha, sigma = self.inner(t)
        return alpha, sigma / math.sqrt(self.channels)

    def inverse(self, ratio: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """See `Schedule`."""
        return self.inner.inverse(ratio * math.sqrt(self.channels))


class FittedDenoiser(Denoiser):
    """E[x | x_t] of grey slices of any size, by a network that takes them only in its own way.

    Args:
        inner: the network's denoiser.
        fit: what it expects.
        air: value of padding, network units.
    """

    def __init__(self, inner: NetworkDenoiser, fit: SliceFit, *, air: float) -> None:
        super().__init__()
        self.inner, self.fit, self.air = inner, fit, air
        rgb = fit.channels == "rgb"
        self.schedule = Averaged(inner=inner.schedule) if rgb else inner.schedule

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.inner.device

    def slabs(self, count: int) -> Slabs:
        """See `Denoiser`."""
        if self.fit.channels == "neighbours":
            return neighbours(count, self.fit.slices)
        return blocks(count, self.fit.slices) if self.fit.channels == "block" else single_slices(count)

    def forward(self, x_t: Slices, t: Times) -> Answer:
        """See `Denoiser`; of neighbouring slices it answers the middle one."""
        turned = _turned(x_t, self.fit.orientation)
        padded, (front, top, left) = self._padded(turned, t)
        size = self.fit.size or tuple(padded.shape[-2:])
        whole = tuple(padded.shape[-2:]) == size
        estimate = self._estimate(padded, t) if whole else self._by_windows(padded, t, size)
        depth, height, width = turned.shape[-3:]
        estimate = estimate[:, front : front + depth, top : top + height, left : left + width]
        return _turned_back(estimate, self.fit.orientation)

    def _estimate(self, x_t: Slices, t: Times) -> Answer:
        """Return the network's answer to slices of a size it takes."""
        if self.fit.channels != "rgb":
            answer: Tensor = self.inner(x_t, t)
            # A network that gives one slice and predicts noise answers all its slices with it: right is the middle.
            middle = min(self.fit.slices // 2, answer.shape[1] - 1)
            return answer[:, middle : middle + 1] if self.fit.channels == "neighbours" else answer
        w = self._noise(t, (3, *x_t.shape[-2:]), 1).to(x_t)
        sigma = self.inner.schedule(t)[1].reshape(-1, 1, 1, 1).to(x_t)
        colours: Tensor = self.inner(x_t + sigma * (w - w.mean(1, keepdim=True)), t)
        return colours.mean(1, keepdim=True)

    def _padded(self, x: Slices, t: Times) -> tuple[Padded, tuple[int, int, int]]:
        """Return slices extended by noisy air, and where they now begin: slice, row, column."""
        wanted = [
            max(n, least) if self.fit.size else -(-n // self.fit.stride) * self.fit.stride
            for n, least in zip(x.shape[-2:], self.fit.size or (0, 0), strict=True)
        ]
        wanted = [max(self.fit.slices, x.shape[1]), *wanted]
        missing = [after - n for after, n in zip(wanted, x.shape[-3:], strict=True)]
        if not any(missing):
            return x, (0, 0, 0)
        front, top, left = (n // 2 for n in missing)
        before = ((left, missing[2]), (top, missing[1]), (front, missing[0]))
        borders = [side for first, both in before for side in (first, both - first)]
        alpha, sigma = (scale.reshape(-1, 1, 1, 1).to(x) for scale in self.schedule(t))
        air = alpha * self.air + sigma * self._noise(t, tuple(wanted), 0).to(x)
        inside = functional.pad(torch.ones_like(x[:1]), borders)
        return torch.where(inside > 0, functional.pad(x, borders), air), (front, top, left)

    def _by_windows(self, x: Slices, t: Times, size: tuple[int, ...]) -> Answer:
        """Return the weighted mean of the answers of all windows."""
        bells = bell(size[0])[:, None] * bell(size[1])
        weights = bells.to(x)
        total = torch.zeros_like(x[:, :1] if self.fit.channels == "neighbours" else x)
        count = torch.zeros_like(x[:1, :1])
        for top in window_starts(x.shape[-2], size[0]):
            for left in window_starts(x.shape[-1], size[1]):
                borders = (left, x.shape[-1] - left - size[1], top, x.shape[-2] - top - size[0])
                answer = self._estimate(x[..., top : top + size[0], left : left + size[1]].contiguous(), t)
                total = total + functional.pad(weights * answer, borders)
                count = count + functional.pad(weights[None, None], borders)
        return total / count

    def _noise(self, t: Times, shape: tuple[int, ...], purpose: int) -> Float[Tensor, "#b c y x"]:
        """Return unit noise that depends on the level and on what it is for, and on nothing else."""
        drawn: dict[int, Tensor] = {}
        ratio = self.schedule.ratio(t).reshape(-1).cpu()
        for seed in ratio.view(torch.int64).tolist():
            if seed not in drawn:
                # The lowest bits of a round level are all 0, and the generator takes 32: all bits are mixed.
                generator = generator_of((seed % 2**63) << 1 | purpose)
                drawn[seed] = torch.randn(shape, generator=generator)
        if len(drawn) == 1:
            return next(iter(drawn.values()))[None]
        return torch.stack([drawn[seed] for seed in ratio.view(torch.int64).tolist()])


def _turned(x: Tensor, orientation: str) -> Tensor:
    """Return slices with the axes of the prior."""
    first, second = orientation.split()
    x = x.transpose(-1, -2) if "x" in first else x
    flipped = [axis for axis, name in ((-2, first), (-1, second)) if name.startswith("-")]
    return x.flip(flipped) if flipped else x


def _turned_back(x: Tensor, orientation: str) -> Tensor:
    """Undo `_turned`."""
    first, second = orientation.split()
    flipped = [axis for axis, name in ((-2, first), (-1, second)) if name.startswith("-")]
    x = x.flip(flipped) if flipped else x
    return x.transpose(-1, -2) if "x" in first else x
