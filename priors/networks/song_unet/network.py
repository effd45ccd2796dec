r"""The U-Net of DDPM++ and NCSN++ (Song et al. 2021) and of ADM (Dhariwal and Nichol 2021), as EDM has them.

Modules stand in two lists, the way down and the way up, in the order in which they are used. A pyramid of the input may
join every level on the way down, one of outputs on the way up:

    skip        the filtered image at half the resolution, projected and added
    residual    features of the pyramid above, convolved, halved and added, scaled by sqrt(1/2)
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from priors.networks.song_unet.blocks import (
    ADM_EPS,
    SONG_EPS,
    Block,
    Features,
    Images,
    Residual,
    doubled,
    fixed_frequencies,
    group_norm,
    halved,
    sines,
)
from priors.networks.song_unet.description import Module, SongUNet


class ScoreUNet(nn.Module):
    """The network a `SongUNet` describes; called with states (b, k, y, x) and a number per state."""

    frequencies: Tensor

    def __init__(self, settings: SongUNet) -> None:
        super().__init__()
        self.settings = s = settings
        noise, embedded = s.noise_factor * s.width, s.embedding_factor * s.width
        if s.embedding == "fourier":
            self.register_buffer("frequencies", torch.randn(noise // 2))
        self.map_layer0, self.map_layer1 = nn.Linear(noise, embedded), nn.Linear(embedded, embedded)
        self.map_label: nn.Linear | None = None
        if s.classes is not None:
            song = s.variant == "song"
            self.map_label = nn.Linear(s.classes, noise if song else embedded, bias=song)
        self.encoder = nn.ModuleList(_built(own, s) for own in s.encoder_modules())
        self.decoder = nn.ModuleList(_built(own, s) for own in s.decoder_modules())

    def forward(self, x: Images, told: Float[Tensor, "b"], labels: Int[Tensor, "b"] | None = None) -> Images:
        """Return the network's output, same shape as ``x``; ``labels`` stand in place of the card's label."""
        s = self.settings
        embedding = self._embedding(told, labels)
        skips = self._down(x if s.centred else 2 * x - 1, embedding)
        return self._up(skips, embedding)[:, : s.field_channels]

    def _embedding(self, told: Float[Tensor, "b"], labels: Int[Tensor, "b"] | None) -> Features:
        """Return what the blocks are given of the noise level and the class."""
        s, silu = self.settings, functional.silu
        song = s.variant == "song"
        if s.embedding == "fourier":
            features = sines(told, 2 * math.pi * self.frequencies)
        else:
            half = s.noise_factor * s.width // 2
            features = sines(told, fixed_frequencies(half, to_the_end=song).to(told.device))
        if not song:
            features = torch.cat(features.chunk(2, 1)[::-1], 1)
        label = self._label(told, labels)
        if song and label is not None:
            # One of n classes is given with the root mean square of n numbers of size one.
            features = features + label
        features = self.map_layer1(silu(self.map_layer0(features)))
        if not song and label is not None:
            features = features + label
        embedding: Tensor = silu(features)
        return embedding

    def _label(self, told: Float[Tensor, "b"], labels: Int[Tensor, "b"] | None) -> Features | None:
        s = self.settings
        if self.map_label is None:
            return None
        assert s.classes is not None
        if labels is None:
            assert s.label is not None
            labels = torch.full_like(told, s.label, dtype=torch.long)
        size = math.sqrt(s.classes) if s.variant == "song" else 1.0
        chosen = size * functional.one_hot(labels, s.classes).to(told)
        answer: Tensor = self.map_label(chosen)
        return answer

    def _down(self, x: Images, embedding: Features) -> list[Images]:
        """Return the outputs of the way down that the way up takes in."""
        pyramid, skips = x, list[Images]()
        for own, module in zip(self.settings.encoder_modules(), self.encoder, strict=True):
            if own.kind == "shrink":
                pyramid = halved(pyramid, self.settings.taps)
            elif own.kind == "join":
                x = skips[-1] = x + module(pyramid)
            elif own.kind == "residual":
                x = skips[-1] = pyramid = (x + module(pyramid)) / math.sqrt(2)
            else:
                x = module(x) if own.kind == "conv" else module(x, embedding)
                skips.append(x)
        return skips

    def _up(self, skips: list[Images], embedding: Features) -> Images:
        """Return the output of the last level, or the sum of all."""
        x = normed = skips[-1]
        total: Images | None = None
        for own, module in zip(self.settings.decoder_modules(), self.decoder, strict=True):
            if own.kind == "grow":
                assert total is not None
                total = doubled(total, self.settings.taps)
            elif own.kind == "norm":
                normed = module(x)
            elif own.kind == "output":
                output = module(functional.silu(normed))
                total = output if total is None else total + output
            else:
                x = torch.cat([x, skips.pop()], 1) if own.kind == "block" else x
                x = module(x, embedding)
        assert total is not None
        return total


def _built(own: Module, settings: SongUNet) -> nn.Module:
    """Return one module with random weights."""
    if own.kind in ("conv", "output"):
        return nn.Conv2d(own.inputs, own.outputs, 3, padding=1)
    if own.kind == "join":
        return nn.Conv2d(own.inputs, own.outputs, 1)
    if own.kind == "residual":
        return Residual(own, settings.taps)
    if own.kind == "norm":
        return group_norm(own.inputs, SONG_EPS if settings.variant == "song" else ADM_EPS)
    return nn.Identity() if own.kind in ("shrink", "grow") else Block(own, settings)
