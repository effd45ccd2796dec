"""One audit of a prior: gap and copying against prepared data, features, and the distance to another prior."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priors.audits.features import activations, icr, kurtosis
from priors.audits.flow_distance import distance
from priors.audits.rows import Step, row
from priors.audits.trajectories import audit_trajectories
from priors.card import Prior
from priors.card.trust import AuditRow
from priors.diffusion.samplers.sampler import Multistep
from priors.runtime.errors import InputError
from priors.training.memorisation.copying import copies, copying, series_thumbnails, thumbnails
from priors.training.memorisation.gap import LEVELS, gap, overfits
from priors.training.slices.data import PreparedArrays
from priors.training.slices.gallery import draw_samples

VIEWS = 6


@dataclass(frozen=True)
class Extent:
    """How much is computed.

    Attributes:
        samples: of the prior, compared with its training slices.
        steps: noise levels of a sample.
        slices: of each split that are denoised.
        noises: of the flow distance.
        flow_steps: of its integration.
        size: pixels of a sample; None takes the card's.
        seed: of every draw.
    """

    samples: int = 64
    steps: int = 24
    slices: int = 16
    noises: int = 64
    flow_steps: int = 40
    size: int | None = None
    seed: int = 0


def audit_data(prior: Prior, folder: Path, extent: Extent, on_step: Step) -> list[AuditRow]:
    """Return gap and copying on a prepared folder, of slices also spikiness and ICR.

    Raises:
        InputError: the folder is not in the prior's unit or holds other variables, or has one training series.
    """
    if prior.card.trajectory is not None:
        return audit_trajectories(prior, folder, extent, on_step)
    splits = {
        split: PreparedArrays.load(folder, split)  # type: ignore[arg-type]
        for split in ("train", "validation")
    }
    unit = splits["train"].manifest.unit
    if unit != prior.card.unit:
        raise InputError(f"{folder}: found slices in {unit}, expected {prior.card.unit}, the prior's unit")
    train, held = (_slices(prior, data, extent.slices) for data in splits.values())
    data = f"{folder.name}: {len(splits['train'].series)} training series, {len(splits['validation'].series)} held out"
    on_step("gap")
    figures = gap(prior.denoiser, train, held)
    rows = [row("gap", figures, "suspect" if overfits(figures) else "ok", data)]
    on_step("features")
    rows += _features(prior, train, held, extent, data)
    on_step("copying")
    rows.append(_copying(prior, splits["train"], extent, data))
    return rows


def audit_against(prior: Prior, other: Prior, extent: Extent, on_step: Step = lambda _: None) -> AuditRow:
    """Return the flow distance of two priors in the same units.

    Raises:
        InputError: their codecs differ.
    """
    if prior.codec != other.codec:
        raise InputError(
            f"audit: priors {prior.card.name!r} and {other.card.name!r} have other codecs, expected the same units"
        )
    on_step("flow distance")
    trajectory = prior.card.trajectory
    if trajectory is None:
        size = extent.size or prior.card.shape[-1]
        shape: tuple[int, ...] = (1, size, size)
    else:
        shape = (trajectory.frames, *_sample_shape(prior, extent))
    found = distance(
        prior.denoiser,
        other.denoiser,
        shape,
        count=extent.noises,
        steps=extent.flow_steps,
        seed=extent.seed,
    )
    return row("pfd", found, "informative", f"against {other.card.name}")


def _copying(prior: Prior, train: PreparedArrays, extent: Extent, data: str) -> AuditRow:
    series = series_thumbnails(prior.slices, train, mirrored=prior.card.mirrored)
    if len(series) < 2:
        raise InputError(
            "copying: found one training series, expected at least two: the null compares patients"
        )
    size = None if extent.size is None else (extent.size, extent.size)
    drawn = draw_samples(
        prior, Multistep(steps=extent.steps), count=extent.samples, seed=extent.seed, size=size
    )
    codec = prior.slices
    figures = copying(thumbnails(codec.encode(drawn.clamp(codec.low, codec.high))), series)
    return row("copying", figures, "suspect" if copies(figures) else "ok", data)


def _sample_shape(prior: Prior, extent: Extent) -> tuple[int, int, int]:
    """Return variables, rows and columns of one frame."""
    rows, columns = (extent.size, extent.size) if extent.size else prior.card.shape[-2:]
    return len(prior.fields.variables), rows, columns


def _features(
    prior: Prior, train: Float[Tensor, "n 1 y x"], held: Float[Tensor, "m 1 y x"], extent: Extent, data: str
) -> list[AuditRow]:
    level = LEVELS[-1]
    seen, new = (activations(prior, x, level, views=VIEWS, seed=extent.seed) for x in (train, held))
    if seen is None or new is None:
        return []
    ratios = {"train": icr(seen), "held": icr(new)}
    spiky = {"kurtosis_train": kurtosis(seen), "kurtosis_held": kurtosis(new), "deviation": float(seen.std())}
    return [
        row("icr", {**ratios, "ratio": ratios["train"] / ratios["held"]}, "informative", data),
        row("spikiness", spiky, "informative", data),
    ]


def _slices(prior: Prior, data: PreparedArrays, count: int) -> Float[Tensor, "n 1 y x"]:
    """Return slices spread over all series in turn, network units, cut to the size they share."""
    codec = prior.slices
    per = max(1, round(count / len(data.arrays)))
    sides = [min(array.shape[k] for array in data.arrays) for k in (1, 2)]
    chosen = []
    for array in data.arrays:
        # Not the ends of a series, where there is little of a body.
        for share in np.linspace(0.15, 0.85, per):
            field = np.asarray(array[int(share * (len(array) - 1))], np.float32)
            top, left = ((n - side) // 2 for n, side in zip(field.shape, sides, strict=True))
            chosen.append(torch.from_numpy(field[top : top + sides[0], left : left + sides[1]]))
    return codec.encode(torch.stack(chosen).clamp(codec.low, codec.high))[:, None]
