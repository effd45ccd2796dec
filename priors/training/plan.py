"""What a training run will need, before it starts: memory counted on a small input, time of a few real steps.

    memory  =  data + 20 bytes per weight (weights, gradients, two moments, average) + saved activations

One forward pass of a small input tells the bytes that a whole batch keeps for the backward pass.
"""

import time

import torch

from priors.runtime.memory import MemoryPlan
from priors.training.config import Training
from priors.training.loop import Trainer
from priors.training.task import Probe, TrainingTask

# Beside the saved activations the backward pass holds gradients and workspaces of about the same size.
BACKWARD_SHARE = 2.0


def memory_plan(config: Training, subject: TrainingTask) -> MemoryPlan:
    """Return the memory of a run in bytes."""
    denoiser = Trainer.start(config, subject).denoiser
    weights = sum(weight.numel() for weight in denoiser.parameters())
    probe = subject.probe()
    return MemoryPlan(
        {
            "data": subject.size_bytes(),
            "weights, gradients, moments, average": 20 * weights,
            "activations": round(BACKWARD_SHARE * probe.factor * _kept_bytes(probe, denoiser)),
        }
    )


def _kept_bytes(probe: Probe, denoiser: torch.nn.Module) -> int:
    """Return the bytes that one forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    owned = {weight.untyped_storage().data_ptr() for weight in denoiser.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = denoiser(probe.x, probe.t)
    own = sum(size for place, size in kept.items() if place not in owned)
    del output
    return own


def expected_seconds(config: Training, subject: TrainingTask) -> float:
    """Return the time of all steps, from one timed step of every batch shape on a trainer of its own.

    Validation comes on top; it is a few per cent with the default intervals.
    """
    steps = config.optimisation.last
    return steps * sum(share * _seconds(config, variant) for share, variant in subject.variants())


def _seconds(config: Training, subject: TrainingTask) -> float:
    """Return the time of a second step."""
    trainer = Trainer.start(config, subject)
    trainer.advance(subject)
    begin = time.perf_counter()
    trainer.advance(subject)
    return time.perf_counter() - begin
