r"""Space-time diffusion transformer: E[x_0, ..., x_{f-1} | frames at their own noise levels].

    patch stem -> convolutional stages, halving the resolution -> transformer -> stages back up -> patches

Only attention along time mixes frames, in every block, at every resolution; the rest works frame by frame and
is told the frame's noise level. Without stages it is the plain factorised transformer on patches. Nothing
limits the number of frames or the field's size: time and place enter as differences (rotary positions,
convolutions), fields that are no multiple of the stride are extended at their high ends and cut back. Exact
periodicity (a cyclic shift by a whole stride commutes with the network) needs a multiple of the stride.

An optional learned map (``place``) ties a network to one domain, where coast and mountains matter.
"""

import itertools
import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from priors.gaussian.linear_filter import EigenFilter, LinearFilter, TimeFilter
from priors.gaussian.modes import is_covariance
from priors.networks.space_time_dit.attention import (
    KeyValueCache,
    SpatialAttention,
    TemporalAttention,
    TimeAxis,
    visibility,
)
from priors.networks.space_time_dit.blocks import (
    Down,
    Modulation,
    NoiseEmbedding,
    Padding,
    Places,
    StageBlock,
    TransformerBlock,
    Up,
    modulated,
    pad_axis,
)
from priors.networks.trajectory import TrajectoryNetwork
from priors.runtime.errors import InputError

Trajectories = Float[Tensor, "b f k y x"]
Levels = Float[Tensor, "b f"]


