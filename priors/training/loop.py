"""The training loop: plain torch, resumable to the bit, atomic checkpoints.

Step n draws its batch and its noise from generators seeded by (seed, n), so the state of a run is exactly
network, average, optimiser and step; a run that was killed continues as if it had not been.

    checkpoint.pt    the state of the run, to resume from
    best.pt          the averaged weights with the best held-out error so far
    training.jsonl   one row per validation: step, loss, held-out figures
"""

import errno
import json
import math
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from priors.diffusion.denoiser import NetworkDenoiser, resolved_device
from priors.runtime.errors import InputError
from priors.runtime.files import atomic
from priors.training.config import TrainConfig, Training, TrajectoryConfig
from priors.training.ema import EMA
from priors.training.rate import learning_rate
from priors.training.task import TrainingTask

Report = Callable[[int, int, dict[str, float]], None]


def open_subject(config: Training) -> TrainingTask:
    """Return the data of a run.

    Raises:
        InputError: it cannot be read or does not fit the configuration.
    """
    if isinstance(config, TrajectoryConfig):
        from priors.training.trajectories.task import Trajectories

        return Trajectories(config)
    if isinstance(config, TrainConfig):
        from priors.training.slices.task import Slices

        return Slices(config)
    raise TypeError(f"no subject for {type(config).__name__}")


@dataclass
class Trainer:
    """One run in progress: everything that changes from step to step.

    ``useful`` tells that the network is a prior before the first step; training then has to do better than that.
    """

    config: Training
    denoiser: NetworkDenoiser
    average: EMA
    optimiser: torch.optim.AdamW
    step: int = 0
    best: float = -math.inf
    useful: bool = False

    @classmethod
    def start(cls, config: Training, subject: TrainingTask) -> "Trainer":
        """Build the network from the configuration's seed, or from another prior, and the data."""
        torch.manual_seed(config.seed)
        network = config.network.build()
        if config.initial is not None:
            from priors.card import load_prior

            network.load_state_dict(load_prior(config.initial).network.state_dict())
        fitted = config.initial is None and subject.fit(network)
        network = network.to(resolved_device(config.device))
        settings = config.optimisation
        return cls(
            config,
            NetworkDenoiser(network, schedule=config.schedule, parametrisation=config.parametrisation),
            EMA(network, decay=settings.ema),
            torch.optim.AdamW(network.parameters(), weight_decay=settings.weight_decay, fused=True),
            useful=fitted or config.initial is not None,
        )

    @property
    def averaged(self) -> NetworkDenoiser:
        """The denoiser with averaged weights, what is validated and exported."""
        config = self.config
        return NetworkDenoiser(
            self.average.module, schedule=config.schedule, parametrisation=config.parametrisation
        )

    def advance(self, subject: TrainingTask) -> float:
        """Do one optimisation step and return its loss.

        Raises:
            InputError: the loss is NaN or infinite.
        """
        settings = self.config.optimisation
        loss = subject.loss(self.denoiser, self.step)
        if not math.isfinite(float(loss.detach())):
            raise InputError(
                f"training: the loss is {float(loss.detach())} at step {self.step}; "
                "lower optimisation.learning_rate, or check codec and data"
            )
        self.optimiser.param_groups[0]["lr"] = learning_rate(self.step, settings)
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.denoiser.parameters(), settings.clip)
        self.optimiser.step()
        self.average.update(self.denoiser.network, self.step)
        self.step += 1
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
        return {
            "network": self.denoiser.network.state_dict(),
            "average": self.average.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "best": self.best,
            "config": self.config.model_dump_json(),
        }

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            InputError: the file is unreadable or belongs to another configuration.
        """
        try:
            state = torch.load(path, weights_only=True, map_location="cpu")
            same = state["config"] == self.config.model_dump_json()
        except Exception as error:
            raise InputError(f"{path}: not a training checkpoint ({type(error).__name__})") from error
        if not same:
            raise InputError(
                f"{path}: written by another configuration; choose another --out or the same one"
            )
        self.denoiser.network.load_state_dict(state["network"])
        self.average.module.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.best = state["step"], state["best"]


def train(
    config: Training, out: Path, *, resume: bool, report: Report, subject: TrainingTask | None = None
) -> NetworkDenoiser:
    """Train to the end and return the denoiser with the best held-out error.

    Writes ``checkpoint.pt``, ``best.pt`` and ``training.jsonl`` in ``out``.

    Raises:
        InputError: the data or the checkpoint cannot be used, a loss is not finite, or the disk is full.
    """
    subject = subject or open_subject(config)
    trainer = Trainer.start(config, subject)
    checkpoint, best, log = out / "checkpoint.pt", out / "best.pt", out / "training.jsonl"
    if resume and checkpoint.is_file():
        trainer.restore(checkpoint)
    _forget_after(log, trainer.step)
    if trainer.step == 0 and trainer.useful:
        figures = subject.held_out(trainer.averaged)
        _keep_best(trainer, subject.score(figures), best)
        _log(log, {"step": 0, **figures})
    total = config.optimisation.last
    losses: deque[float] = deque(maxlen=50)
    while trainer.step < total:
        losses.append(trainer.advance(subject))
        figures = {"loss": float(np.mean(losses))}
        if trainer.step % config.validate_every == 0 or trainer.step == total:
            figures |= subject.held_out(trainer.averaged)
            _keep_best(trainer, subject.score(figures), best)
            _log(log, {"step": trainer.step, **figures})
        report(trainer.step, total, figures)
        if trainer.step % config.save_every == 0 or trainer.step == total:
            with atomic(checkpoint) as temporary:
                _save(trainer.state(), temporary)
    try:
        kept = torch.load(best, weights_only=True, map_location="cpu")
        trainer.average.module.load_state_dict(kept)
    except Exception as error:
        raise InputError(f"{best}: cannot be read as this run's weights ({type(error).__name__})") from error
    return trainer.averaged


def _keep_best(trainer: Trainer, score: float, path: Path) -> None:
    if score > trainer.best:
        trainer.best = score
        with atomic(path) as temporary:
            _save(trainer.average.module.state_dict(), temporary)


def _save(state: dict[str, Any], path: Path) -> None:
    """Write with torch; what its archive writer calls a RuntimeError is a full disk."""
    try:
        torch.save(state, path)
    except RuntimeError as error:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error


def _forget_after(path: Path, step: int) -> None:
    """Drop the rows of steps that a resumed run will do again."""
    if path.is_file():
        rows = [row for row in path.read_text().splitlines() if json.loads(row)["step"] <= step]
        with atomic(path) as temporary:
            temporary.write_text("".join(row + "\n" for row in rows))


def _log(path: Path, row: Mapping[str, float | int]) -> None:
    with path.open("a") as stream:
        stream.write(json.dumps(dict(row)) + "\n")
