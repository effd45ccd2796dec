"""One run in progress: everything that changes from step to step, in one process or several."""

import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from priors.diffusion.denoiser import NetworkDenoiser, resolved_device
from priors.runtime.config import validate
from priors.runtime.errors import InputError
from priors.runtime.run_folder.privacy import public
from priors.runtime.system import processes
from priors.runtime.system.seeds import mixed
from priors.training.configuration.config import Training
from priors.training.engine.average import WeightAverage
from priors.training.engine.draws import part_of
from priors.training.engine.parallel import LossOfSamples, sharded, sum_of_all, wrapped
from priors.training.engine.precision import checkpoint_blocks, resolved_precision
from priors.training.engine.prefetch import Prefetch
from priors.training.engine.rate import learning_rate
from priors.training.engine.state import full_moments, full_state, load_full, load_moments
from priors.training.initial import freeze, start_from
from priors.training.task import Batch, TrainingTask

# What may differ between a checkpoint and the run that goes on from it: none of it decides the next step.
FREE = ("device", "save_every", "keep", "parallel", "preview", "precision.checkpoint", "stop", "memorisation")


@dataclass
class Trainer:
    """One run in progress.

    ``useful`` tells that the network is a prior before the first step; training then has to do better than that.
    ``memorises`` tells that the last validation found it to copy its training data.
    """

    config: Training
    subject: TrainingTask
    denoiser: NetworkDenoiser
    average: WeightAverage
    optimiser: torch.optim.AdamW
    module: nn.Module
    precision: str
    step: int = 0
    best: float = -math.inf
    stale: int = 0
    useful: bool = False
    memorises: bool = False
    ranks: int = 1
    kept: tuple[WeightAverage, ...] = ()
    batches: Prefetch[list[Batch]] | None = None

    @classmethod
    def start(cls, config: Training, subject: TrainingTask, *, alone: bool = False) -> "Trainer":
        """Build the network from the configuration's seed, or from another prior, and the data.

        Args:
            config: the run.
            subject: its data.
            alone: train in this process only, whatever others there are; for the plan.

        Raises:
            InputError: the device, the precision or the weights to start from cannot be used.
        """
        torch.manual_seed(mixed(config.seed))
        network = config.network.build()
        if config.initial is not None:
            start_from(network, config.initial)
        fitted = config.initial is None and subject.fit(network)
        device = resolved_device(config.device)
        precision = resolved_precision(config.precision, device)
        network = network.to(device, torch.float64 if precision == "float64" else torch.float32)
        average = WeightAverage(network, decay=config.optimisation.ema, settings=config.average)
        kept = _kept_averages(network, config)
        freeze(network, config.train_only)
        many = processes.count() > 1 and not alone
        if config.precision.checkpoint == "blocks":
            checkpoint_blocks(network)
        if many and config.parallel.mode == "fsdp":
            network, average.module = sharded(network), sharded(average.module)
            for each in kept:
                each.module = sharded(each.module)
        denoiser = _denoiser(network, config, precision)
        module: nn.Module = LossOfSamples(denoiser, subject)
        if many:
            module = wrapped(module, mode=config.parallel.mode)  # type: ignore[arg-type]
        sums = any(isinstance(weight, DTensor) for weight in network.parameters())
        optimiser = torch.optim.AdamW(
            [weight for weight in network.parameters() if weight.requires_grad],
            weight_decay=config.optimisation.weight_decay,
            fused=not sums,
        )
        trainer = cls(
            config,
            subject,
            denoiser,
            average,
            optimiser,
            module,
            precision,
            useful=fitted or config.initial is not None,
            ranks=processes.count() if many else 1,
            kept=kept,
        )
        if device.type != "cpu":
            # While an accelerator works, threads draw the batches of the next steps.
            trainer.batches = Prefetch(trainer._batches)
        return trainer

    @property
    def averaged(self) -> NetworkDenoiser:
        """The denoiser with averaged weights, what is validated and exported."""
        return _denoiser(self.average.module, self.config, self.precision)

    def _batches(self, step: int) -> list[Batch]:
        """Return this process's samples of a step, in the parts that go through the network one by one."""
        count, micro = self.subject.batch_size(step), self.config.parallel.accumulate
        shares = micro * self.ranks
        if count < shares:
            raise InputError(
                f"batch: found {count} samples in a step, expected {shares} at least: one for each of "
                f"{self.ranks} processes times parallel.accumulate ({micro})"
            )
        first = processes.rank() * micro if self.ranks > 1 else 0
        dtype = torch.float64 if self.precision == "float64" else torch.float32
        return [self.subject.batch(step, part_of(count, first + k, shares)).to(dtype) for k in range(micro)]

    def advance(self) -> float:
        """Do one optimisation step and return its loss, the mean over the values of all processes.

        Raises:
            InputError: the loss is NaN or infinite.
        """
        settings = self.config.optimisation
        batches = self._batches(self.step) if self.batches is None else self.batches(self.step)
        # Sums are scaled by a number known beforehand, so that gradients have their usual size on the way.
        nominal = max(1, self.subject.batch_size(self.step) * batches[0].x[0].numel())
        self.optimiser.zero_grad()
        total = 0.0
        for index, batch in enumerate(batches):
            with self._without_sync(last=index == len(batches) - 1):
                loss = self.module(batch) / nominal
                torch.autograd.backward(loss)
            total += float(loss.detach())
        values = float(sum(batch.values for batch in batches))
        if self.ranks > 1:
            total, values = sum_of_all([total, values], self.denoiser.device)
        mean = total * nominal / max(1.0, values)
        if not math.isfinite(mean):
            raise InputError(
                f"training: the loss is {mean} at step {self.step}; "
                "lower optimisation.learning_rate, or check codec and data"
            )
        # Gradients are means over the processes of sums, and each sum was divided by the nominal number.
        self._apply(self.ranks * nominal / max(1.0, values), settings.clip)
        self.step += 1
        return mean

    def _apply(self, scale: float, clip: float) -> None:
        """Change the weights by gradients that still want to be multiplied by ``scale``."""
        gradients = [w.grad for w in self.denoiser.network.parameters() if w.grad is not None]
        torch._foreach_mul_([_local(gradient) for gradient in gradients], scale)
        torch.nn.utils.clip_grad_norm_(self.denoiser.network.parameters(), clip)
        self.optimiser.param_groups[0]["lr"] = learning_rate(self.step, self.config.optimisation)
        self.optimiser.step()
        for average in (self.average, *self.kept):
            average.update(self.denoiser.network, self.step)

    def _without_sync(self, *, last: bool) -> AbstractContextManager[None]:
        wait = getattr(self.module, "no_sync", None)
        return nullcontext() if last or wait is None else wait()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds; every process has to ask."""
        network = self.denoiser.network
        return {
            "network": full_state(network),
            "average": full_state(self.average.module),
            "kept": [full_state(each.module) for each in self.kept],
            "optimiser": full_moments(self.optimiser, network),
            "step": self.step,
            "best": self.best,
            "stale": self.stale,
            "memorises": self.memorises,
            "config": json.dumps(public(self.config)),
        }

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            InputError: the file is unreadable or belongs to another configuration.
        """
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            begun, done = json.loads(state["config"]), int(state["step"])
        except Exception as error:
            raise InputError(f"{path}: not a training checkpoint ({type(error).__name__})") from error
        # A state names files without their folders, which may be others by now; the fingerprint knows what they hold.
        for key in ("data", "initial"):
            then, now = begun.get(key), getattr(self.config, key)
            if then is not None and now is not None and Path(then).name == Path(now).name:
                begun[key] = str(now)
        difference = first_difference(begun, self.config, done=done)
        if difference is not None:
            raise InputError(
                f"{path}: written by another configuration ({difference[0]} differs); choose another --out or "
                "the same one"
            )
        try:
            load_full(self.denoiser.network, state["network"])
            load_full(self.average.module, state["average"])
            for each, value in zip(self.kept, state.get("kept", []), strict=True):
                load_full(each.module, value)
            load_moments(self.optimiser, self.denoiser.network, state["optimiser"])
            self.step, self.best, self.stale = done, float(state["best"]), int(state.get("stale", 0))
            self.memorises = bool(state.get("memorises", False))
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise InputError(f"{path}: not a training checkpoint ({type(error).__name__})") from error


