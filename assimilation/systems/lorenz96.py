"""The Lorenz-96 model: one atmospheric quantity around a circle of latitude.

    dx_i/dt = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + F,      indices modulo n

The quadratic terms conserve the energy sum x_i^2 / 2, so d/dt sum x_i^2 / 2 = F sum x_i - sum x_i^2. With n = 40
and F = 8 the flow is chaotic, with a leading Lyapunov exponent of about 1.7 per unit of time (Lorenz and Emanuel
1998). One unit of time stands for 5 days. Integrated with the classical fourth-order Runge-Kutta scheme.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from assimilation.fields.fields import Grid, Variable
from assimilation.systems.base import Draws, System, normal
from assimilation.systems.linear_gaussian import ring

UNIT_S = 5 * 86400.0
"""Seconds in a unit of model time."""


class Lorenz96(System):
    """The model; deterministic once started.

    Attributes:
        size: points around the circle.
        forcing: F.
        frame: model time between two frames; 0.05 is 6 hours.
        time_step: longest step of the integration.
    """

    name: Literal["lorenz96"] = "lorenz96"
    size: int = Field(40, ge=4)
    forcing: float = 8.0
    frame: PositiveFloat = 0.05
    time_step: PositiveFloat = 0.05

    @property
    def variables(self) -> tuple[Variable, ...]:
        """One value per point."""
        return (Variable("state", "1"),)

    @property
    def grid(self) -> Grid:
        """One row of points."""
        return ring(self.size)

    @property
    def frame_s(self) -> float:
        """Seconds from one frame to the next."""
        return self.frame * UNIT_S

    @property
    def spin_up(self) -> int:
        """Frames until the start is forgotten: 20 units of time."""
        return math.ceil(20 / self.frame)

    def start(
        self, count: int, draws: Draws, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "b k y x"]:
        """Return the steady state x = F, disturbed."""
        return self.forcing + normal(draws, count, (1, 1, self.size), dtype=dtype)

    def step(self, state: Float[Tensor, "b k y x"], draws: Draws) -> Float[Tensor, "b k y x"]:
        """Return the state one frame later; ``draws`` are not used."""
        substeps = max(1, math.ceil(self.frame / self.time_step - 1e-9))
        dt = self.frame / substeps
        for _ in range(substeps):
            k1 = self.slope(state)
            k2 = self.slope(state + dt / 2 * k1)
            k3 = self.slope(state + dt / 2 * k2)
            k4 = self.slope(state + dt * k3)
            state = state + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return state

    def slope(self, x: Float[Tensor, "*b x"]) -> Float[Tensor, "*b x"]:
        """Return dx/dt."""
        ahead, behind, second = (torch.roll(x, shift, dims=-1) for shift in (-1, 1, 2))
        rate: Tensor = (ahead - second) * behind - x + self.forcing
        return rate
