"""Random numbers of a run: a function of seed, step and sample, whatever process asks and in whatever order.

Sample i of step n has its own generators, i counted in the whole batch: one process, two processes and two
micro-batches see the same fields and the same noise. The streams begin with different words: NumPy fills short seeds
with zeros, so that (seed, step) alone would be (seed, step, 0).
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Stream = Literal["step", "sample", "noise", "label"]
_WORDS: dict[Stream, int] = {"step": 1, "sample": 2, "noise": 3, "label": 4}


def draws(stream: Stream, *, seed: int, step: int, sample: int = 0) -> np.random.Generator:
    """Return the generator of a stream; that of ``step`` is shared by all samples."""
    return np.random.default_rng([_WORDS[stream], seed, step, sample])


def torch_draws(*, seed: int, step: int, purpose: int = 1) -> torch.Generator:
    """Return a torch generator that all samples of a step share: purpose 1 for levels, 2 for jumps."""
    return torch.Generator().manual_seed(
        int(draws("step", seed=seed, step=step, sample=purpose).integers(2**62))
    )


def noise(shape: tuple[int, ...], *, seed: int, step: int, samples: range) -> Float[Tensor, "b ..."]:
    """Return standard normal noise of ``shape`` for every sample, float32."""
    fields = [
        draws("noise", seed=seed, step=step, sample=i).standard_normal(shape, dtype=np.float32)
        for i in samples
    ]
    return torch.from_numpy(np.stack(fields))


def part_of(count: int, part: int, parts: int) -> range:
    """Return which of ``count`` samples are the ``part``-th of ``parts`` parts: neighbours, sizes within one."""
    return range(count * part // parts, count * (part + 1) // parts)
