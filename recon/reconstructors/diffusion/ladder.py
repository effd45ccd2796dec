r"""Ladders of noise levels: which levels a diffusion method visits, from the first to the last.

Levels are s = sigma / alpha of u = x_t / alpha. Two ladders are in use:

    geometric       s_k = s_0 (s_n / s_0)^(k / (n - 1))
    linear-betas    t_k equispaced in the 1000 steps of DDPM, beta from 1e-4 to 0.02 (Ho et al. 2020), which is what
                    methods published for such checkpoints walk down: half of their levels lie above 1

Levels above the largest one the prior knows are left out: a network must not be given another level than the true one.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class Geometric(BaseModel):
    """Equal ratios.

    Attributes:
        levels: how many.
        start_hu: first and largest level.
        stop_hu: last one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["geometric"] = "geometric"
    levels: int = Field(20, ge=1)
    start_hu: float = Field(500.0, gt=0)
    stop_hu: float = Field(20.0, gt=0)

    def sequence(self, largest: float, hu: float) -> list[float]:
        """Return the levels in network units of ``hu`` HU, none above ``largest``, the largest a prior knows."""
        start, stop = min(self.start_hu / hu, largest), self.stop_hu / hu
        if self.levels == 1:
            return [start]
        ratio = (stop / start) ** (1 / (self.levels - 1))
        return [start * ratio**k for k in range(self.levels)]


class LinearBetas(BaseModel):
    """Equispaced steps of DDPM's linear betas.

    Attributes:
        levels: how many of the 1000 steps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["linear-betas"] = "linear-betas"
    levels: int = Field(50, ge=1, le=1000)

    def sequence(self, largest: float, hu: float) -> list[float]:
        """Return the levels, the same in network units for every prior, none above ``largest``."""
        kept = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
        steps = np.linspace(999, 0, self.levels + 1).round().astype(int)[: self.levels]
        levels = np.sqrt((1 - kept[steps]) / kept[steps])
        return [float(level) for level in levels if level <= largest] or [largest]


Ladder = Annotated[Geometric | LinearBetas, Field(discriminator="name")]
