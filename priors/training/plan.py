"""What a training run will need, before it starts: memory counted on a small input, time of a few real steps.

    memory  =  interpreter + data + 20 bytes per weight (weights, gradients, two moments, average) + activations
    time    =  steps + validations + the card and its page of samples

Activations are the bytes alive at the worst moment of a forward and a backward pass, counted on a small input and
scaled to the largest batch, so that blocks computed twice (`precision.checkpoint`) count as they are.
"""

import time

import psutil
import torch

from priors.runtime.system import processes
from priors.runtime.system.memory import MemoryPlan
from priors.training.configuration.config import Training
from priors.training.engine.live import LiveBytes
from priors.training.engine.precision import weight_dtype
from priors.training.engine.trainer import Trainer
from priors.training.task import Batch, Probe, TrainingTask

# Convolutions of the CPU keep reordered copies and scratch memory that no tensor shows, and the allocator holds gaps.
WORKSPACE = 1.25
BYTES_PER_WEIGHT = 20


def memory_plan(config: Training, subject: TrainingTask) -> MemoryPlan:
    """Return the memory of a run in bytes, of one process."""
    resident = psutil.Process().memory_info().rss
    trainer = Trainer.start(config.model_copy(update={"device": "cpu"}), subject, alone=True)
    weights = sum(weight.numel() for weight in trainer.denoiser.parameters())
    width = 2 if trainer.precision == "float64" else 1
    ranks = processes.count()
    snapshots = 4 * len(trainer.kept)
    kept = (BYTES_PER_WEIGHT + snapshots) * weights * width
    if config.parallel.mode == "fsdp":
        kept //= ranks
    training = subject.probe()
    validation = subject.validation_probe()
    shares = ranks * config.parallel.accumulate
    activations = max(
        training.factor / shares * _peak(trainer, training, backward=True),
        _peak(trainer, Probe(validation.x, validation.t, 1.0), backward=False),
    )
    return MemoryPlan(
        {
            "data": subject.size_bytes(),
            "weights, gradients, moments, average": kept,
            "activations": round(WORKSPACE * activations),
        },
        program=max(0, resident - subject.size_bytes()),
    )


def _peak(trainer: Trainer, probe: Probe, *, backward: bool) -> int:
    """Return the bytes alive at the worst moment of a pass over an input."""
    batch = Batch(probe.x, torch.zeros_like(probe.x), probe.t).to(weight_dtype(trainer.denoiser))
    if not backward:
        with torch.no_grad(), LiveBytes() as live:
            trainer.denoiser(batch.x, batch.t)
        return int(live.peak)
    weights = [weight for weight in trainer.denoiser.network.parameters() if weight.requires_grad]
    # Gradients are counted with the weights: here each is let go of as soon as it is whole.
    hooks = [weight.register_post_accumulate_grad_hook(_forget_gradient) for weight in weights]
    with LiveBytes() as live:
        torch.autograd.backward(trainer.module(batch))
    for hook in hooks:
        hook.remove()
    return int(live.peak)


def _forget_gradient(weight: torch.Tensor) -> None:
    weight.grad = None


def expected_seconds(config: Training, subject: TrainingTask) -> float:
    """Return the time of a run, from a timed step of every batch shape and a timed call of the validation."""
    last = config.optimisation.last
    steps = last * sum(share * _step_seconds(config, variant) for share, variant in subject.variants())
    probe = subject.validation_probe()
    validations = -(-last // config.validate_every) + (config.initial is not None)
    calls = validations * probe.factor + subject.export_calls()
    return steps + calls * _call_seconds(config, subject, probe)


def _step_seconds(config: Training, subject: TrainingTask) -> float:
    """Return the time of a second step of this process's samples."""
    trainer = Trainer.start(config, subject, alone=True)
    trainer.advance()
    begin = time.perf_counter()
    trainer.advance()
    return (time.perf_counter() - begin) / processes.count()


@torch.no_grad()
def _call_seconds(config: Training, subject: TrainingTask, probe: Probe) -> float:
    """Return the time of a second call of the network as validation makes it."""
    denoiser = Trainer.start(config, subject, alone=True).averaged
    x = probe.x.to(weight_dtype(denoiser))
    denoiser(x, probe.t)
    begin = time.perf_counter()
    denoiser(x, probe.t)
    return time.perf_counter() - begin
