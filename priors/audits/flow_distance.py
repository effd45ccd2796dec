r"""PFD, the distance of two priors by where their probability flows carry the same noise (arXiv 2505.20123).

    PFD = ( E || Phi_p(x_T) - Phi_q(x_T) ||^2 )^(1/2),      x_T ~ N(0, T^2 I)

Phi is the flow from noise to data, integrated by Heun. Two priors that learned the same distribution from different
patients agree; two that memorised theirs do not. For a Gaussian N(m, C) the flow is affine,
Phi(x) = m + C^(1/2) (C + T^2)^(-1/2) (x - m).
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from priors.diffusion.denoiser import Denoiser
from priors.diffusion.samplers.sampler import Heun, SamplerState, clean_estimate
from priors.runtime.system.seeds import generator_of

STEPS = 40
NOISES = 64


@torch.no_grad()
def flow(
    denoiser: Denoiser,
    noise: Float[Tensor, "n *shape"],
    *,
    start: float,
    steps: int = STEPS,
    on_step: Callable[[], None] = lambda: None,
) -> Float[Tensor, "n *shape"]:
    """Return where the probability flow of a prior carries noise of level ``start``, network units."""
    low = float(denoiser.schedule.ratio(torch.zeros(1, dtype=torch.float64))[0])
    # Karras' spacing: steps shrink towards the clean end, where the flow bends.
    ramp = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    levels = (start ** (1 / 7) + ramp * (low ** (1 / 7) - start ** (1 / 7))) ** 7
    levels[0], levels[-1] = start, low
    heun, generator = Heun(steps=steps), torch.Generator().manual_seed(0)
    state = SamplerState(noise, float(levels[0]))
    for level in levels[1:].tolist():
        state = heun.step(state, level, denoiser=denoiser, generator=generator)
        on_step()
    return clean_estimate(denoiser, state.u, state.level)


def distance(
    first: Denoiser,
    second: Denoiser,
    shape: tuple[int, ...],
    *,
    count: int = NOISES,
    seed: int = 0,
    steps: int = STEPS,
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Return the PFD, that per value, and the deviation of what the first prior draws, for comparison.

    Args:
        first: a prior.
        second: another one of the same network units.
        shape: of a sample with its channel.
        count: noises.
        seed: of the noises.
        steps: of Heun's method.
        on_step: called after every step of either flow.
    """
    ends = [
        float(denoiser.schedule.ratio(torch.ones(1, dtype=torch.float64))[0]) for denoiser in (first, second)
    ]
    start = min(ends)
    generator = generator_of(seed)
    noise = start * torch.randn((count, *shape), generator=generator)
    a, b = (flow(each, noise, start=start, steps=steps, on_step=on_step) for each in (first, second))
    squared = float((a - b).double().flatten(1).square().sum(1).mean())
    values = math.prod(shape)
    return {
        "pfd": math.sqrt(squared),
        "pfd_per_value": math.sqrt(squared / values),
        "deviation": float(a.double().std()),
        "noises": float(count),
    }
