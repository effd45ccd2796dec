"""The audits of a prior of trajectories: its gap in skill between days, and whether its frames are those of training.

The gap is that of `priors.training.trajectories.watch`. For copying, the middle frame of every sampled window is
compared with training frames at every place where it fits; the null compares crops of one event with the frames of all
others. An event is a file of the prepared folder, or each of its trajectories where it holds several (simulations).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from priors.audits.rows import Step, row
from priors.card import Prior
from priors.card.trust import AuditRow
from priors.diffusion.denoiser import NetworkDenoiser
from priors.diffusion.samplers.sampler import Multistep
from priors.runtime.errors import InputError
from priors.training.memorisation.anywhere import nearest_anywhere
from priors.training.memorisation.copying import copies, of_distances
from priors.training.memorisation.gap import LEVELS, overfits
from priors.training.slices.gallery import draw_trajectories
from priors.training.trajectories.data import PreparedTrajectories, encode, spread_windows
from priors.training.trajectories.task import window_figures
from priors.training.trajectories.watch import Watch

if TYPE_CHECKING:
    from priors.audits.audit import Extent

FRAMES = 24
"""Training frames of an event that samples are compared with ..."""
MOST_EVENTS = 32
"""... of so many events at most, spread over all."""
CROPS = 4
"""Crops of an event that the null compares with the other events."""
Frames = Float[np.ndarray, "n y x"]
Crop = Float[np.ndarray, "y x"]


def audit_trajectories(prior: Prior, folder: Path, extent: "Extent", on_step: Step) -> list[AuditRow]:
    """Return gap and copying on a prepared folder of trajectories; copying where there are two events at least.

    Raises:
        InputError: the folder holds other variables, or fields smaller than the prior's.
    """
    card, codec = prior.card, prior.fields
    assert card.trajectory is not None
    denoiser = prior.denoiser
    assert isinstance(denoiser, NetworkDenoiser)
    train, held = (PreparedTrajectories.load(folder, split) for split in ("train", "validation"))  # type: ignore[arg-type]
    frames, size = card.trajectory.frames, _size(prior, (train, held), folder)
    for data in (train, held):
        data.require(frames=frames, size=size, codec=codec)
    said = f"{folder.name}: {len(train.events)} training events, {len(held.events)} held out"
    on_step("gap")
    both = [
        encode(spread_windows(data, extent.slices, frames=frames, size=size), codec) for data in (train, held)
    ]
    figures = window_figures(denoiser, *both[1], levels=LEVELS)
    gaps = Watch(both[0], both[1], LEVELS).gaps(
        lambda x, valid, levels: window_figures(denoiser, x, valid, levels=levels),
        figures,  # type: ignore[arg-type]
    )
    rows = [row("gap", gaps, "suspect" if overfits(gaps) else "ok", said)]
    events = event_frames(prior, train)
    if len(events) > 1:
        on_step("copying")
        found = _copying(prior, events, extent)
        rows.append(row("copying", found, "suspect" if copies(found) else "ok", said))
    return rows


def event_frames(prior: Prior, data: PreparedTrajectories) -> list[Frames]:
    """Return frames of the first variable of every event, spread over it, network units, zero where missing."""
    singles = [trajectory for array in data.arrays for trajectory in array]
    chosen = sorted({int(k) for k in np.linspace(0, len(singles) - 1, MOST_EVENTS).round()})
    found = []
    for trajectory in (singles[k] for k in chosen):
        at = sorted({int(k) for k in np.linspace(0, len(trajectory) - 1, FRAMES).round()})
        values, _ = encode([np.asarray(trajectory[at])], prior.fields)
        found.append(values[0, :, 0].numpy())
    return found


def _size(prior: Prior, splits: Sequence[PreparedTrajectories], folder: Path) -> int | None:
    """Return the side of crops: that of training, None where whole fields have the prior's size."""
    wanted = tuple(prior.card.shape[-2:])
    shapes = {array.shape[-2:] for data in splits for array in data.arrays}
    if shapes == {wanted}:
        return None
    if wanted[0] != wanted[1] or any(min(shape) < wanted[0] for shape in shapes):
        raise InputError(
            f"{folder}: found fields of {sorted(shapes)}, expected {wanted} or larger, the prior's"
        )
    return int(wanted[0])


def _copying(prior: Prior, events: Sequence[Frames], extent: "Extent") -> dict[str, float]:
    drawn = draw_trajectories(prior, Multistep(steps=extent.steps), count=extent.samples, seed=extent.seed)
    middle = drawn[:, drawn.shape[1] // 2][:, None]
    samples = prior.fields.encode(middle)[:, 0, 0].float().numpy()
    height, width = samples.shape[1:]
    generator = np.random.default_rng(extent.seed)
    null = []
    for number, own in enumerate(events):
        crops = [
            _liveliest(own[k], (height, width), generator)
            for k in np.linspace(0, len(own) - 1, CROPS).astype(int)
        ]
        others = [nearest_anywhere(np.stack(crops), rest) for k, rest in enumerate(events) if k != number]
        null.append(np.min(others, axis=0))
    by_event = np.stack([nearest_anywhere(samples, own) for own in events])
    return of_distances(by_event, np.concatenate(null))


def _liveliest(
    field: Float[np.ndarray, "rows columns"], shape: tuple[int, int], generator: np.random.Generator
) -> Crop:
    """Return the most variable of a few crops: where it does not rain, everything is a copy of everything."""
    corners = [
        [int(generator.integers(n - m + 1)) for n, m in zip(field.shape, shape, strict=True)]
        for _ in range(8)
    ]
    crops = [field[top : top + shape[0], left : left + shape[1]] for top, left in corners]
    return max(crops, key=lambda crop: float(crop.var()))
