r"""Samples in a few calls, by a prior that was trained to jump.

    x_r = x_t - (t - r) u(x_t, r, t),      t and r are the shares of noise of the rectified schedule

The last jump lands at r = 0, so that n jumps are n calls. At r = t the same network is a flow prior like any other;
reconstructions ask for that and nothing else.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from priors.diffusion.denoiser import Denoiser, NetworkDenoiser, broadcast_scales
from priors.diffusion.samplers.sampler import Multistep, Sampler, SamplerState, Source, clean_estimate
from priors.runtime.errors import InputError

PAGE_JUMPS = 4
"""Jumps of a sample where nobody said how many."""


class Jumps(Sampler):
    """Equal jumps in the share of noise; ``steps`` is their number."""

    name: Literal["jumps"] = "jumps"
    steps: int = PAGE_JUMPS

    def _step(
        self, state: SamplerState, s: Tensor, r: Tensor, *, denoiser: Denoiser, generator: Source
    ) -> tuple[Float[Tensor, "b ..."], Float[Tensor, "b ..."]]:
        sigma, goal = (level.reshape(-1).expand(len(state.u)) / (1 + level.reshape(-1)) for level in (s, r))
        t = denoiser.schedule.inverse(sigma / (1 - sigma))
        x_t = broadcast_scales(denoiser.schedule, state.u, t)[0] * state.u
        landed = jumped(denoiser, x_t, t, goal)
        kept = (1 - goal).reshape(-1, *(1,) * (state.u.ndim - 1)).to(landed)
        return landed / kept, clean_estimate(denoiser, state.u, state.level)

    def sample(
        self,
        denoiser: Denoiser,
        x_1: Float[Tensor, "b ..."],
        *,
        generator: Source,
        on_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> Float[Tensor, "b ..."]:
        """See `Sampler`: the end of the last jump, which is the sample itself."""
        first = float(denoiser.schedule(torch.ones(1, dtype=torch.float64))[1])
        shares = torch.linspace(first, 0, self.steps + 1, dtype=torch.float64)
        x = x_1
        for done in range(self.steps):
            t = denoiser.schedule.inverse(shares[done] / (1 - shares[done])).expand(len(x))
            x = jumped(denoiser, x, t, shares[done + 1].expand(len(x)))
            on_step(done + 1, self.steps)
        return x


def jumped(
    denoiser: Denoiser, x_t: Float[Tensor, "b ..."], t: Float[Tensor, "b"], goal: Float[Tensor, "b"]
) -> Float[Tensor, "b ..."]:
    """Return the state at the share of noise ``goal`` on the path through ``x_t``.

    Raises:
        InputError: the prior was not trained to jump.
    """
    if not can_jump(denoiser):
        raise InputError(
            "sampler jumps: this prior was not trained for it, expected one of objective few-step"
        )
    assert isinstance(denoiser, NetworkDenoiser)
    length = denoiser.schedule(t)[1] - goal
    return x_t - length.reshape(-1, *(1,) * (x_t.ndim - 1)).to(x_t) * denoiser.raw(x_t, t, jump=length)


def can_jump(denoiser: Denoiser) -> bool:
    """Tell whether a prior was trained to jump."""
    return isinstance(denoiser, NetworkDenoiser) and bool(getattr(denoiser.network, "jumps", False))


def usual_sampler(denoiser: Denoiser, levels: int) -> Sampler:
    """Return how samples of a prior are drawn: a few jumps where it can, else ``levels`` noise levels."""
    return Jumps(steps=min(levels, PAGE_JUMPS)) if can_jump(denoiser) else Multistep(steps=levels)
