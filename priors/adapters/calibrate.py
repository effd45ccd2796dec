r"""Measuring what a checkpoint does not say: its codec, which way up its slices lie, whether mirrors and bfloat16 harm.

A denoiser is best at what it was trained on. Reference slices are encoded with every candidate codec (offset, scale),
given noise of a physical level, denoised and decoded; the root-mean-square error in physical units is smallest for the
codec of training. The margin, how much worse the runner-up is, tells how sure that is; it goes on the card. Candidates
are tried at the middle level, the best of them at all three. Nothing of this is ever guessed when a prior is used.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priors.adapters.measure import footprint
from priors.card import Prior, PriorCard, denoiser_of
from priors.card.origin import CodecCalibration
from priors.card.self_test import self_test_errors
from priors.codec import Codec
from priors.diffusion.denoiser import bfloat16_pays
from priors.diffusion.fitted import Orientation
from priors.diffusion.samplers.sampler import clean_estimate
from priors.runtime.errors import InputError

Slices = Float[Tensor, "b d y x"]
Answers = Float[Tensor, "b e y x"]
LEVELS_HU = (30.0, 100.0, 300.0)
SCALES = (0.4, 0.5, 0.64, 0.8, 1.0, 1.25, 1.56, 2.0, 2.5)
SHIFTS = (-1.0, -0.5, -0.2, 0.0, 0.2, 0.5, 1.0)
FINALISTS = 6
# A change of the answer below this share of its error is no harm; and so much worse may mirror images be denoised.
HARMLESS = 0.1
MIRRORED = 0.02
DENOISED = 0.9
"""Share of the noise that the best codec must leave less than: others cannot be told apart."""
WATER_PER_MM = 0.02


@dataclass(frozen=True)
class Findings:
    """What calibration measured.

    Attributes:
        codec: the best one.
        orientation: the best one.
        mirrored: mirror images are denoised as well as slices.
        bfloat16: the answer in bfloat16 is nearly the same; None where it was not tried.
        record: for the card.
    """

    codec: Codec
    orientation: Orientation
    mirrored: bool
    bfloat16: bool | None
    record: CodecCalibration


def calibrated(prior: Prior, slices: Slices, *, data: str, on_step: Callable[[int, int], None]) -> PriorCard:
    """Return the card of a prior with everything that was measured on reference slices, in its unit.

    Raises:
        InputError: a prior of trajectories, levels that it does not know at any scale tried, or slices that it does not
            denoise.
    """
    found = measure(prior, slices, data=data, on_step=on_step)
    fit = prior.card.fit.model_copy(update={"orientation": found.orientation})
    changes = {
        "codec": found.codec,
        "fit": fit,
        "mirrored": found.mirrored,
        "codec_calibration": found.record,
        "memory": footprint(prior) or prior.card.memory,
    }
    if found.bfloat16 is not None:
        changes["bfloat16"] = found.bfloat16
    card = prior.card.model_copy(update=changes)
    seen = self_test_errors(Prior.assembled(denoiser_of(card, prior.network), card))
    record = {level: float(f"{error:.4g}") for level, error in seen.items()}
    return card.model_copy(update={"self_test": record})


def measure(prior: Prior, slices: Slices, *, data: str, on_step: Callable[[int, int], None]) -> Findings:
    """Measure codec, orientation, mirror symmetry and bfloat16.

    Raises:
        InputError: see `calibrated`.
    """
    codec, unit = prior.slices, prior.card.unit
    levels = [level if unit == "HU" else level / 1000 * WATER_PER_MM for level in LEVELS_HU]
    orientations = get_args(Orientation)
    total = len(SCALES) * len(SHIFTS) + FINALISTS + len(orientations) + 2
    counter = iter(range(1, total + 1))

    def error(candidate: Codec, at: Sequence[float], orientation: Orientation | None = None) -> float:
        on_step(next(counter), total)
        return denoising_error(prior, candidate, slices, at, orientation=orientation)

    by_way = {way: error(codec, levels[1:2], way) for way in orientations}
    best_way = min(orientations, key=by_way.__getitem__)
    # Mirror images are as good to a prior that saw both: the card stands unless another way is clearly better.
    stated = prior.card.fit.orientation
    if by_way[stated] <= (1 + MIRRORED) * by_way[best_way]:
        best_way = stated
    ranked = sorted(candidates(codec), key=lambda each: error(each, levels[1:2], best_way))
    finalists = sorted(
        ((error(each, levels, best_way), each) for each in ranked[:FINALISTS]), key=lambda pair: pair[0]
    )
    (best, chosen), (second, _) = finalists[:2]
    if not np.isfinite(best):
        low, high = _ends(prior)
        raise InputError(
            f"prior {prior.card.name!r}: knows levels from {low:.3g} to {high:.3g} in network units, which at every "
            f"scale tried leaves out {min(levels):.3g} to {max(levels):.3g} {unit}; expected another scale"
        )
    oriented = _oriented(prior, best_way)
    own = denoising_error(oriented, chosen, slices, levels[1:2])
    if not own < DENOISED * levels[1]:
        raise InputError(
            f"prior {prior.card.name!r}: leaves an error of {own:.4g} {unit} where the noise was {levels[1]:.4g}, "
            f"expected below {DENOISED * levels[1]:.4g}: a network that does not denoise these slices tells no codec "
            "(another unit, another subject, or the wrong schedule); the card is left as it was"
        )
    mirror = denoising_error(oriented, chosen, slices.flip(-1), levels[1:2]) / own - 1
    on_step(next(counter), total)
    reduced = _reduced_change(oriented, chosen, slices, levels[1])
    on_step(total, total)
    share = None if reduced is None else reduced / own
    record = CodecCalibration(
        slices=len(slices),
        data=data,
        level=levels[1],
        error=_rounded(own),
        runner_up=_rounded(own * second / best),
        margin=_rounded(second / best - 1),
        mirror=_rounded(mirror),
        bfloat16=None if share is None else _rounded(share),
    )
    return Findings(chosen, best_way, mirror < MIRRORED, None if share is None else share < HARMLESS, record)


def candidates(codec: Codec) -> Iterator[Codec]:
    """Yield codecs around one: other scales, and offsets shifted by parts of the scale."""
    for factor, shift in product(SCALES, SHIFTS):
        yield codec.model_copy(
            update={"offset": codec.offset + shift * codec.scale, "scale": factor * codec.scale}
        )


@torch.no_grad()
def denoising_error(
    prior: Prior,
    codec: Codec,
    slices: Slices,
    levels: Sequence[float],
    *,
    orientation: Orientation | None = None,
) -> float:
    """Return the root-mean-square error, physical units, as a geometric mean over levels; infinite off the schedule."""
    asked = prior if orientation is None else _oriented(prior, orientation)
    errors = []
    low, high = _ends(prior)
    for level in levels:
        if not low <= level / codec.scale <= high:
            return float("inf")
        wanted = codec.encode(_answered(prior, slices))
        difference = codec.scale * (_answer(asked, codec, slices, level) - wanted)
        errors.append(float(difference.square().mean().sqrt()))
    return float(np.exp(np.mean(np.log(errors))))


def _answered(prior: Prior, slices: Slices) -> Answers:
    """Return of every window the slices that the prior answers: the middle one of neighbours, else all."""
    middle = slices.shape[1] // 2
    return slices[:, middle : middle + 1] if prior.card.fit.channels == "neighbours" else slices


def _answer(prior: Prior, codec: Codec, slices: Slices, level: float) -> Answers:
    """Return the denoised slices in network units, the same noise at every call."""
    noise = torch.randn(slices.shape, generator=torch.Generator().manual_seed(0))
    noisy = codec.encode(slices) + level / codec.scale * noise
    return torch.cat([clean_estimate(prior.denoiser, part, level / codec.scale) for part in noisy.split(1)])


@torch.no_grad()
def _reduced_change(prior: Prior, codec: Codec, slices: Slices, level: float) -> float | None:
    """Return how much bfloat16 changes the answer, physical units; None where the machine has none."""
    if not bfloat16_pays(next(prior.denoiser.parameters()).device):
        return None
    answers = []
    for reduced in (False, True):
        card = prior.card.model_copy(update={"bfloat16": reduced})
        asked = Prior.assembled(denoiser_of(card, prior.network), card)
        answers.append(_answer(asked, codec, slices, level))
    return float(codec.scale * (answers[0] - answers[1]).square().mean().sqrt())


def _oriented(prior: Prior, orientation: Orientation) -> Prior:
    fit = prior.card.fit.model_copy(update={"orientation": orientation})
    card = prior.card.model_copy(update={"fit": fit})
    return Prior.assembled(denoiser_of(card, prior.network), card)


def _ends(prior: Prior) -> tuple[float, float]:
    ends = prior.denoiser.schedule.ratio(torch.tensor([0.0, 1.0], dtype=torch.float64))
    return float(ends[0]), float(ends[1])


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def reference_slices(path: Path, count: int, prior: Prior) -> Slices:
    """Return evenly spread slices of an array file (n, y, x), float32, each with the neighbours that a prior takes.

    Raises:
        InputError: it is no such array, or holds values that are not finite.
    """
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a NumPy array of slices") from error
    if not isinstance(array, np.ndarray) or array.ndim != 3 or array.dtype.kind not in "iuf":
        raise InputError(
            f"{path}: found {getattr(array, 'shape', 'an archive')}, expected slices (slice, y, x)"
        )
    held = prior.denoiser.slabs(len(array)).held.numpy()
    chosen = held[np.linspace(0, len(held) - 1, min(count, len(held))).round().astype(int)]
    slices = torch.from_numpy(np.stack([np.asarray(array[window], np.float32) for window in chosen]))
    if not bool(torch.isfinite(slices).all()):
        raise InputError(f"{path}: holds NaN or infinite values, expected finite ones")
    return slices
