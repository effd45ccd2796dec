"""Slices as the subject of a training run."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priors.card import Prior
from priors.diffusion.denoiser import NetworkDenoiser
from priors.diffusion.sampler import Multistep
from priors.runtime.errors import InputError
from priors.training.config import TrainConfig
from priors.training.objective import denoising_loss
from priors.training.prefetch import Prefetch
from priors.training.slices.data import Crop, PreparedArrays, batch_at
from priors.training.slices.gallery import PAGE_SAMPLES, PAGE_STEPS, draw_samples, save_page
from priors.training.task import Probe, TrainingTask

HELD_OUT_FIELDS = 32
PROBE_PIXELS = 64


def crop_of_step(config: TrainConfig, step: int) -> Crop:
    """Return the batch shape of a step, drawn by share, reproducibly."""
    late = step >= (1 - config.final_share) * config.optimisation.steps
    crops = config.final_crops if late and config.final_crops else config.crops
    shares = np.array([crop.share for crop in crops])
    generator = np.random.default_rng([config.seed, step, 1])
    return crops[generator.choice(len(crops), p=shares / shares.sum())]


@torch.no_grad()
def denoising_psnr(
    denoiser: NetworkDenoiser, fields: Float[Tensor, "b 1 y x"], levels: tuple[float, ...], *, seed: int = 0
) -> dict[float, float]:
    """Return the denoising PSNR in dB, on network values clipped to [-1, 1], at each noise level.

    Args:
        denoiser: what is measured.
        fields: held-out samples in network units.
        levels: values of sigma / alpha.
        seed: of the noise, the same for every level.
    """
    result = {}
    for level in levels:
        generator = torch.Generator().manual_seed(seed)
        squared, count = 0.0, 0
        for x in torch.split(fields, 4):
            t = denoiser.schedule.inverse(torch.full((len(x),), level, dtype=torch.float64))
            alpha, sigma = (scale.reshape(-1, 1, 1, 1).float() for scale in denoiser.schedule(t))
            estimate = denoiser(alpha * x + sigma * torch.randn(x.shape, generator=generator), t)
            squared += float(((estimate.clamp(-1, 1) - x.clamp(-1, 1)) ** 2).sum())
            count += x.numel()
        result[level] = 10 * math.log10(4 * count / squared)
    return result


def validation_fields(config: TrainConfig) -> Float[Tensor, "b 1 y x"]:
    """Return evenly spread held-out slices in network units.

    Raises:
        InputError: the held-out series cannot be read or differ in slice size.
    """
    data = PreparedArrays.load(config.data, "validation")
    sizes = {array.shape[1:] for array in data.arrays}
    if len(sizes) > 1:
        raise InputError(
            f"{config.data}: the validation slices differ in size ({sorted(sizes)}), expected one"
        )
    slices = [field for array in data.arrays for field in array]
    chosen = np.linspace(0, len(slices) - 1, config.validation_fields).round().astype(int)
    fields = torch.from_numpy(np.stack([slices[k] for k in chosen]).astype(np.float32))[:, None]
    return config.codec.encode(fields.clamp(config.codec.low, config.codec.high))


class Slices(TrainingTask):
    """Crops of slices, denoised at random noise levels.

    Args:
        config: the run.

    Raises:
        InputError: the data cannot be read or does not fit crops and codec.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.data = PreparedArrays.load(config.data, "train")
        self.data.require((*config.crops, *config.final_crops), config.codec)
        self.fields = validation_fields(config)
        self._ahead = Prefetch(self._batch)

    def _batch(self, step: int) -> Float[Tensor, "b 1 y x"]:
        config = self.config
        return batch_at(
            self.data,
            crop_of_step(config, step),
            augmentation=config.augmentation,
            codec=config.codec,
            generator=np.random.default_rng([config.seed, step, 0]),
        )

    def loss(self, denoiser: NetworkDenoiser, step: int) -> Float[Tensor, ""]:
        """See `Subject`. While an accelerator works, threads draw the batches of the next steps."""
        config = self.config
        batch = self._batch(step) if denoiser.device.type == "cpu" else self._ahead(step)
        noise = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        return denoising_loss(denoiser, batch, levels=config.levels, generator=noise)

    def held_out(self, denoiser: NetworkDenoiser) -> dict[str, float]:
        """See `Subject`: denoising PSNR by noise level."""
        psnr = denoising_psnr(denoiser, self.fields, self.config.validation_levels)
        return {f"psnr_{level:g}": value for level, value in psnr.items()}

    def score(self, figures: dict[str, float]) -> float:
        """See `Subject`."""
        return float(np.mean([value for name, value in figures.items() if name.startswith("psnr_")]))

    def size_bytes(self) -> int:
        """See `Subject`."""
        return sum(array.nbytes for array in self.data.arrays)

    def probe(self) -> Probe:
        """See `Subject`: a convolutional network saves activations in proportion to batch and pixels."""
        config = self.config
        largest = max(crop.batch * crop.size**2 for crop in (*config.crops, *config.final_crops))
        field = torch.zeros(1, config.network.field_channels, PROBE_PIXELS, PROBE_PIXELS)
        return Probe(field, torch.tensor([0.5], dtype=torch.float64), largest / PROBE_PIXELS**2)

    def variants(self) -> Sequence[tuple[float, TrainingTask]]:
        """See `Subject`."""
        config = self.config
        late = config.final_share if config.final_crops else 0.0
        parts = [(config.crops, 1 - late)] + ([(config.final_crops, late)] if late else [])
        return [
            (part * crop.share / sum(other.share for other in crops), self._only(crop))
            for crops, part in parts
            for crop in crops
        ]

    def _only(self, crop: Crop) -> "Slices":
        """Return the same data in one batch shape."""
        one = object.__new__(Slices)
        one.config = self.config.model_copy(update={"crops": (crop,), "final_crops": ()})
        one.data, one.fields = self.data, self.fields
        one._ahead = Prefetch(one._batch)
        return one

    def card(self, denoiser: NetworkDenoiser) -> dict[str, Any]:
        """See `Subject`."""
        config = self.config
        fields = validation_fields(config.model_copy(update={"validation_fields": HELD_OUT_FIELDS}))
        psnr = denoising_psnr(denoiser, fields, config.validation_levels)
        return {
            "unit": self.data.manifest.unit,
            "shape": tuple(fields.shape[-2:]),
            "held_out_psnr": {level: round(value, 2) for level, value in psnr.items()},
            **config.description.model_dump(),
        }

    def save_page(self, prior: Prior, path: Path) -> None:
        """See `Subject`."""
        samples = draw_samples(prior, Multistep(steps=PAGE_STEPS), count=PAGE_SAMPLES, seed=self.config.seed)
        spread = self.config.model_copy(update={"validation_fields": PAGE_SAMPLES})
        real = prior.slices.decode(validation_fields(spread))[:, 0].numpy()
        save_page(samples, real, path, window=(prior.slices.low, prior.slices.high))
