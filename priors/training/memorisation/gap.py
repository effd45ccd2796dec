r"""The held-out gap: how much worse a prior denoises patients it has not seen. It opens before samples become copies.

    g_s = ln( rmse on held-out slices / rmse on training slices )        at noise levels s = 0.1, 0.3, 1

Patients differ: the deviation of ln rmse between patients is about 0.1, so a gap below twice that says nothing.
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from priors.diffusion.denoiser import Denoiser
from priors.diffusion.samplers.sampler import clean_estimate
from priors.runtime.system.seeds import generator_of

LEVELS = (0.1, 0.3, 1.0)
SUSPECT = 0.2
TINY = 1e-6
"""Error in network units that counts as none: a denoiser that only copies has none on its training slices."""


@torch.no_grad()
def denoising_rmse(denoiser: Denoiser, x: Float[Tensor, "n 1 y x"], level: float, *, seed: int = 0) -> float:
    """Return the root mean square error of denoising, network units."""
    generator = generator_of(seed)
    squared = 0.0
    for part in x.split(1):
        noise = torch.randn(part.shape, generator=generator)
        estimate = clean_estimate(denoiser, part + level * noise.to(part), level)
        squared += float((estimate - part).double().square().mean())
    return math.sqrt(squared / len(x))


def gap(
    denoiser: Denoiser, train: Float[Tensor, "n 1 y x"], held_out: Float[Tensor, "m 1 y x"]
) -> dict[str, float]:
    """Return g_s by level, with the two errors."""
    figures: dict[str, float] = {}
    for level in LEVELS:
        seen, new = (denoising_rmse(denoiser, x, level) for x in (train, held_out))
        ratio = (new + TINY) / (seen + TINY)
        figures |= {f"gap_{level:g}": math.log(ratio), f"train_{level:g}": seen, f"held_{level:g}": new}
    return figures


def overfits(figures: Mapping[str, float]) -> bool:
    """Tell whether the gap is larger than patients explain at more than one level (at the one, where one is known)."""
    gaps = [value for name, value in figures.items() if name.startswith("gap_")]
    return bool(gaps) and sum(value > SUSPECT for value in gaps) >= min(2, len(gaps))
