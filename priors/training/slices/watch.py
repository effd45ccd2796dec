"""What a validation asks about memorising slices: errors on training slices beside held-out ones, and a few samples."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from priors.codec import Codec
from priors.diffusion.denoiser import Denoiser
from priors.diffusion.samplers.few_step import usual_sampler
from priors.training.configuration.config import TrainConfig
from priors.training.memorisation.copying import Thumbnails, copying, series_thumbnails, thumbnails
from priors.training.memorisation.onset import compared_levels
from priors.training.slices.data import PreparedArrays
from priors.training.slices.gallery import Stack, drawn

FEWEST_SERIES = 2
BATCH = 4
"""Samples drawn at a time: validation must not need more memory than it does without them."""
DECIBEL = math.log(10) / 20
"""Logarithm of an error's ratio in 1 dB."""
Psnr = Callable[[tuple[float, ...]], dict[float, float]]


@dataclass
class Watch:
    """Training slices to compare with.

    Attributes:
        config: of the run.
        data: its training slices.
        fields: some of them, as the held-out ones are cut, network units.
        labels: their classes, where the network is told them.
    """

    config: TrainConfig
    data: PreparedArrays
    fields: Float[Tensor, "b k y x"]
    labels: Int[Tensor, "b"] | None

    def gaps(self, psnr: Psnr, held_out: Mapping[str, float]) -> dict[str, float]:
        """Return ln(held-out error / training error) by level.

        Args:
            psnr: returns the denoising PSNR of `fields` by level.
            held_out: figures of the held-out slices, ``psnr_LEVEL``.
        """
        levels = compared_levels(self.config.validation_levels)
        seen = psnr(levels)
        return {f"gap_{level:g}": DECIBEL * (seen[level] - held_out[f"psnr_{level:g}"]) for level in levels}

    def copies(self, denoiser: Denoiser) -> dict[str, float]:
        """Return share and limit of `copying` of a few samples; nothing where none are asked for, or of one series."""
        asked = self.config.memorisation
        block = self.config.fit is not None and self.config.fit.channels == "block"
        if not asked.samples or block or len(self.data.series) < FEWEST_SERIES:
            return {}
        channels = 1 if self.config.slab > 1 else self.config.channels
        size = tuple(self.fields.shape[2:])
        sampler = usual_sampler(denoiser, asked.levels)
        fields = [
            drawn(
                Stack.of(denoiser, self.config.slab),
                sampler,
                (min(BATCH, asked.samples - first), channels, *size),
                seed=self.config.seed + first,
            )
            for first in range(0, asked.samples, BATCH)
        ]
        found = copying(self._small(torch.cat(fields)[:, 0]), self.series)
        return {
            "copying_share": found["share_below"],
            "copying_limit": found["limit"],
            "copying_samples": found["samples"],
        }

    @property
    def calls(self) -> float:
        """Network calls of one validation, one field each."""
        asked = self.config.memorisation
        levels = len(compared_levels(self.config.validation_levels))
        return float(levels * len(self.fields) + asked.samples * asked.levels)

    @cached_property
    def series(self) -> dict[str, Thumbnails]:
        """Thumbnails of the training slices by series."""
        return series_thumbnails(self._codec, self.data, mirrored=self.config.augmentation.flip)

    @property
    def _codec(self) -> Codec:
        return self.config.codec

    def _small(self, fields: Float[Tensor, "b y x"]) -> Thumbnails:
        codec = self._codec
        return thumbnails(codec.encode(codec.decode(fields.float()).clamp(codec.low, codec.high)).cpu())
