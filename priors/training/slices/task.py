"""Slices as the subject of a training run."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from priors.card import Prior
from priors.diffusion.denoiser import NetworkDenoiser
from priors.diffusion.samplers.few_step import usual_sampler
from priors.networks import MonaiUNet
from priors.runtime.system.seeds import generator_of
from priors.training.configuration.config import TrainConfig
from priors.training.engine.arrays import resident_bytes
from priors.training.engine.draws import draws, noise, torch_draws
from priors.training.engine.precision import weight_dtype
from priors.training.few_step import FewStep, few_step_errors
from priors.training.objective import squared_errors
from priors.training.slices.data import Crop, PreparedArrays, class_numbers, neighbouring, sample_at
from priors.training.slices.gallery import (
    PAGE_SAMPLES,
    PAGE_STEPS,
    Stack,
    draw_samples,
    drawn,
    save_page,
    sees_neighbours,
)
from priors.training.slices.watch import Watch
from priors.training.task import Batch, Probe, TrainingTask

HELD_OUT_FIELDS = 32
HELD_OUT_BATCH = 4
"""Held-out fields that are denoised at a time."""
PROBE_PIXELS = 64


def crop_of_step(config: TrainConfig, step: int) -> Crop:
    """Return the batch shape of a step, drawn by share, reproducibly."""
    begin, end = config.optimisation.segment(step)
    late = step - begin >= (1 - config.final_share) * (end - begin)
    crops = config.final_crops if late and config.final_crops else config.crops
    shares = np.array([crop.share for crop in crops])
    generator = draws("step", seed=config.seed, step=step)
    return crops[generator.choice(len(crops), p=shares / shares.sum())]


@torch.no_grad()
def denoising_psnr(
    denoiser: NetworkDenoiser,
    fields: Float[Tensor, "b k y x"],
    levels: tuple[float, ...],
    *,
    seed: int = 0,
    labels: Int[Tensor, "b"] | None = None,
) -> dict[float, float]:
    """Return the denoising PSNR in dB, on network values clipped to [-1, 1], at each noise level.

    Args:
        denoiser: what is measured.
        fields: held-out samples in network units.
        levels: values of sigma / alpha.
        seed: of the noise, the same for every level.
        labels: classes of the samples, where the network is told them.
    """
    result = {}
    batches = fields.to(weight_dtype(denoiser)).split(HELD_OUT_BATCH)
    classes = [None] * len(batches) if labels is None else labels.split(HELD_OUT_BATCH)
    for level in levels:
        generator = generator_of(seed)
        squared, count = 0.0, 0
        for x, told in zip(batches, classes, strict=True):
            t = denoiser.schedule.inverse(torch.full((len(x),), level, dtype=torch.float64))
            alpha, sigma = (scale.reshape(-1, 1, 1, 1).to(x) for scale in denoiser.schedule(t))
            noisy = alpha * x + sigma * torch.randn(x.shape, generator=generator)
            estimate = (denoiser if told is None else denoiser.of_classes(told))(noisy, t)
            error = estimate.clamp(-1, 1) - x.clamp(-1, 1)
            error = error[:, error.shape[1] // 2] if sees_neighbours(denoiser) else error
            squared += float((error**2).sum())
            count += error.numel()
        result[level] = 10 * math.log10(4 * count / squared)
    return result


def validation_fields(config: TrainConfig) -> Float[Tensor, "b k y x"]:
    """Return evenly spread held-out slices in network units.

    Raises:
        InputError: the held-out series cannot be read.
    """
    data = PreparedArrays.load(config.data, "validation")
    if config.condition is not None:
        data.require_known(config.condition.classes)
    return _spread_fields(config, data)


def _spread_fields(config: TrainConfig, data: PreparedArrays) -> Float[Tensor, "b k y x"]:
    # Patients are reconstructed on different fields: the middle that all have is compared.
    height, width = (min(array.shape[axis] for array in data.arrays) for axis in (1, 2))
    cut = [
        _middle(neighbouring(data.arrays[n], k, config.slab), height, width)
        for n, k in _spread_out(data, config.validation_fields)
    ]
    fields = torch.from_numpy(np.stack(cut).astype(np.float32))
    encoded = config.codec.encode(fields.clamp(config.codec.low, config.codec.high))
    # Every channel of a colour prior shows the same slice, under noise of its own.
    return encoded.expand(-1, config.channels, -1, -1)


def validation_labels(config: TrainConfig) -> Int[Tensor, "b"] | None:
    """Return the classes of `validation_fields`, where the network is told them."""
    return _spread_labels(config, PreparedArrays.load(config.data, "validation"))


def _spread_labels(config: TrainConfig, data: PreparedArrays) -> Int[Tensor, "b"] | None:
    if config.condition is None:
        return None
    names = [data.series[n].label for n, _ in _spread_out(data, config.validation_fields)]
    return class_numbers(names, config.condition.classes)


def _spread_out(data: PreparedArrays, count: int) -> list[tuple[int, int]]:
    """Return series and slice of ``count`` slices, evenly spread over all."""
    slices = [(n, k) for n, array in enumerate(data.arrays) for k in range(len(array))]
    indices = np.linspace(0, len(slices) - 1, count).round().astype(int)
    return [slices[index] for index in indices]


def _middle(field: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (field.shape[1] - height) // 2, (field.shape[2] - width) // 2
    return field[:, top : top + height, left : left + width]


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
        self.data.require_spacing(config.description.pixel_mm)
        if config.slab > 1:
            self.data.require_neighbours()
        if config.condition is not None:
            self.data.require_classes(config.condition.classes)
        self.fields, self.labels = validation_fields(config), validation_labels(config)
        self.watch = None
        if config.memorisation.watch:
            self.watch = Watch(
                config, self.data, _spread_fields(config, self.data), _spread_labels(config, self.data)
            )

    def batch_size(self, step: int) -> int:
        """See `TrainingTask`."""
        return crop_of_step(self.config, step).batch

    def batch(self, step: int, samples: range) -> Batch:
        """See `TrainingTask`. Levels are stratified over the whole step, then those of the samples are taken."""
        config = self.config
        crop = crop_of_step(config, step)
        fields = [
            sample_at(
                self.data,
                crop.size,
                augmentation=config.augmentation,
                codec=config.codec,
                generator=draws("sample", seed=config.seed, step=step, sample=i),
                slices=config.slab,
            )
            for i in samples
        ]
        levels = config.levels(crop.batch, torch_draws(seed=config.seed, step=step))
        x = torch.stack(fields).expand(-1, config.channels, -1, -1)
        z = noise(tuple(x.shape[1:]), seed=config.seed, step=step, samples=samples)
        t = config.schedule.inverse(levels[samples.start : samples.stop])
        # Of neighbours the middle one is answered, and only that carries a loss.
        middle = isinstance(config.network, MonaiUNet) and config.slab > 1
        counted = torch.ones_like(x[:, :1], dtype=torch.bool) if middle else None
        batch = Batch(x, z, t, counted, labels=self._labels(step, samples))
        if not isinstance(config.objective, FewStep):
            return batch
        begin, end = config.optimisation.segment(step)
        generator = torch_draws(seed=config.seed, step=step, purpose=2)
        every = config.schedule(config.schedule.inverse(levels))[1]
        jumps = config.objective.jumps(every, generator)[samples.start : samples.stop]
        return replace(batch, jump=jumps, mixing=config.objective.mixing((step - begin) / (end - begin)))

    def _labels(self, step: int, samples: range) -> Int[Tensor, "b"] | None:
        """Return the classes of samples, some of them withheld."""
        config = self.config
        if config.condition is None:
            return None
        names: list[str | None] = []
        for i in samples:
            # The first draw of a sample's generator chooses its series; a stream of its own decides what is told.
            ((series, _),) = self.data.places(draws("sample", seed=config.seed, step=step, sample=i), 1)
            told = draws("label", seed=config.seed, step=step, sample=i).random() >= config.condition.dropout
            names.append(self.data.series[series].label if told else None)
        return class_numbers(names, config.condition.classes)

    def loss_sum(self, denoiser: NetworkDenoiser, batch: Batch) -> Float[Tensor, ""]:
        """See `TrainingTask`."""
        objective = self.config.objective
        if isinstance(objective, FewStep):
            # The plan's probe has no jumps: its memory is that of samples that do not jump.
            batch = batch if batch.jump is not None else replace(batch, jump=torch.zeros_like(batch.t))
            return few_step_errors(denoiser, batch, objective=objective)
        return squared_errors(denoiser, batch)

    def held_out(self, denoiser: NetworkDenoiser) -> dict[str, float]:
        """See `TrainingTask`: denoising PSNR by noise level."""
        psnr = denoising_psnr(denoiser, self.fields, self.config.validation_levels, labels=self.labels)
        return {f"psnr_{level:g}": value for level, value in psnr.items()}

    def memorisation(self, denoiser: NetworkDenoiser, held_out: dict[str, float]) -> dict[str, float]:
        """See `TrainingTask`: the gap by noise level, and how near a few samples come to training slices."""
        watch = self.watch
        if watch is None:
            return {}
        gaps = watch.gaps(
            lambda levels: denoising_psnr(denoiser, watch.fields, levels, labels=watch.labels), held_out
        )
        return {**gaps, **watch.copies(denoiser)}

    def score(self, figures: dict[str, float]) -> float:
        """See `TrainingTask`."""
        return float(np.mean([value for name, value in figures.items() if name.startswith("psnr_")]))

    def size_bytes(self) -> int:
        """See `TrainingTask`."""
        return resident_bytes(self.data.arrays)

    def probe(self) -> Probe:
        """See `TrainingTask`: a convolutional network saves activations in proportion to batch and pixels."""
        config = self.config
        largest = max(crop.batch * crop.size**2 for crop in (*config.crops, *config.final_crops))
        field = torch.zeros(1, config.channels, PROBE_PIXELS, PROBE_PIXELS)
        return Probe(field, torch.tensor([0.5], dtype=torch.float64), largest / PROBE_PIXELS**2)

    def validation_probe(self) -> Probe:
        """See `TrainingTask`."""
        fields = self.fields[:HELD_OUT_BATCH]
        asked = 0.0 if self.watch is None else self.watch.calls
        calls = (len(self.config.validation_levels) * len(self.fields) + asked) / len(fields)
        return Probe(fields, torch.full((len(fields),), 0.5, dtype=torch.float64), calls)

    def export_calls(self) -> float:
        """See `TrainingTask`."""
        card = len(self.config.validation_levels) * HELD_OUT_FIELDS
        return (card + PAGE_SAMPLES * PAGE_STEPS) / len(self.fields[:HELD_OUT_BATCH])

    def variants(self) -> Sequence[tuple[float, TrainingTask]]:
        """See `TrainingTask`."""
        config = self.config
        late = config.final_share if config.final_crops else 0.0
        stages = [(config.crops, 1 - late)] + ([(config.final_crops, late)] if late else [])
        return [
            (share * crop.share / sum(other.share for other in crops), self._only(crop))
            for crops, share in stages
            for crop in crops
        ]

    def _only(self, crop: Crop) -> "Slices":
        """Return the same data in one batch shape."""
        one = object.__new__(Slices)
        one.config = self.config.model_copy(update={"crops": (crop,), "final_crops": ()})
        one.data, one.fields, one.labels, one.watch = self.data, self.fields, self.labels, self.watch
        return one

    def card(self, denoiser: NetworkDenoiser) -> dict[str, Any]:
        """See `TrainingTask`."""
        config = self.config
        config = config.model_copy(update={"validation_fields": HELD_OUT_FIELDS})
        fields, labels = validation_fields(config), validation_labels(config)
        psnr = denoising_psnr(denoiser, fields, config.validation_levels, labels=labels)
        return {
            "unit": self.data.manifest.unit,
            "shape": tuple(fields.shape[-2:]),
            "held_out_psnr": {level: round(value, 2) for level, value in psnr.items()},
            "mirrored": config.augmentation.flip,
            **({} if config.fit is None else {"fit": config.fit}),
            "classes": () if config.condition is None else config.condition.classes,
            **config.description.model_dump(),
        }

    def save_page(self, prior: Prior, path: Path) -> None:
        """See `TrainingTask`; a prior of blocks has no page."""
        if prior.card.fit.channels == "block":
            return
        samples = draw_samples(
            prior, usual_sampler(prior.denoiser, PAGE_STEPS), count=PAGE_SAMPLES, seed=self.config.seed
        )
        spread = self.config.model_copy(update={"validation_fields": PAGE_SAMPLES})
        real = prior.slices.decode(validation_fields(spread))[:, self.config.slab // 2].numpy()
        save_page(samples, real, path, window=(prior.slices.low, prior.slices.high))

    def save_preview(self, denoiser: NetworkDenoiser, path: Path | None, *, levels: int) -> None:
        """See `TrainingTask`."""
        codec = self.config.codec
        if self.config.fit is not None and self.config.fit.channels == "block":
            return
        shape = (PAGE_SAMPLES, 1 if self.config.slab > 1 else self.config.channels, *self.fields.shape[2:])
        stacked = Stack.of(denoiser, self.config.slab)
        fields = drawn(stacked, usual_sampler(denoiser, levels), shape, seed=self.config.seed)
        if path is not None:
            real = codec.decode(self.fields[:PAGE_SAMPLES, self.config.slab // 2]).numpy()
            save_page(codec.decode(fields.float())[:, 0], real, path, window=(codec.low, codec.high))
