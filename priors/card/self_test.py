"""The self-test of a prior: it denoises a field everyone knows.

A wrong schedule, parametrisation or value range shows there, before it spoils a reconstruction. The card may record how
well its maker saw the field denoised; then loading must see the same again. Native priors must also be clearly better
than the noise. An imported prior that is not is loaded with a warning: people also look at checkpoints of networks that
are not trained yet.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from priors.codec import Codec
from priors.diffusion.denoiser import Denoiser
from priors.diffusion.fitted import FittedDenoiser
from priors.runtime.errors import InputError, warn

if TYPE_CHECKING:
    from priors.card import Prior, PriorCard

SELF_TEST_LEVELS = (0.1, 0.3, 1.0, 3.0)
# Largest error of the self-test relative to the noise: any trained denoiser stays far below it.
SELF_TEST_SHARE = 0.7
# Largest change from the card's record, as a factor. Rounding to bfloat16 or another machine moves it by
# about 1 %.
SELF_TEST_CHANGE = 1.2
DISC_PIXELS = 64
WATER_PER_MM = 0.02
WRONG = "schedule, parametrisation or value range (codec) are wrong, or training was too short"


def _disc(card: "PriorCard", size: int) -> Float[Tensor, "1 1 y x"]:
    """Return a disc at the codec's offset, of an imported prior a disc of water, on the lowest value, network units."""
    assert isinstance(card.codec, Codec)
    codec = card.codec
    axis = torch.linspace(-1, 1, size)
    inside = axis[:, None] ** 2 + axis[None, :] ** 2 < 0.5
    if card.source is None:
        return codec.encode(torch.where(inside, codec.offset, codec.low))[None, None]
    water, air = (0.0, -1000.0) if card.unit == "HU" else (WATER_PER_MM, 0.0)
    clipped = torch.where(inside, water, air).clamp(codec.low, codec.high)
    return codec.encode(clipped)[None, None]


def _hills(card: "PriorCard", frames: int) -> Float[Tensor, "1 f k y x"]:
    """Return a still trajectory of two smooth hills, zero to one in network units, periodic over the field."""
    height, width = card.shape[-2:]
    y = torch.cos(torch.arange(height) * (2 * math.pi / height))
    x = torch.cos(torch.arange(width) * (2 * math.pi / width))
    hills = (0.5 + 0.25 * (y[:, None] + x)) ** 2
    return hills.expand(1, frames, card.network.field_channels, height, width)


def _field(prior: "Prior") -> tuple[Tensor, Denoiser]:
    """Return the field and who denoises it: a network that wants one size is asked in a smaller one, which is quick."""
    card, denoiser = prior.card, prior.denoiser
    if not isinstance(prior.codec, Codec):
        longest = getattr(denoiser, "longest", None)
        return _hills(card, min(6, longest or 6)), denoiser
    if not isinstance(denoiser, FittedDenoiser):
        return _disc(card, DISC_PIXELS), denoiser
    size = -(-DISC_PIXELS // card.fit.stride) * card.fit.stride
    small = card.fit.model_copy(update={"size": None})
    # Of several slices every one shows the disc.
    return _disc(card, size).expand(-1, card.fit.slices, -1, -1), FittedDenoiser(
        denoiser.inner, small, air=denoiser.air
    ).eval()


@torch.no_grad()
def denoised_errors(
    denoiser: Denoiser, clean: Float[Tensor, "..."], levels: Iterable[float]
) -> dict[float, float]:
    """Return the root-mean-square error of a field denoised at each level, network units.

    Levels beyond the schedule's range are left out.
    """
    schedule, errors = denoiser.schedule, {}
    generator = torch.Generator().manual_seed(0)
    device = next(denoiser.parameters()).device
    for level in levels:
        noise = torch.randn(clean.shape, generator=generator)
        t = schedule.inverse(torch.tensor([level], dtype=torch.float64))
        if not math.isclose(float(schedule.ratio(t)), level, rel_tol=1e-6):
            continue
        alpha, sigma = (float(scale) for scale in schedule(t))
        estimate = denoiser((alpha * clean + sigma * noise).to(device), t.to(device)).cpu()
        errors[level] = float((estimate - clean).square().mean().sqrt())
    return errors


def self_test_errors(prior: "Prior", levels: Iterable[float] = SELF_TEST_LEVELS) -> dict[float, float]:
    """Return the root-mean-square error of a denoised disc in network units, by noise level.

    A prior of trajectories denoises a still trajectory of smooth hills. Levels beyond the schedule's range are
    left out.
    """
    clean, denoiser = _field(prior)
    return denoised_errors(denoiser, clean, levels)


def self_test(prior: "Prior", folder: Path) -> None:
    """Denoise a known field at four noise levels.

    Raises:
        InputError: at some level the error is not the one the card records, or a native prior's estimate is not
            clearly closer to the field than the noisy state.
    """
    warned = False
    for level, error in self_test_errors(prior).items():
        recorded = prior.card.self_test.get(level, error)
        if not error < SELF_TEST_SHARE * level:
            told = (
                f"at noise level {level:g} the denoised field is off by {error:.2g} (network units), expected below "
                f"{SELF_TEST_SHARE * level:.2g}"
            )
            if prior.card.source is None:
                raise InputError(f"{folder}: fails its self-test: {told}; {WRONG}")
            if not warned:
                warned = True
                warn(f"{folder}: denoises its test field no better than leaving the noise: {told}; {WRONG}")
        if not recorded / SELF_TEST_CHANGE < error < recorded * SELF_TEST_CHANGE:
            raise InputError(
                f"{folder}: fails its self-test: at noise level {level:g} the denoised field is off by "
                f"{error:.3g} (network units), its card recorded {recorded:.3g}; {WRONG}"
            )
