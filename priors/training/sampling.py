"""Samples of a prior, written as values or as a page to look at."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from priors.card import Prior, load_prior
from priors.diffusion.samplers.few_step import usual_sampler
from priors.diffusion.samplers.sampler import DDIM, Heun, Multistep, Sampler
from priors.diffusion.samplers.second_order import VarianceOptimised
from priors.runtime.errors import InputError
from priors.runtime.files.protect import check_output
from priors.runtime.files.writing import atomic
from priors.runtime.progress import Progress
from priors.training.slices.gallery import (
    PAGE_STEPS,
    draw_samples,
    draw_trajectories,
    save_page,
    save_trajectory_page,
)


def draw(
    name: str,
    out: Path,
    *,
    count: int,
    steps: int | None,
    size: int | None,
    seed: int,
    beside: Path | None,
    label: int | None = None,
    guidance: float = 0.0,
    sampler: str | None = None,
) -> None:
    """Write samples in physical units as an array (.npy) or as a page to look at (.png).

    Slices are (sample, y, x), trajectories (sample, frame, variable, y, x).

    Raises:
        InputError: unknown prior, another suffix, or ``beside`` is no array of slices.
    """
    check_output(out, [beside, Path(name)])
    if out.suffix not in (".npy", ".png"):
        raise InputError(f"{out}: found the suffix {out.suffix!r}, expected .npy (values) or .png (a page)")
    prior = _guided(load_prior(name, label=label), label, guidance)
    slices = prior.card.trajectory is None
    if prior.card.fit.channels == "block":
        raise InputError(
            f"sample: prior {prior.card.name!r} takes blocks of {prior.card.fit.slices} slices, and samples are single "
            "ones or neighbours; it can reconstruct and be calibrated"
        )
    if beside is not None and not slices:
        raise InputError("--beside: shows slices, and this is a prior of trajectories")
    real = None if beside is None else _real(beside, count)
    chosen = usual_sampler(prior.denoiser, PAGE_STEPS) if sampler is None else _sampler(sampler)
    chosen = chosen if steps is None else chosen.model_copy(update={"steps": steps})
    with Progress(chosen.steps, "sample") as progress:
        samples = (draw_samples if slices else draw_trajectories)(
            prior,
            chosen,
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


def _sampler(name: str) -> Sampler:
    """Return a sampler by its name, at the usual number of levels.

    Raises:
        InputError: there is none of this name.
    """
    for kind in (DDIM, Heun, Multistep, VarianceOptimised):
        if kind.model_fields["name"].default == name:
            return kind(steps=PAGE_STEPS)
    raise InputError(
        f"--sampler: found {name!r}, expected ddim, heun, multistep or variance-optimised (few-step priors jump)"
    )


def _guided(prior: Prior, label: int | None, strength: float) -> Prior:
    """Return a prior whose denoiser exaggerates its class.

    Raises:
        InputError: no label is given, or the prior cannot answer without one.
    """
    if strength == 0:
        return prior
    if label is None:
        raise InputError("--guidance: exaggerates a class, expected --label beside it")
    from priors.diffusion.guidance.classifier_free import ClassifierFree

    return Prior.assembled(ClassifierFree(prior.denoiser, label=label, strength=strength), prior.card)


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
    indices = np.linspace(0, len(array) - 1, count).round().astype(int)
    return np.asarray(array[indices], dtype=np.float32)
