r"""Whether a volume looks like what a prior was trained on, from the prior's own residual, without training data.

Noise of three levels s is added to the volume x and taken off again by the denoiser f:

    d = f(x + s z) - x,     r_s = rms d,     beta_s = mean d / r_s          over the body and a margin around it
    F = (ln r_700/r_200, ln r_50/r_200, beta_700, beta_200, ln r_50)        levels in HU
    score = max_i |F_i - m_i| / max(sd_i, floor_i)

m and sd are over blocks of slices of reference patients, on the prior's card. Ratios tell textures the prior does not
expect, the bias beta a wrong HU scale, which data alone do not reveal. The floors keep few patients from making a
figure look sharper than it is. Thresholds are 3 and 4. A slice that is turned leaves the figures nearly as they were;
turning it back lowers r_200, so its turned copies are denoised too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor

from priors.card import Prior, PriorCard
from priors.card.trust import Familiarity
from priors.diffusion.samplers.sampler import LEVEL_ROUNDING, clean_estimate
from priors.runtime.system.seeds import generator_of

Slices = Float[np.ndarray, "n y x"]
LEVELS_HU = (50.0, 200.0, 700.0)
FIGURES = ("ln r700/r200", "ln r50/r200", "bias at 700 HU", "bias at 200 HU", "ln r50")
FLOORS = (0.03, 0.07, 0.035, 0.018, 0.15)
BODY_HU = -500.0
MARGIN_PIXELS = 4
MU_WATER = 0.02
"""Attenuation of water in 1/mm that places HU for a prior in 1/mm."""
FEWEST_PIXELS = 64
MOST_SLICES = 8
TURNED = 0.03
"""Share by which a turned copy must be denoised better to be taken for the right way up."""


@dataclass(frozen=True)
class Residual:
    """What a prior's residual on some slices is.

    Attributes:
        figures: the five of `FIGURES`.
        turned: r_200 of copies turned by 90, 180 and 270 degrees, relative to that of the slices.
        pixels: how many counted.
    """

    figures: tuple[float, ...]
    turned: tuple[float, float, float]
    pixels: int


def spread_slices(count: int, most: int = MOST_SLICES) -> list[int]:
    """Return indices of slices spread evenly over a volume."""
    return sorted({int(k) for k in np.linspace(0, count - 1, min(count, most)).round()})


def levels_of(card: PriorCard) -> tuple[float, ...] | None:
    """Return the three levels in network units, None where the prior does not know one of them."""
    scale = getattr(card.codec, "scale", None)
    if scale is None:
        return None
    hu = scale if card.unit == "HU" else 1000 * scale / MU_WATER
    levels = tuple(level / hu for level in LEVELS_HU)
    ends = card.schedule.ratio(torch.tensor([0.0, 1.0], dtype=torch.float64))
    low, high = float(ends[0]) * (1 - LEVEL_ROUNDING), float(ends[1]) * (1 + LEVEL_ROUNDING)
    return levels if all(low <= level <= high for level in levels) else None


def body_of(card: PriorCard, slices: Slices) -> Bool[np.ndarray, "n y x"]:
    """Return the body and a margin around it, of slices in the prior's unit."""
    limit = BODY_HU if card.unit == "HU" else (1 + BODY_HU / 1000) * MU_WATER
    disc = ndimage.generate_binary_structure(2, 1)[None]
    grown: Bool[np.ndarray, "n y x"] = ndimage.binary_dilation(slices > limit, disc, iterations=MARGIN_PIXELS)
    return grown


def residual(prior: Prior, slices: Slices, *, seed: int = 0, turn: bool = True) -> Residual | None:
    """Return the residual on slices in the prior's unit, or None.

    None where they show no body, the prior lacks a level or sees several slices at a time.
    """
    levels = levels_of(prior.card)
    body = body_of(prior.card, slices)
    # Slices taken out of a volume have not the neighbours that a prior over several slices asks for.
    several = prior.card.fit.slices > 1
    if levels is None or several or body.sum() < FEWEST_PIXELS:
        return None
    codec = prior.slices
    x = codec.encode(torch.from_numpy(np.clip(slices, codec.low, codec.high).astype(np.float32)))
    inside = torch.from_numpy(body)
    found = [_at_level(prior, x, inside, level, seed + number) for number, level in enumerate(levels)]
    (r50, _), (r200, b200), (r700, b700) = found
    figures = (math.log(r700 / r200), math.log(r50 / r200), b700, b200, math.log(r50))
    ratios = (1.0, 1.0, 1.0)
    if turn and x.shape[1] == x.shape[2]:
        first, second, third = (
            _at_level(prior, torch.rot90(x, k, (1, 2)), torch.rot90(inside, k, (1, 2)), levels[1], seed + 1)[
                0
            ]
            for k in (1, 2, 3)
        )
        ratios = (first / r200, second / r200, third / r200)
    return Residual(figures, ratios, int(body.sum()))


@torch.no_grad()
def _at_level(
    prior: Prior, x: Float[Tensor, "n y x"], inside: Bool[Tensor, "n y x"], level: float, seed: int
) -> tuple[float, float]:
    """Return r and beta of one level."""
    noise = torch.randn(x.shape, generator=generator_of(seed))
    noisy = (x + level * noise)[:, None].contiguous()
    # One slice after the other: a check must not need more memory than the reconstruction.
    estimate = torch.cat([clean_estimate(prior.denoiser, part, level) for part in noisy.split(1)])[:, 0]
    difference = (estimate - x)[inside].double()
    rms = float(difference.square().mean().sqrt()) + 1e-12
    return rms, float(difference.mean()) / rms


def score(figures: Sequence[float], mean: Sequence[float], deviation: Sequence[float]) -> float:
    """Return the largest distance of a figure from the reference, in deviations."""
    return max(
        abs(value - centre) / max(width, floor)
        for value, centre, width, floor in zip(figures, mean, deviation, FLOORS, strict=True)
    )


def reference(blocks: dict[str, list[tuple[float, ...]]], *, slices: int, data: str) -> Familiarity:
    """Return the section of a card from the figures of blocks of slices, by patient.

    The score of a patient left out is the largest of its blocks against all other patients.
    """
    every = np.array([block for own in blocks.values() for block in own])
    left_out = {}
    for patient, own in blocks.items():
        others = np.array([block for name, rest in blocks.items() if name != patient for block in rest])
        if len(others) > 1:
            mean, deviation = others.mean(0).tolist(), others.std(0, ddof=1).tolist()
            left_out[patient] = round(max(score(block, mean, deviation) for block in own), 2)
    rounded = [
        tuple(round(float(value), 4) for value in row) for row in (every.mean(0), every.std(0, ddof=1))
    ]
    return Familiarity(mean=rounded[0], deviation=rounded[1], left_out=left_out, slices=slices, data=data)
