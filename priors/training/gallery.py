"""A page of unconditional samples beside real slices, for the eye."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priors.card import Prior
from priors.runtime.files import atomic
from priors.sampler import Sampler


def draw_samples(
    prior: Prior,
    sampler: Sampler,
    *,
    count: int,
    seed: int,
    size: tuple[int, int] | None = None,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Float[Tensor, "b y x"]:
    """Return unconditional samples in physical units.

    Args:
        prior: a prior with one channel.
        sampler: how to draw.
        count: number of samples.
        seed: of all randomness.
        size: field size (y, x); the card's own by default.
        on_step: called as ``on_step(done, total)``.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = size or prior.card.shape[-2:]
    sigma = float(prior.card.schedule(torch.ones(1, dtype=torch.float64))[1])
    with torch.no_grad():
        noise = sigma * torch.randn(count, 1, height, width, generator=generator)
        fields = sampler.sample(prior.denoiser, noise, generator=generator, on_step=on_step)
        return prior.codec.decode(fields)[:, 0]


def save_page(
    samples: Float[Tensor, "b y x"],
    real: Float[np.ndarray, "n rows columns"] | None,
    path: Path,
    *,
    window: tuple[float, float],
) -> None:
    """Write a PNG: samples in the upper rows, real slices (if any) below, all in one window."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = 6
    rows = [("sample", samples.numpy())] + ([] if real is None else [("real", real)])
    heights = [-(-len(fields) // columns) for _, fields in rows]
    figure, axes = pyplot.subplots(
        sum(heights), columns, figsize=(2 * columns, 2.1 * sum(heights)), squeeze=False, layout="tight"
    )
    for axis in axes.flat:
        axis.axis("off")
    top = 0
    for (name, fields), height in zip(rows, heights, strict=True):
        for axis, field in zip(axes[top : top + height].flat, fields, strict=False):
            axis.imshow(field, cmap="gray", vmin=window[0], vmax=window[1])
            axis.set_title(name, fontsize=7)
        top += height
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    pyplot.close(figure)
