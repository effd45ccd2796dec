"""Kolmogorov flow: turbulence driven by a steady shear, as velocity.

    du/dt + (u . grad) u = -grad p + nu laplacian(u) - drag u + sin(n y) e_x,      div u = 0,   on (0, 2 pi)^2

with n = 4, nu = 1 / Re = 1e-3 and drag = 0.1: the test flow of Rozet and Louppe, "Score-based data assimilation"
(NeurIPS 2023). It is integrated as vorticity, whose forcing is -n cos(n y); the state holds (u, v), from which
the vorticity is taken at every step, so a velocity that is not divergence-free loses its gradient part.
"""

import math
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from assimilation.fields.fields import Grid, Variable
from assimilation.systems.base import Draws, System, normal
from assimilation.systems.navier_stokes import periodic_square
from assimilation.systems.spectral import LENGTH, Spectral, spectral


class Kolmogorov(System):
    """The flow; deterministic once started.

    Attributes:
        size: grid points along each axis.
        viscosity: nu = 1 / Re.
        drag: linear drag.
        wavenumber: n of the forcing.
        frame: model time between two frames; one unit of model time is one second.
        time_step: longest step of the integration.
    """

    name: Literal["kolmogorov"] = "kolmogorov"
    size: int = Field(64, ge=32, multiple_of=2)
    viscosity: PositiveFloat = 1e-3
    drag: PositiveFloat = 0.1
    wavenumber: int = Field(4, ge=1, le=10)
    frame: PositiveFloat = 0.2
    time_step: PositiveFloat = 0.0125

    @property
    def variables(self) -> tuple[Variable, ...]:
        """Velocity along x and y."""
        return (
            Variable("u", "m s-1"),
            Variable("v", "m s-1"),
        )

    @property
    def grid(self) -> Grid:
        """The periodic square."""
        return periodic_square(self.size)

    @property
    def spin_up(self) -> int:
        """Frames until the start is forgotten: 30 units of time."""
        return math.ceil(30 / self.frame)

    def start(
        self, count: int, draws: Draws, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "b k y x"]:
        """Return smooth random velocities without divergence, of deviation 1."""
        flow = self._flow(dtype)
        noise = flow.coefficients(normal(draws, count, (self.size, self.size), dtype=dtype))
        velocity = flow.velocity(noise * torch.exp(-flow.squared / 20))
        return velocity / velocity.std(dim=(-3, -2, -1), keepdim=True)

    def step(self, state: Float[Tensor, "b k y x"], draws: Draws) -> Float[Tensor, "b k y x"]:
        """Return the velocity one frame later; ``draws`` are not used."""
        flow = self._flow(state.dtype)
        y = LENGTH * torch.arange(self.size, dtype=torch.float64) / self.size
        curl = (-self.wavenumber * torch.cos(self.wavenumber * y))[:, None].expand(self.size, self.size)
        source = flow.coefficients(curl.to(state.dtype))
        w = flow.vorticity(state)
        for _ in range(max(1, math.ceil(self.frame / self.time_step - 1e-9))):
            w = flow.step(w, source)
        return flow.velocity(w)

    def _flow(self, dtype: torch.dtype) -> Spectral:
        dt = self.frame / max(1, math.ceil(self.frame / self.time_step - 1e-9))
        return spectral(self.size, dt, viscosity=self.viscosity, drag=self.drag, dtype=dtype)
