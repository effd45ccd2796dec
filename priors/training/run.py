"""Training and sampling as jobs: a run folder, progress, and files at the end.

A training run leaves ``card.yaml`` and ``model.safetensors`` in its folder, so the folder is a prior.
"""

from pathlib import Path

import numpy as np
import torch

from priors.card import load_prior
from priors.runtime.errors import InputError, Interrupted
from priors.runtime.files import atomic
from priors.runtime.progress import Progress
from priors.runtime.record import check_same_config, open_run
from priors.sampler import Multistep
from priors.training.config import TrainConfig
from priors.training.export import export_prior
from priors.training.gallery import draw_samples, save_page
from priors.training.loop import train


def run(config: TrainConfig, out: Path, *, command: str, resume: bool, overwrite: bool) -> None:
    """Train, export, verify.

    Raises:
        InputError: the data, the folder or a checkpoint cannot be used.
        Interrupted: with the way to continue.
    """
    folder = open_run(out, resume=resume, overwrite=overwrite)
    check_same_config(folder, config)
    folder.write_inputs({"manifest": config.data / "manifest.yaml"}, command=command, seed=config.seed)
    folder.write_config(config)
    try:
        with Progress(config.optimisation.steps, "train", every_s=30.0) as progress:
            denoiser = train(
                config,
                folder.path,
                resume=resume,
                report=lambda step, _, figures: progress.step(done=step, **figures),
            )
    except KeyboardInterrupt:
        raise Interrupted(f"continue with the same command and --resume (run folder {out})") from None
    card = export_prior(denoiser, config, folder.path, command=command)
    load_prior(folder.path)
    folder.write_json("metrics.json", {"held_out_psnr": card.held_out_psnr})
    print(f"prior {out} ({card.name}, sha256 {card.sha256[:12]})")


def draw(
    name: str,
    out: Path,
    *,
    count: int,
    steps: int,
    size: int | None,
    seed: int,
    page: Path | None,
    beside: Path | None,
) -> None:
    """Write samples in physical units, (sample, y, x), and a page to look at.

    Raises:
        InputError: unknown prior, or ``beside`` is no array of slices.
    """
    if out.suffix != ".npy":
        raise InputError(f"{out}: expected a name that ends in .npy")
    prior = load_prior(name)
    square = None if size is None else (size, size)
    samples = draw_samples(prior, Multistep(steps=steps), count=count, seed=seed, size=square)
    with atomic(out) as temporary, temporary.open("wb") as stream:
        np.save(stream, samples.numpy())
    if page is not None:
        save_page(samples, _real(beside, samples), page, window=(prior.codec.low, prior.codec.high))
    print(f"{out}: {count} samples of {samples.shape[1]} x {samples.shape[2]} in {prior.card.unit}")


def _real(path: Path | None, samples: torch.Tensor) -> np.ndarray:
    """Return as many real slices as there are samples, evenly spread; none without a file."""
    if path is None:
        return np.empty((0, *samples.shape[1:]), np.float32)
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a NumPy array") from error
    if array.ndim != 3:
        raise InputError(f"{path}: found shape {array.shape}, expected slices (slice, y, x)")
    chosen = np.linspace(0, len(array) - 1, len(samples)).round().astype(int)
    return np.asarray(array[chosen], dtype=np.float32)