def first_difference(begun: Mapping[str, Any], now: Training, *, done: int) -> tuple[str, Any, Any] | None:
    """Return the first key that decides the result and differs, with its value then and now; else None.

    Args:
        begun: the configuration it began with, as plain data; sections added since then have their defaults.
        now: the one it shall go on with. Steps may have been added where those before stay what they were.
        done: steps that are done.

    Raises:
        InputError: ``begun`` is no configuration of this kind.
    """
    earlier = validate(type(now), begun, source="the configuration this run began with")
    before, after = (flat(each.model_dump(mode="json")) for each in (earlier, now))
    for key in sorted(before.keys() | after.keys()):
        free = key in FREE or key.partition(".")[0] in FREE
        longer = key in ("optimisation.steps", "optimisation.extended") and now.optimisation.prolongs(
            earlier.optimisation, done=done
        )
        if not free and not longer and before.get(key) != after.get(key):
            return key, before.get(key), after.get(key)
    return None


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return ``{a.b.c: value}``."""
    if not isinstance(tree, Mapping):
        return {prefix: tree}
    return {
        key: value
        for name, sub in tree.items()
        for key, value in flat(sub, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def _kept_averages(network: nn.Module, config: Training) -> tuple[WeightAverage, ...]:
    """Return the averages of which snapshots are kept."""
    settings = config.average
    if settings.snapshot_every is None:
        return ()
    return tuple(
        WeightAverage(
            network,
            decay=config.optimisation.ema,
            settings=settings.model_copy(update={"kind": "power", "length": length}),
        )
        for length in settings.lengths
    )


def _denoiser(network: nn.Module, config: Training, precision: str) -> NetworkDenoiser:
    return NetworkDenoiser(
        network,
        schedule=config.schedule,
        parametrisation=config.parametrisation,
        conditioning=config.conditioning,
        reduced=precision == "bfloat16",
    )


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
