"""Runs that go on: with the configuration they began with, or prolonged."""

from pathlib import Path
from typing import Any

import torch

from priors.runtime.config import read_yaml, validate
from priors.runtime.errors import InputError
from priors.training.configuration.config import Training
from priors.training.engine.trainer import first_difference
from priors.training.loop import CHECKPOINT


def resumed_config(config: Training, out: Path, *, extend: int | None = None) -> Training:
    """Return the configuration with which the run in ``out`` goes on.

    Args:
        config: what was given now. A run that was prolonged keeps its length though the files know the first one.
        out: run folder.
        extend: steps to add.

    Raises:
        InputError: there is no run to prolong, or a setting that decides the result differs from the begun run's.
    """
    path = out / "config.yaml"
    if not path.is_file():
        if extend is not None:
            raise InputError(f"{out}: holds no run (no config.yaml), expected one to extend")
        return config
    begun = _with_places(validate(type(config), read_yaml(path), source=str(path)), config)
    if _is_earlier(config, begun):
        config = config.model_copy(update={"optimisation": begun.optimisation})
    difference = first_difference(begun.model_dump(mode="json"), config, done=0)
    if difference is not None:
        key, old, new = difference
        raise InputError(
            f"{path}: {key} was {old!r} when the run began, found {new!r}; resume with the same configuration or "
            "start another run"
        )
    if extend is None:
        return config
    longer = config.optimisation.longer(extend, done=_steps_done(out / CHECKPOINT))
    return config.model_copy(update={"optimisation": longer})


def _with_places(begun: Training, config: Training) -> Training:
    """Return what a run began with, at today's paths: a record names files without their folders."""
    paths = {
        key: now
        for key in ("data", "initial")
        if (now := getattr(config, key)) is not None
        and (then := getattr(begun, key)) is not None
        and Path(then).name == Path(now).name
    }
    return begun.model_copy(update=paths)


def _is_earlier(config: Training, begun: Training) -> bool:
    """Tell whether a run was prolonged since the files that are given now were written."""
    given, now = config.optimisation, begun.optimisation
    same = given.model_copy(update={"steps": now.steps, "extended": now.extended}) == now
    return same and not given.extended and given.steps < now.steps


def _steps_done(checkpoint: Path) -> int:
    """Return the steps of a checkpoint, of which only the little that is asked for is read."""
    if not checkpoint.is_file():
        raise InputError(f"{checkpoint}: not found, expected the checkpoint of a run to extend")
    try:
        state: dict[str, Any] = torch.load(checkpoint, weights_only=True, map_location="cpu", mmap=True)
        return int(state["step"])
    except Exception as error:
        raise InputError(f"{checkpoint}: not a training checkpoint ({type(error).__name__})") from error
