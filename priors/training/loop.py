"""The training loop: plain torch, resumable to the bit, atomic checkpoints, in one process or several.

Sample i of step n draws its field and its noise from generators seeded by (seed, n, i), so the state of a run is
exactly network, average, optimiser and step; a run that was killed continues as if it had not been, and processes that
share the samples of a step do the work of one.

    checkpoint.pt            the state of the run, to resume from
    checkpoint-STEP.pt       earlier states, where `keep` asks for them
    best.pt                  the averaged weights with the best held-out error so far
    training.jsonl           one row per validation: step, loss, held-out figures
    previews/STEP.png        samples, where `preview` asks for them
"""

import json
import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from priors.diffusion.denoiser import NetworkDenoiser
from priors.runtime.errors import InputError
from priors.runtime.files.writing import atomic
from priors.runtime.system import processes
from priors.runtime.tensors import save_tensors
from priors.training.averages import SNAPSHOTS, snapshot_name
from priors.training.configuration.config import TrainConfig, Training, TrajectoryConfig
from priors.training.engine.checkpoints import keep_checkpoints
from priors.training.engine.parallel import from_first
from priors.training.engine.state import full_state
from priors.training.engine.trainer import Trainer
from priors.training.memorisation.onset import NAME as MEMORISES
from priors.training.memorisation.onset import with_verdict
from priors.training.task import TrainingTask

CHECKPOINT = "checkpoint.pt"
BEST = "best.pt"
LOG = "training.jsonl"
PREVIEWS = "previews"
RECENT = 50
"""Losses whose mean is a figure: one step's loss says little."""
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


def train(
    config: Training, out: Path, *, resume: bool, report: Report, subject: TrainingTask | None = None
) -> NetworkDenoiser:
    """Train to the end and return the denoiser with the best held-out error.

    Writes ``checkpoint.pt``, ``best.pt`` and ``training.jsonl`` in ``out``; of several processes the first one does,
    and only its denoiser is whole.

    Raises:
        InputError: the data or the checkpoint cannot be used, a loss is not finite, or the disk is full.
    """
    subject = subject or open_subject(config)
    trainer = Trainer.start(config, subject)
    checkpoint, best, log = out / CHECKPOINT, out / BEST, out / LOG
    if resume and checkpoint.is_file():
        trainer.restore(checkpoint)
        if trainer.best > -math.inf:
            # Asked now: after the last step it would be too late to keep the best weights.
            _read_best(best)
    writes = processes.rank() == 0
    if writes:
        _forget_after(log, trainer.step)
    if trainer.step == 0 and trainer.useful:
        _validate(trainer, out, loss=None)
    total = config.optimisation.last
    losses: deque[float] = deque(maxlen=RECENT)
    while trainer.step < total and not _stopped(trainer):
        losses.append(trainer.advance())
        loss = float(np.mean(losses))
        figures = {"loss": loss}
        if trainer.step % config.validate_every == 0 or trainer.step == total:
            figures |= _validate(trainer, out, loss=loss)
        _draw(trainer, out)
        _keep_averages(trainer, out)
        if writes:
            report(trainer.step, total, figures)
        if trainer.step % config.save_every == 0 or trainer.step == total or _stopped(trainer):
            _save(trainer, checkpoint)
    if not writes:
        return trainer.averaged
    # Whole again, whatever part of the weights this process held, and float32, whatever was computed in.
    network = config.network.build().to(trainer.denoiser.device)
    network.load_state_dict(_read_best(best))
    return (
        NetworkDenoiser(
            network,
            schedule=config.schedule,
            parametrisation=config.parametrisation,
            conditioning=config.conditioning,
        )
        .eval()
        .requires_grad_(False)
    )


def _validate(trainer: Trainer, out: Path, *, loss: float | None) -> dict[str, float]:
    """Measure, log, and keep the weights if they are the best; every process decides what the first one saw."""
    subject, stop = trainer.subject, trainer.config.stop
    averaged = trainer.averaged
    figures: dict[str, float] = from_first(subject.held_out(averaged))
    score = subject.score(figures)
    figures |= from_first(with_verdict(subject.memorisation(averaged, figures)))
    trainer.memorises = bool(figures.get(MEMORISES))
    trainer.stale = 0 if score > trainer.best + stop.min_gain else trainer.stale + 1
    better = score > trainer.best
    if better:
        trainer.best = score
        weights = full_state(trainer.average.module)
    if processes.rank() == 0:
        if better:
            with atomic(out / BEST) as temporary:
                save_tensors(weights, temporary)
        row = {"step": trainer.step, **({} if loss is None else {"loss": loss}), **figures}
        with (out / LOG).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
    return figures


def _stopped(trainer: Trainer) -> bool:
    """Tell whether validations have gained nothing for long enough, or a network that memorises shall stop."""
    patience = trainer.config.stop.patience
    stale = patience is not None and trainer.stale >= patience
    return stale or (trainer.memorises and trainer.config.memorisation.stop)


def _draw(trainer: Trainer, out: Path) -> None:
    """Draw a page of samples where it is time to; every process takes part in asking sharded weights."""
    preview = trainer.config.preview
    if preview.every is None or trainer.step % preview.every:
        return
    page = out / PREVIEWS / f"{trainer.step:07d}.png"
    target = page if processes.rank() == 0 else None
    trainer.subject.save_preview(trainer.averaged, target, levels=preview.levels)


def _keep_averages(trainer: Trainer, out: Path) -> None:
    """Write snapshots of averages where it is time to; every process takes part in asking sharded weights."""
    every, step = trainer.config.average.snapshot_every, trainer.step
    if every is None or (step % every and step < trainer.config.optimisation.last):
        return
    for average, length in zip(trainer.kept, trainer.config.average.lengths, strict=True):
        weights = full_state(average.module)
        if processes.rank() == 0:
            path = out / SNAPSHOTS / snapshot_name(step, length)
            path.parent.mkdir(exist_ok=True)
            short = {name: v.half() if v.is_floating_point() else v for name, v in weights.items()}
            with atomic(path) as temporary:
                save_tensors(short, temporary)


def _save(trainer: Trainer, path: Path) -> None:
    state = trainer.state()
    if processes.rank() == 0:
        with atomic(path) as temporary:
            save_tensors(state, temporary)
        keep_checkpoints(path, trainer.step, trainer.config.keep)


def _read_best(path: Path) -> dict[str, Any]:
    """Return the best weights so far.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        kept: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:
        raise InputError(
            f"{path}: cannot be read as this run's weights ({type(error).__name__}); start it again with --overwrite"
        ) from error
    return kept


def _forget_after(path: Path, step: int) -> None:
    """Drop the rows of steps that a resumed run will do again, and what a kill left of a line."""
    if path.is_file():
        rows = path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [row for row in rows if (done := _step_of(row)) is not None and done <= step]
        with atomic(path) as temporary:
            temporary.write_text("".join(row + "\n" for row in kept), encoding="utf-8")


def _step_of(row: str) -> float | None:
    try:
        return float(json.loads(row)["step"])
    except (ValueError, KeyError, TypeError):
        return None