class SpaceTimeDiT(BaseModel):
    """Card entry that builds a `SpaceTimeTransformer`.

    Attributes:
        field_channels: variables of a frame.
        patch: pixels per place of the finest stage, along each axis.
        stages: channels of the convolutional stages, finest first; each halves the resolution after it.
        width: channels of the transformer.
        depth: its blocks.
        head_width: channels per attention head, everywhere.
        features: width of the noise-level features.
        reach: how many frames back, and in bidirectional mode ahead, one attention layer sees.
        spatial_reach: how many places away the transformer sees within a frame, any distance by default; a
            network trained on crops and used on larger fields needs a limit about half the crop.
        padding: beyond the field's border, along y and x.
        covariance: of a pixel in time by lag, in network units; where given, the network adds to the best linear
            estimate along time (see `TimeFilter`) and needs the velocity parametrisation.
        modes: spatial modes of the one domain the network is for (``place``), from training data; where given, the
            network adds to the best linear estimate in space and time (see `EigenFilter`), as with ``covariance``.
        place: field size of the one domain the network is for, where it has a learned map of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["space-time-dit"] = "space-time-dit"
    field_channels: int = Field(1, ge=1)
    patch: int = Field(2, ge=1)
    stages: tuple[int, ...] = (48, 96)
    width: int = Field(160, ge=1)
    depth: int = Field(4, ge=1)
    head_width: int = Field(32, ge=4, multiple_of=4)
    features: int = Field(128, ge=1)
    reach: int = Field(5, ge=1)
    spatial_reach: int | None = Field(None, ge=1)
    padding: tuple[Padding, Padding] = ("zeros", "zeros")
    covariance: tuple[float, ...] = ()
    modes: int = Field(0, ge=0)
    place: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _heads_fit(self) -> "SpaceTimeDiT":
        if self.width % self.head_width:
            raise ValueError(f"width ({self.width}) must be a multiple of head_width ({self.head_width})")
        if any(channels % 16 or channels < 16 for channels in self.stages):
            raise ValueError(f"stages {self.stages} must be multiples of 16")
        if self.covariance and not is_covariance(self.covariance, frames=2 * self.reach + 1):
            raise ValueError(
                f"covariance: no covariance of {2 * self.reach + 1} frames (what one frame sees); values beyond the "
                "last are zero, so give as many"
            )
        if self.modes and (self.place is None or self.covariance):
            raise ValueError(
                "modes: are those of one domain: give its size as place, and leave covariance out"
            )
        if self.modes and self.modes > self.field_channels * math.prod(self.place or ()):
            raise ValueError(f"modes: found {self.modes}, expected no more than a frame has values")
        return self

    @property
    def stride(self) -> int:
        """Pixels along each axis of a token of the transformer."""
        return int(self.patch * 2 ** len(self.stages))

    def build(self) -> "SpaceTimeTransformer":
        """Return the network with random weights."""
        return SpaceTimeTransformer(self)


class SpaceTimeTransformer(TrajectoryNetwork):
    """The network a `SpaceTimeDiT` describes."""

    caches = True

    def __init__(self, settings: SpaceTimeDiT) -> None:
        super().__init__()
        self.settings = s = settings
        widths = (*s.stages, s.width)
        pixels = s.field_channels * s.patch**2
        self.noise = NoiseEmbedding(s.features)
        self.stem = nn.Linear(pixels, widths[0])
        self.place = None
        if s.place is not None:
            cells = [-(-n // s.stride) * s.stride // s.patch for n in s.place]
            self.place = nn.Parameter(torch.zeros(*cells, widths[0]))
        layers = iter(range(2 * len(s.stages) + s.depth))
        self.down_blocks = nn.ModuleList(self._stage(c, next(layers)) for c in s.stages)
        self.downs = nn.ModuleList(Down(*pair) for pair in itertools.pairwise(widths))
        self.blocks = nn.ModuleList(self._block(next(layers)) for _ in range(s.depth))
        upward = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.ups = nn.ModuleList(Up(*pair) for pair in upward)
        self.up_blocks = nn.ModuleList(self._stage(c, next(layers)) for _, c in upward)
        self.filter = _linear_filter(s)
        self.final = Modulation(s.features, widths[0], parts=2)
        self.out = nn.Linear(widths[0], pixels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def _stage(self, channels: int, layer: int) -> StageBlock:
        s = self.settings
        heads = max(1, channels // s.head_width) if channels % s.head_width == 0 else channels // 16
        return StageBlock(channels, features=s.features, padding=s.padding, heads=heads, layer=layer)

    def _block(self, layer: int) -> TransformerBlock:
        s = self.settings
        heads = s.width // s.head_width
        periodic = (s.padding[0] == "periodic", s.padding[1] == "periodic")
        return TransformerBlock(
            s.width,
            features=s.features,
            spatial=SpatialAttention(s.width, heads=heads, periodic=periodic, reach=s.spatial_reach),
            temporal=TemporalAttention(s.width, heads=heads, layer=layer),
        )

    def forward(
        self,
        x: Trajectories,
        log_ratio: Levels,
        *,
        causal: bool = False,
        finished: Bool[Tensor, "b f"] | None = None,
        cache: KeyValueCache | None = None,
    ) -> Trajectories:
        """Return the network's output, same shape as ``x``.

        Args:
            x: frames in time order.
            log_ratio: log(sigma / alpha) of every frame.
            causal: no frame sees a later one.
            finished: frames that are clean and look back only; none by default.
            cache: finished frames directly before ``x``, from `remember`.
        """
        return self._run(x, log_ratio, self._axis(x, causal=causal, finished=finished, cache=cache))

    def remember(
        self, x: Trajectories, log_ratio: Levels, cache: KeyValueCache | None = None
    ) -> KeyValueCache:
        """Return ``cache`` continued by the finished frames ``x``, cut to what the reach can still use."""
        axis = self._axis(x, causal=True, finished=None, cache=cache)
        axis.keep = True
        self._run(x, log_ratio, axis)
        last = slice(-self.settings.reach, None)
        return KeyValueCache(tuple((k[:, :, last], v[:, :, last]) for k, v in axis.kept))

    def _axis(
        self,
        x: Trajectories,
        *,
        causal: bool,
        finished: Bool[Tensor, "b f"] | None,
        cache: KeyValueCache | None,
    ) -> TimeAxis:
        clean = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device) if finished is None else finished
        held = 0 if cache is None else cache.frames
        return TimeAxis(visibility(clean, reach=self.settings.reach, causal=causal, cached=held), cache)

    def _run(self, x: Trajectories, log_ratio: Levels, axis: TimeAxis) -> Trajectories:
        noise = self.noise(log_ratio)
        tokens = self.stem(self._packed(x))
        if self.place is not None:
            tokens = tokens + self.place.to(tokens.dtype)
        skipped: list[Places] = []
        for block, down in zip(self.down_blocks, self.downs, strict=True):
            tokens = block(tokens, noise, axis)
            skipped.append(tokens)
            tokens = down(tokens)
        for block in self.blocks:
            tokens = block(tokens, noise, axis)
        for up, block in zip(self.ups, self.up_blocks, strict=True):
            tokens = block(up(tokens, skipped.pop()), noise, axis)
        out: Places = self.out(modulated(tokens, *self.final.vectors(noise)))
        velocity = self._unpacked(out, x.shape)
        return velocity if self.filter is None else velocity + self._filtered(x, log_ratio, axis)

    def _filtered(self, x: Trajectories, log_ratio: Levels, axis: TimeAxis) -> Trajectories:
        """Return the velocity of the best linear estimate."""
        assert self.filter is not None
        layer = 2 * len(self.settings.stages) + self.settings.depth
        ratio = log_ratio.double().exp()[..., None, None, None]
        alpha = torch.rsqrt(1 + ratio**2)
        with torch.autocast(x.device.type, enabled=False):
            estimate = axis.estimate(x, log_ratio, by=self.filter, layer=layer)
            return ((alpha * x - estimate) / (alpha * ratio)).to(x.dtype)

    def _packed(self, x: Trajectories) -> Places:
        """Extend to whole strides; turn patches of pixels into the channels of a token."""
        s = self.settings
        if s.place is not None and tuple(x.shape[-2:]) != s.place:
            raise InputError(
                f"field size: found {x.shape[-2]} x {x.shape[-1]}, this prior is for {s.place[0]} x "
                f"{s.place[1]} only"
            )
        for axis, mode in zip((-2, -1), s.padding, strict=True):
            missing = -x.shape[axis] % s.stride
            if missing:
                x = pad_axis(x, axis, mode, 0, missing)
        b, f = x.shape[:2]
        packed = functional.pixel_unshuffle(x.flatten(0, 1), s.patch).permute(0, 2, 3, 1)
        return packed.reshape(b, f, *packed.shape[1:])

    def _unpacked(self, tokens: Places, shape: torch.Size) -> Trajectories:
        pixels = functional.pixel_shuffle(tokens.flatten(0, 1).permute(0, 3, 1, 2), self.settings.patch)
        return pixels[..., : shape[-2], : shape[-1]].reshape(shape)


def _linear_filter(settings: SpaceTimeDiT) -> LinearFilter | None:
    """Return what the network adds to, if anything."""
    s = settings
    if s.covariance:
        return TimeFilter(s.covariance)
    if not s.modes:
        return None
    return EigenFilter(s.modes, s.field_channels * math.prod(s.place or ()), 2 * s.reach + 1)
