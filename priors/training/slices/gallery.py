"""A page of unconditional samples beside real slices, for the eye."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priors.card import Prior
from priors.diffusion.denoiser import Denoiser, NetworkDenoiser
from priors.diffusion.samplers.sampler import Sampler
from priors.diffusion.slabs import neighbours
from priors.runtime.files.writing import atomic
from priors.runtime.system.seeds import generator_of
from priors.training.engine.precision import weight_dtype

PAGE_SAMPLES = 6
PAGE_STEPS = 40
PAGE_FRAMES = 6


class Stack(Denoiser):
    """Slices of one volume, each seen by a prior of neighbours together with those beside it.

    Args:
        inner: the prior's denoiser.
        slices: it sees at once.
    """

    def __init__(self, inner: Denoiser, slices: int) -> None:
        super().__init__()
        self.inner, self.slices, self.schedule = inner, slices, inner.schedule

    @classmethod
    def of(cls, inner: Denoiser, slices: int) -> Denoiser:
        """Return the denoiser of a stack, or the very one of single slices."""
        return cls(inner, slices) if slices > 1 else inner

    def forward(self, x_t: Float[Tensor, "z 1 y x"], t: Float[Tensor, "z"]) -> Float[Tensor, "z 1 y x"]:
        """See `Denoiser`; the batch is the volume."""
        answer: Tensor = self.inner(x_t[neighbours(len(x_t), self.slices).held, 0], t)
        middle = answer.shape[1] // 2
        return answer[:, middle : middle + 1]


def sees_neighbours(denoiser: Denoiser) -> bool:
    """Tell whether a network takes neighbouring slices and answers the middle one."""
    return isinstance(denoiser, NetworkDenoiser) and getattr(denoiser.network, "neighbours", 1) > 1


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
        count: number of samples; of a prior of neighbours, slices of one sampled volume.
        seed: of all randomness.
        size: field size (y, x); the card's own by default.
        on_step: called as ``on_step(done, total)``.
    """
    height, width = size or prior.card.shape[-2:]
    fit = prior.card.fit
    stacked = Stack.of(prior.denoiser, fit.slices if fit.channels == "neighbours" else 1)
    fields = drawn(stacked, sampler, (count, 1, height, width), seed=seed, on_step=on_step)
    return prior.slices.decode(fields)[:, 0]


@torch.no_grad()
def drawn(
    denoiser: Denoiser,
    sampler: Sampler,
    shape: tuple[int, ...],
    *,
    seed: int,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Float[Tensor, "b ..."]:
    """Return unconditional samples of ``shape`` in network units, in the precision of the network."""
    generator = generator_of(seed)
    sigma = float(denoiser.schedule(torch.ones(1, dtype=torch.float64))[1])
    noise = sigma * torch.randn(shape, generator=generator).to(weight_dtype(denoiser))
    return sampler.sample(denoiser, noise, generator=generator, on_step=on_step)


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


def draw_trajectories(
    prior: Prior,
    sampler: Sampler,
    *,
    count: int,
    seed: int,
    size: tuple[int, int] | None = None,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Float[Tensor, "b f k y x"]:
    """Return unconditional trajectories of one training window in physical units.

    Args:
        prior: a prior of trajectories.
        sampler: how to draw; all frames share their noise level.
        count: number of trajectories.
        seed: of all randomness.
        size: field size (y, x); the card's own by default.
        on_step: called as ``on_step(done, total)``.
    """
    card, codec = prior.card, prior.fields
    frames = 1 if card.trajectory is None else card.trajectory.frames
    shape = (count, frames, len(codec.variables), *(size or card.shape[-2:]))
    fields = drawn(prior.denoiser, sampler, shape, seed=seed, on_step=on_step)
    return codec.clip(codec.decode(fields))


def save_trajectory_page(
    samples: Float[Tensor, "b f k y x"], real: Float[Tensor, "n f k y x"] | None, path: Path
) -> None:
    """Write a PNG: a row of frames per sampled trajectory, then per real one; the first variable."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    groups = [("sample", samples[:, :, 0])] + ([] if real is None else [("real", real[:, :, 0])])
    shown = groups[-1][1]
    low, high = (float(torch.nanquantile(shown.flatten()[:1_000_000], q)) for q in (0.002, 0.998))
    frames = np.linspace(0, samples.shape[1] - 1, min(PAGE_FRAMES, samples.shape[1])).round().astype(int)
    rows = [
        (f"{name}, frame {k}", fields[n, k])
        for name, fields in groups
        for n in range(len(fields))
        for k in frames
    ]
    columns = len(frames)
    height = 2.1 * samples.shape[-2] / samples.shape[-1] + 0.2
    figure, axes = pyplot.subplots(
        len(rows) // columns,
        columns,
        figsize=(2 * columns, height * len(rows) / columns),
        squeeze=False,
        layout="tight",
    )
    for axis, (name, frame) in zip(axes.flat, rows, strict=True):
        axis.axis("off")
        axis.imshow(
            frame.numpy(), origin="lower", cmap="RdBu_r" if low < 0 else "viridis", vmin=low, vmax=high
        )
        axis.set_title(name, fontsize=7)
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    pyplot.close(figure)
