r"""Trajectories as the subject of a training run.

Held out, on windows of validation events, in network units:

    error_s          root-mean-square error of E[x | x_t], all frames at noise level s
    forecast         the same for the last frame at t = 1 below clean context: the mean one frame ahead
    persistence      the error of repeating the last context frame instead
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from priors.card import Prior, TrajectoryCard
from priors.diffusion.denoiser import NetworkDenoiser
from priors.diffusion.samplers.sampler import Multistep
from priors.gaussian.eigenmodes import eigenmodes
from priors.gaussian.linear_filter import EigenFilter
from priors.gaussian.spectrum import Spectrum, measured_spectrum
from priors.networks.space_time_dit.network import SpaceTimeTransformer
from priors.runtime.system.seeds import generator_of
from priors.training.configuration.config import TrajectoryConfig
from priors.training.engine.arrays import resident_bytes
from priors.training.engine.draws import draws, noise, torch_draws
from priors.training.engine.precision import weight_dtype
from priors.training.memorisation.onset import compared_levels
from priors.training.slices.gallery import PAGE_STEPS, draw_trajectories, drawn, save_trajectory_page
from priors.training.task import Batch, Probe, TrainingTask
from priors.training.trajectories.data import PreparedTrajectories, Window, encode, spread_windows
from priors.training.trajectories.objective import trajectory_errors
from priors.training.trajectories.watch import Watch

HELD_OUT_WINDOWS = 48
HELD_OUT_BATCH = 4
"""Windows that are denoised at a time."""
PAGE_WINDOWS = 3
Windows = Float[Tensor, "b f k y x"]
Valid = Bool[Tensor, "b f k y x"]


def masked_rms(error: Float[Tensor, "..."], valid: Bool[Tensor, "..."]) -> float:
    """Return the root mean square over valid values."""
    squared = torch.where(valid, error.double(), 0.0).square().sum()
    return math.sqrt(float(squared) / max(1, int(valid.sum())))


@torch.no_grad()
def denoising_errors(
    denoiser: NetworkDenoiser, x: Windows, valid: Valid, *, levels: tuple[float, ...], seed: int = 0
) -> dict[float, float]:
    """Return the root-mean-square denoising error with all frames at one level, by level sigma / alpha."""
    result = {}
    for level in levels:
        generator = generator_of(seed)
        errors = []
        for batch in x.to(weight_dtype(denoiser)).split(HELD_OUT_BATCH):
            t = denoiser.schedule.inverse(torch.full(batch.shape[:2], level, dtype=torch.float64))
            alpha, sigma = (scale[..., None, None, None].to(batch) for scale in denoiser.schedule(t))
            noise = torch.randn(batch.shape, generator=generator)
            errors.append(denoiser(alpha * batch + sigma * noise, t) - batch)
        result[level] = masked_rms(torch.cat(errors), valid)
    return result


@torch.no_grad()
def forecast_errors(denoiser: NetworkDenoiser, x: Windows, valid: Valid) -> tuple[float, float]:
    """Return the errors of the mean one frame ahead of clean context, and of persistence."""
    generator = torch.Generator().manual_seed(0)
    errors = []
    for batch in x.to(weight_dtype(denoiser)).split(HELD_OUT_BATCH):
        t = torch.zeros(batch.shape[:2], dtype=torch.float64)
        t[:, -1] = 1
        sigma = float(denoiser.schedule(t[0, -1])[1])
        state = batch.clone()
        state[:, -1] = sigma * torch.randn(batch[:, -1].shape, generator=generator)
        errors.append(denoiser(state, t)[:, -1] - batch[:, -1])
    both = valid[:, -1] & valid[:, -2]
    return masked_rms(torch.cat(errors), both), masked_rms(x[:, -2] - x[:, -1], both)


def window_figures(
    denoiser: NetworkDenoiser, x: Windows, valid: Valid, *, levels: tuple[float, ...]
) -> dict[str, float]:
    """Return ``error_LEVEL``, ``forecast`` and ``persistence``, see the module."""
    errors = denoising_errors(denoiser, x, valid, levels=levels)
    forecast, persistence = forecast_errors(denoiser, x, valid)
    named = {f"error_{level:g}": value for level, value in errors.items()}
    return {**named, "forecast": forecast, "persistence": persistence}


class Trajectories(TrainingTask):
    """Windows of trajectories, denoised with frames at their own noise levels.

    Args:
        config: the run.

    Raises:
        InputError: the data cannot be read or does not fit window and codec.
    """

    def __init__(self, config: TrajectoryConfig) -> None:
        self.config = config
        self.data = PreparedTrajectories.load(config.data, "train")
        self.validation = PreparedTrajectories.load(config.data, "validation")
        for data in (self.data, self.validation):
            data.require(frames=config.frames, size=config.size, codec=config.codec)
        self.windows = self._held_out_windows(config.validation_fields)
        self.watch = None
        if config.memorisation.watch:
            seen = spread_windows(self.data, config.validation_fields, frames=config.frames, size=config.size)
            self.watch = Watch(encode(seen, config.codec), self.windows, config.validation_levels)

    def _held_out_windows(self, count: int) -> tuple[Windows, Valid]:
        config = self.config
        windows = spread_windows(self.validation, count, frames=config.frames, size=config.size)
        return encode(windows, config.codec)

    def fit(self, network: nn.Module) -> bool:
        """See `TrainingTask`: the modes of the linear estimate."""
        config = self.config
        if not isinstance(network, SpaceTimeTransformer) or not isinstance(network.filter, EigenFilter):
            return False
        codec = config.codec
        series = [
            codec.encode(codec.clip(torch.from_numpy(own))) for array in self.data.arrays for own in array
        ]
        modes = eigenmodes(
            series,
            modes=config.network.modes,
            lags=network.filter.table.shape[1],
            mixing=config.mixing,
            shift=[size / v.scale for size, v in zip(config.shift, codec.variables, strict=False)],
        )
        modes.put(network.filter)
        return True

    def batch_size(self, step: int) -> int:
        """See `TrainingTask`."""
        return self.config.batch

    def batch(self, step: int, samples: range) -> Batch:
        """See `TrainingTask`. Clean context frames and missing values carry no loss."""
        config, seed = self.config, self.config.seed
        windows = [self._window(draws("sample", seed=seed, step=step, sample=i)) for i in samples]
        x, valid = encode(windows, config.codec)
        t, context = config.levels(config.batch, config.frames, generator=torch_draws(seed=seed, step=step))
        own = slice(samples.start, samples.stop)
        return Batch(
            x,
            noise(tuple(x.shape[1:]), seed=seed, step=step, samples=samples),
            t[own],
            valid & ~context[own, :, None, None, None],
            causal=bool(draws("step", seed=seed, step=step).random() < config.causal_share),
        )

    def loss_sum(self, denoiser: NetworkDenoiser, batch: Batch) -> Float[Tensor, ""]:
        """See `TrainingTask`."""
        return trajectory_errors(denoiser, batch, weighting=self.config.weighting)

    def _window(self, generator: np.random.Generator) -> Window:
        """Return the most variable of the candidates: dry windows teach little about rain."""
        config = self.config
        drawn = [
            self.data.draw(generator, frames=config.frames, size=config.size, moves=config.moves)
            for _ in range(config.candidates)
        ]
        if config.shift:
            amounts = generator.normal(0.0, config.shift, (config.candidates, len(config.shift)))
            drawn = [
                window + amount.astype(np.float32)[:, None, None]
                for window, amount in zip(drawn, amounts, strict=True)
            ]
        if len(drawn) == 1:
            return drawn[0]
        spreads = [float(encode([window], config.codec)[0].var()) for window in drawn]
        return drawn[int(np.argmax(spreads))]

    def held_out(self, denoiser: NetworkDenoiser) -> dict[str, float]:
        """See `TrainingTask` and the module."""
        return window_figures(denoiser, *self.windows, levels=self.config.validation_levels)

    def memorisation(self, denoiser: NetworkDenoiser, held_out: dict[str, float]) -> dict[str, float]:
        """See `TrainingTask`: the gap in skill by noise level and one frame ahead."""
        if self.watch is None:
            return {}
        return self.watch.gaps(
            lambda x, valid, levels: window_figures(denoiser, x, valid, levels=levels), held_out
        )

    def score(self, figures: dict[str, float]) -> float:
        """See `TrainingTask`: minus the mean logarithm of the errors, the forecast weighing as much as all levels."""
        levels = [math.log(value) for name, value in figures.items() if name.startswith("error_")]
        return -float(np.mean(levels)) - math.log(figures["forecast"])

    def size_bytes(self) -> int:
        """See `TrainingTask`."""
        return resident_bytes(self.data.arrays)

    def probe(self) -> Probe:
        """See `TrainingTask`: one sample of the batch."""
        x = torch.zeros_like(self.windows[0][:1])
        return Probe(x, torch.full(x.shape[:2], 0.5, dtype=torch.float64), float(self.config.batch))

    def validation_probe(self) -> Probe:
        """See `TrainingTask`."""
        x = self.windows[0][:HELD_OUT_BATCH]
        # All levels, and one call one frame ahead; the watched ones of training windows as well.
        levels = self.config.validation_levels
        asked = len(levels) + 1 + (0 if self.watch is None else len(compared_levels(levels)) + 1)
        calls = asked * len(self.windows[0]) / len(x)
        return Probe(x, torch.full(x.shape[:2], 0.5, dtype=torch.float64), calls)

    def export_calls(self) -> float:
        """See `TrainingTask`."""
        card = (len(self.config.validation_levels) + 1) * HELD_OUT_WINDOWS
        return (card + PAGE_WINDOWS * PAGE_STEPS) / len(self.windows[0][:HELD_OUT_BATCH])

    def variants(self) -> Sequence[tuple[float, TrainingTask]]:
        """See `TrainingTask`: all batches have one shape."""
        return [(1.0, self)]

    def card(self, denoiser: NetworkDenoiser) -> dict[str, Any]:
        """See `TrainingTask`; PSNR for a peak of 2 network units, as for slices."""
        config, manifest = self.config, self.data.manifest
        x, valid = self._held_out_windows(HELD_OUT_WINDOWS)
        errors = denoising_errors(denoiser, x, valid, levels=config.validation_levels)
        forecast, persistence = forecast_errors(denoiser, x, valid)
        description = config.description.model_dump()
        return {
            "unit": ", ".join(variable.unit for variable in config.codec.variables),
            "shape": tuple(x.shape[-2:]),
            "held_out_psnr": {k: round(20 * math.log10(2 / e), 2) for k, e in errors.items()},
            "trajectory": TrajectoryCard(
                frames=config.frames,
                step_s=manifest.step_s,
                spacing=manifest.spacings,
                spacing_unit=manifest.spacing_unit,
                periodic=manifest.periodic,
                extent=description.pop("extent"),
                reanalysis=config.reanalysis,
                spectrum=self._spectrum(),
                forecast={"prior": round(forecast, 4), "persistence": round(persistence, 4)},
            ),
            **description,
        }

    def _spectrum(self) -> Spectrum | None:
        """Return the spectrum of training windows, None where the network has modes of its own."""
        config = self.config
        if config.network.modes:
            return None
        windows = spread_windows(self.data, HELD_OUT_WINDOWS, frames=config.frames, size=config.size)
        return measured_spectrum(
            encode(windows, config.codec)[0], lags=config.frames, periodic=self.data.manifest.periodic
        )

    def save_page(self, prior: Prior, path: Path) -> None:
        """See `TrainingTask`."""
        samples = draw_trajectories(
            prior, Multistep(steps=PAGE_STEPS), count=PAGE_WINDOWS, seed=self.config.seed
        )
        x, valid = self._held_out_windows(PAGE_WINDOWS)
        real = torch.where(valid, prior.fields.decode(x), torch.nan)
        save_trajectory_page(samples, real, path)

    def save_preview(self, denoiser: NetworkDenoiser, path: Path | None, *, levels: int) -> None:
        """See `TrainingTask`."""
        codec, (x, valid) = self.config.codec, self._held_out_windows(PAGE_WINDOWS)
        fields = drawn(denoiser, Multistep(steps=levels), tuple(x.shape), seed=self.config.seed)
        if path is not None:
            real = torch.where(valid, codec.decode(x), torch.nan)
            save_trajectory_page(codec.clip(codec.decode(fields.float())), real, path)
