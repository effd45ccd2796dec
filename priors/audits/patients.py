"""The figures of familiarity on prepared slices, patient by patient: the section of a card."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from priors.audits.familiarity import reference, residual
from priors.card import Prior
from priors.card.trust import Familiarity
from priors.runtime.errors import InputError
from priors.training.slices.data import PreparedArrays

PLACES = (0.2, 0.4, 0.6, 0.8)
"""Where in a series blocks of neighbouring slices are taken: one body has several parts."""
FEWEST_PATIENTS = 3


def familiarity_of(
    prior: Prior, folder: Path, *, slices: int, on_step: Callable[[int, int], None]
) -> Familiarity:
    """Measure the figures on both splits of a prepared folder.

    Args:
        prior: of slices.
        folder: prepared, in the prior's unit.
        slices: neighbouring slices of a block.
        on_step: called with the blocks done and their number.

    Raises:
        InputError: another unit, fewer than three patients, or a prior that lacks a level.
    """
    series = []
    for split in ("train", "validation"):
        data = PreparedArrays.load(folder, split)  # type: ignore[arg-type]
        if data.manifest.unit != prior.card.unit:
            raise InputError(
                f"{folder}: found slices in {data.manifest.unit}, expected {prior.card.unit}, the prior's unit"
            )
        series += list(zip(data.series, data.arrays, strict=True))
    total = len(series) * len(PLACES)
    blocks: dict[str, list[tuple[float, ...]]] = {}
    for number, (described, array) in enumerate(series):
        for place, share in enumerate(PLACES):
            start = int(np.clip(share * len(array) - slices / 2, 0, max(0, len(array) - slices)))
            block = np.asarray(array[start : start + slices], np.float32)
            found = residual(prior, block, turn=False)
            if found is not None:
                blocks.setdefault(described.source, []).append(found.figures)
            on_step(number * len(PLACES) + place + 1, total)
    if len(blocks) < FEWEST_PATIENTS:
        raise InputError(
            f"{folder}: found usable slices of {len(blocks)} sources, expected at least {FEWEST_PATIENTS} patients and "
            f"a prior that knows noise of 50 to 700 HU"
        )
    return reference(blocks, slices=slices, data=f"{len(blocks)} patients, {len(PLACES)} blocks each")
