"""Training and sampling as jobs: a plan, a run folder, progress, and files at the end.

config.yaml, inputs.json, versions.json, log.txt    how the run was made
checkpoint.pt, best.pt, training.jsonl, tensorboard/ the run itself
prior/card.yaml, prior/model.safetensors             the result, a prior like any other
metrics.json, samples.png                            its held-out figures, and a page for the eye
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from priors.card import find_prior, load_prior, read_card
from priors.diffusion.sampler import Multistep
from priors.runtime.errors import InputError, Interrupted
from priors.runtime.files import atomic
from priors.runtime.memory import MemoryPlan, available_bytes, human
from priors.runtime.progress import Progress, clock
from priors.runtime.record import RunFolder, check_same_config, open_run
from priors.training.config import Training
from priors.training.export import export_prior
from priors.training.loop import open_subject, train
from priors.training.plan import expected_seconds, memory_plan
from priors.training.slices.gallery import draw_samples, draw_trajectories, save_page, save_trajectory_page
from priors.training.task import TrainingTask
from priors.training.tensorboard_log import TensorBoardLog


def print_plan(config: Training, subject: TrainingTask | None = None) -> MemoryPlan:
    """Print the memory and, where it suffices, the time of a run; return the memory plan.

    Raises:
        InputError: the data cannot be used.
    """
    subject = subject or open_subject(config)
    plan = memory_plan(config, subject)
    print(plan.table(), file=sys.stderr)
    print(f"free now: {human(available_bytes())}", file=sys.stderr)
    if plan.total <= available_bytes():
        seconds = expected_seconds(config, subject)
        told = f"time: about {clock(seconds)} for {config.optimisation.last} steps, by a step of each shape"
        print(told, file=sys.stderr, flush=True)
    return plan


def run(config: Training, out: Path, *, command: str, resume: bool, overwrite: bool) -> None:
    """Plan, train, export, verify, draw.

    Raises:
        InputError: the data, the folder or a checkpoint cannot be used, or the memory does not suffice.
        Interrupted: with the way to continue.
    """
    folder, subject = _open(config, out, resume=resume, overwrite=overwrite)
    folder.write_inputs({"manifest": config.data / "manifest.yaml"}, command=command, seed=config.seed)
    folder.write_config(config)
    folder.log("resume" if resume else "start")
    total = config.optimisation.last
    try:
        with (
            Progress(total, "train", every_s=30.0) as progress,
            TensorBoardLog(folder.file("tensorboard")) as board,
        ):

            def report(step: int, _: int, figures: dict[str, float]) -> None:
                progress.step(done=step, **figures)
                board.write(step, figures)

            denoiser = train(config, folder.path, resume=resume, report=report, subject=subject)
        card = export_prior(denoiser, config, folder.file("prior"), command=command, subject=subject)
        made = load_prior(folder.file("prior"), device=denoiser.device.type)
        subject.save_page(made, folder.file("samples.png"))
    except KeyboardInterrupt:
        folder.log("interrupted")
        raise Interrupted(f"continue with the same command and --resume (run folder {out})") from None
    figures: dict[str, Any] = {"held_out_psnr": card.held_out_psnr, "self_test": card.self_test}
    if card.trajectory is not None:
        figures["forecast"] = card.trajectory.forecast
    folder.write_json("metrics.json", figures)
    folder.log("done")
    print(f"{folder.file('prior')}: prior {card.name}, sha256 {card.sha256[:12]}")


def _open(config: Training, out: Path, *, resume: bool, overwrite: bool) -> tuple[RunFolder, TrainingTask]:
    """Check that the run can be done before its folder is touched, then open the folder."""
    if config.initial is not None:
        if resume:
            find_prior(config.initial)
        else:
            _check_initial(config)
    subject = open_subject(config)
    if not resume:
        # A resumed run has been planned before.
        print_plan(config, subject).require()
    folder = open_run(out, resume=resume, overwrite=overwrite)
    check_same_config(folder, config)
    return folder, subject


def _check_initial(config: Training) -> None:
    """Check that the prior training starts from has the network of the configuration."""
    card = read_card(find_prior(str(config.initial)))
    if card.network != config.network:
        raise InputError(
            f"initial: prior {card.name!r} has the network {card.network!r}, expected {config.network!r}"
        )


def draw(
    name: str, out: Path, *, count: int, steps: int, size: int | None, seed: int, beside: Path | None
) -> None:
    """Write samples in physical units as an array (.npy) or as a page to look at (.png).

    Slices are (sample, y, x), trajectories (sample, frame, variable, y, x).

    Raises:
        InputError: unknown prior, another suffix, or ``beside`` is no array of slices.
    """
    if out.suffix not in (".npy", ".png"):
        raise InputError(f"{out}: found the suffix {out.suffix!r}, expected .npy (values) or .png (a page)")
    prior = load_prior(name)
    slices = prior.card.trajectory is None
    if beside is not None and not slices:
        raise InputError("--beside: shows slices, and this is a prior of trajectories")
    real = None if beside is None else _real(beside, count)
    with Progress(steps, "sample") as progress:
        samples = (draw_samples if slices else draw_trajectories)(
            prior,
            Multistep(steps=steps),
            count=count,
            seed=seed,
            size=None if size is None else (size, size),
            on_step=lambda done, total: progress.step(done=done),
        )
    if out.suffix == ".npy":
        with atomic(out) as temporary, temporary.open("wb") as stream:
            np.save(stream, samples.numpy())
    elif slices:
        save_page(samples, real, out, window=(prior.slices.low, prior.slices.high))
    else:
        save_trajectory_page(samples, None, out)
    shape = " x ".join(str(n) for n in samples.shape[1:])
    print(f"{out}: {count} samples of {shape} in {prior.card.unit}")


def _real(path: Path, count: int) -> Float[np.ndarray, "n y x"]:
    """Return ``count`` real slices of an array file, evenly spread."""
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a NumPy array") from error
    if getattr(array, "ndim", None) != 3:
        raise InputError(
            f"{path}: found {getattr(array, 'shape', 'an archive')}, expected slices (slice, y, x)"
        )
    chosen = np.linspace(0, len(array) - 1, count).round().astype(int)
    return np.asarray(array[chosen], dtype=np.float32)
