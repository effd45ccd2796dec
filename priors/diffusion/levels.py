r"""Noise levels per frame: the rows inference walks down, and the levels training draws.

A trajectory of f frames has one diffusion time per frame, t_k in [0, 1], 0 clean. Row m of the staircase for
``steps`` noise levels and a lag of L frames gives frame k

    t_k(m) = clip(steps + o_k - m, 0, steps) / steps,    o_k = floor(k steps / (L + 1))

so frame k starts o_k rows after frame 0, and when it ends exactly L later frames are in flight. An infinite
lag has all o_k = 0: every frame descends together. The first row is 1 everywhere, the last one 0.

Sources: independent levels, Diffusion Forcing, Chen et al. 2024 (arXiv 2407.01392); staircase rows among the
training levels, ForcingDAS (arXiv 2605.14285).
"""

import torch
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from priors.diffusion.schedule import Schedule


def staircase(steps: int, lag: int | None, frames: int) -> Float[Tensor, "rows f"]:
    """Return the levels of every row, float64; ``lag`` None is infinite.

    Args:
        steps: number of noise levels between 1 and 0.
        lag: later frames in flight when a frame ends.
        frames: length of the trajectory.
    """
    k = torch.arange(frames, dtype=torch.int64)
    offset = torch.zeros_like(k) if lag is None else k * steps // (lag + 1)
    rows = torch.arange(steps + int(offset[-1]) + 1)
    return (steps + offset - rows[:, None]).clamp(0, steps).double() / steps


class NoiseSpacing(BaseModel):
    """Noise levels of an inference, spaced evenly in s^(1/rho), s = sigma / alpha.

        s(level) = (s_0^(1/rho) + level (s_1^(1/rho) - s_0^(1/rho)))^rho,    level in [0, 1]

    s_0 and s_1 are ``lowest`` and ``highest`` where the prior's noise schedule reaches them, else its own ends.
    Uniform steps in diffusion time would spend too few of them where the spread of a posterior is decided.

    Source: Karras et al. 2022 (arXiv 2206.00364, Eq. 5).

    Attributes:
        lowest: noise level of the last step, in units of the network's data.
        highest: noise level a frame starts from.
        rho: how much denser low levels are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    lowest: float = Field(0.002, gt=0, allow_inf_nan=False)
    highest: float = Field(80.0, gt=0, allow_inf_nan=False)
    rho: float = Field(7.0, ge=1, allow_inf_nan=False)

    @model_validator(mode="after")
    def _ends_are_ordered(self) -> "NoiseSpacing":
        if not self.lowest < self.highest:
            raise ValueError(f"lowest ({self.lowest:g}) must be below highest ({self.highest:g})")
        return self

    def __call__(self, levels: Float[Tensor, "..."], schedule: Schedule) -> Float[Tensor, "..."]:
        """Return s of levels in [0, 1], float64, within what the schedule can represent."""
        ends = schedule.ratio(torch.tensor([0.0, 1.0], dtype=torch.float64))
        # A hair above time 0, which stands for finished frames.
        low, high = max(self.lowest, float(ends[0]) * (1 + 1e-6)), min(self.highest, float(ends[1]))
        root_low, root_high = low ** (1 / self.rho), high ** (1 / self.rho)
        root: Tensor = root_low + levels.double() * (root_high - root_low)
        return root**self.rho


class TrajectoryLevels(BaseModel):
    """Levels of a training batch.

    Attributes:
        independent_share: share of samples whose frames draw their level independently and uniformly; the
            others get a random row of a staircase.
        context_share: share of the staircase samples that begin with a random number of clean frames.
        steps: noise levels of the staircase.
        lags: its lags, chosen uniformly; null is infinite.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    independent_share: float = Field(0.75, ge=0, le=1)
    context_share: float = Field(0.75, ge=0, le=1)
    steps: int = Field(50, ge=1)
    lags: tuple[int | None, ...] = Field((0, 1, 3, None), min_length=1)

    def __call__(
        self, count: int, frames: int, *, generator: torch.Generator
    ) -> tuple[Float[Tensor, "b f"], Bool[Tensor, "b f"]]:
        """Return times (float64) and which frames are clean context: given without noise, without a loss."""
        t = torch.rand(count, frames, generator=generator, dtype=torch.float64)
        for sample in range(count):
            if float(torch.rand((), generator=generator, dtype=torch.float64)) >= self.independent_share:
                t[sample] = self._row(frames, generator)
        return t, t == 0

    def _row(self, frames: int, generator: torch.Generator) -> Float[Tensor, "f"]:
        """Return a random row, not the last, below a random number of clean frames."""
        with_context = float(torch.rand((), generator=generator, dtype=torch.float64)) < self.context_share
        context = _integer(frames, generator) if with_context else 0
        rows = staircase(self.steps, self.lags[_integer(len(self.lags), generator)], frames - context)
        row = rows[_integer(len(rows) - 1, generator)]
        return torch.cat([torch.zeros(context, dtype=torch.float64), row])


def _integer(bound: int, generator: torch.Generator) -> int:
    """Return a uniform integer in [0, bound)."""
    return int(torch.randint(bound, (), generator=generator))
