"""What a training run will need, before it starts: memory counted on a small field, time of a few real steps.

    memory  =  data + 20 bytes per weight (weights, gradients, two moments, average) + saved activations

A convolutional network saves activations in proportion to batch and pixels, so one forward pass of one small
field tells the bytes per pixel.
"""

import time

import torch

from priors.runtime.memory import MemoryPlan
from priors.training.config import TrainConfig
from priors.training.data import Crop, PreparedArrays
from priors.training.loop import Trainer

PROBE_PIXELS = 64
# Beside the saved activations the backward pass holds gradients and workspaces of about the same size.
BACKWARD_SHARE = 2.0


def memory_plan(config: TrainConfig, data: PreparedArrays) -> MemoryPlan:
    """Return the memory of a run in bytes."""
    denoiser = Trainer.start(config).denoiser
    weights = sum(weight.numel() for weight in denoiser.parameters())
    largest = max(crop.batch * crop.size**2 for crop in (*config.crops, *config.final_crops))
    return MemoryPlan(
        {
            "data": sum(array.nbytes for array in data.arrays),
            "weights, gradients, moments, average": 20 * weights,
            "activations": round(BACKWARD_SHARE * largest * _bytes_per_pixel(config, denoiser)),
        }
    )


def _bytes_per_pixel(config: TrainConfig, denoiser: torch.nn.Module) -> float:
    """Return the bytes that one forward pass keeps for the backward pass, per pixel of the field."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    field = torch.zeros(1, config.network.field_channels, PROBE_PIXELS, PROBE_PIXELS)
    owned = {weight.untyped_storage().data_ptr() for weight in denoiser.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = denoiser(field, torch.tensor([0.5], dtype=torch.float64))
    own = sum(size for place, size in kept.items() if place not in owned)
    del output
    return own / PROBE_PIXELS**2


def expected_seconds(config: TrainConfig, data: PreparedArrays) -> float:
    """Return the time of all steps, from one timed step of every batch shape on a trainer of its own.

    Validation comes on top; it is a few per cent with the default intervals.
    """
    total = config.optimisation.steps
    early = total - _late_steps(config)
    seconds = _seconds(config, data, config.crops) * early
    if _late_steps(config):
        seconds += _seconds(config, data, config.final_crops) * _late_steps(config)
    return seconds


def _late_steps(config: TrainConfig) -> int:
    return round(config.final_share * config.optimisation.steps) if config.final_crops else 0


def _seconds(config: TrainConfig, data: PreparedArrays, crops: tuple[Crop, ...]) -> float:
    """Return the mean time of a step over batch shapes, weighted by their shares."""
    weighted = 0.0
    for crop in crops:
        one_shape = config.model_copy(update={"crops": (crop,), "final_crops": ()})
        trainer = Trainer.start(one_shape)
        trainer.advance(data)
        begin = time.perf_counter()
        trainer.advance(data)
        weighted += crop.share * (time.perf_counter() - begin)
    return weighted / sum(crop.share for crop in crops)
