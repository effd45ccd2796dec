"""Two-dimensional turbulence: vorticity stirred at random, damped by viscosity and drag.

    dw + (u . grad) w dt = (nu laplacian(w) - drag w) dt + amplitude sum_j phi_j dW_j

on (0, 2 pi)^2, phi = sin 6x, cos 7x, sin 5(x + y), cos 8(x + y), W independent Brownian motions. The advection
conserves energy and enstrophy, so at equilibrium the forcing puts in what viscosity and drag take out:

    amplitude^2 sum_j <phi_j^2> / 2 = 2 drag <w^2> / 2 + nu <|grad w|^2>

Each time step is the Runge-Kutta step of ``spectral`` followed by the exact integral of the forcing under the
linear terms, N(0, amplitude^2 (1 - e^{-2 lambda dt}) / (2 lambda)) per phi_j. The default viscosity is 2e-3: on
64 x 64 points 1e-3 leaves the enstrophy spectrum flat up to the cut-off (on 128 x 128 it falls).

Source of the system: Chen et al., "Probabilistic forecasting with stochastic interpolants and Foellmer
processes" (ICML 2024).
"""

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Complex, Float
from pydantic import Field, PositiveFloat
from torch import Tensor

from assimilation.fields.fields import Grid, Variable
from assimilation.systems.base import Draws, System, normal
from assimilation.systems.spectral import LENGTH, Spectral, spectral

PHASES: tuple[tuple[Literal["sin", "cos"], int, int], ...] = (
    ("sin", 6, 0),
    ("cos", 7, 0),
    ("sin", 5, 5),
    ("cos", 8, 8),
)
"""The forcing functions: sine or cosine of (a x + b y)."""

# Time for drag and viscosity to forget the start: four times 1 / (2 drag) of the slowest, largest scales.
_SPIN_UP = 20.0


class NavierStokes(System):
    """Stochastically forced vorticity.

    Attributes:
        size: grid points along each axis.
        viscosity: nu.
        drag: linear drag.
        amplitude: of every forcing function.
        frame: model time between two frames; one unit of model time is one second.
        time_step: longest step of the integration.
    """

    name: Literal["navier-stokes"] = "navier-stokes"
    size: int = Field(64, ge=32, multiple_of=2)
    viscosity: PositiveFloat = 2e-3
    drag: PositiveFloat = 0.1
    amplitude: float = Field(1.0, ge=0)
    frame: PositiveFloat = 0.5
    time_step: PositiveFloat = 0.05

    @property
    def variables(self) -> tuple[Variable, ...]:
        """One: vorticity."""
        return (Variable("vorticity", "s-1"),)

    @property
    def grid(self) -> Grid:
        """The periodic square."""
        return periodic_square(self.size)

    @property
    def spin_up(self) -> int:
        """Frames until the start is forgotten."""
        return math.ceil(_SPIN_UP / self.frame)

    def start(
        self, count: int, draws: Draws, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "b k y x"]:
        """Return smooth random vorticity of about the equilibrium's deviation, 2."""
        flow = self._flow(dtype)
        noise = flow.coefficients(normal(draws, count, (1, self.size, self.size), dtype=dtype))
        smooth = flow.field(noise * torch.exp(-flow.squared / 40))
        return 2 * smooth / smooth.std(dim=(-2, -1), keepdim=True)

    def step(self, state: Float[Tensor, "b k y x"], draws: Draws) -> Float[Tensor, "b k y x"]:
        """Return the vorticity one frame later."""
        flow = self._flow(state.dtype)
        modes, patterns = _forcing(flow, self)
        substeps = max(1, math.ceil(self.frame / self.time_step - 1e-9))
        noise = normal(draws, state.shape[0], (substeps, len(PHASES)), dtype=state.dtype)
        kicks = noise.to(patterns.dtype) @ patterns
        w = flow.coefficients(state)
        for substep in range(substeps):
            w = flow.step(w)
            w.view(len(w), -1)[:, modes] += kicks[:, substep]
        return flow.field(w)

    def input_rate(self) -> float:
        """Return the mean enstrophy <w^2>/2 that the forcing puts in per unit of time."""
        return self.amplitude**2 * len(PHASES) * 0.5 / 2

    def _flow(self, dtype: torch.dtype) -> Spectral:
        dt = self.frame / max(1, math.ceil(self.frame / self.time_step - 1e-9))
        return spectral(self.size, dt, viscosity=self.viscosity, drag=self.drag, dtype=dtype)


def periodic_square(size: int) -> Grid:
    """Return the grid of (0, 2 pi)^2 with ``size`` points along each axis."""
    axis = LENGTH * np.arange(size) / size
    return Grid(axis, axis, "plane", "m", (True, True))


@lru_cache(maxsize=16)
def _forcing(flow: Spectral, system: NavierStokes) -> tuple[Tensor, Complex[Tensor, "j p"]]:
    """Return where the forcing has coefficients (flat places), and those of one step of deviation 1."""
    axis = LENGTH * torch.arange(flow.size, dtype=torch.float64) / flow.size
    y, x = axis[:, None], axis[None]
    functions = {"sin": torch.sin, "cos": torch.cos}
    rows = []
    for name, a, b in PHASES:
        rate = system.viscosity * (a**2 + b**2) + system.drag
        deviation = system.amplitude * math.sqrt(-math.expm1(-2 * rate * flow.dt) / (2 * rate))
        rows.append(deviation * torch.fft.rfft2(functions[name](a * x + b * y)).flatten())
    patterns = torch.stack(rows)
    modes = (patterns.abs() > 1e-9 * flow.size**2).any(0).nonzero()[:, 0]
    return modes, patterns[:, modes].to(flow.complex_dtype)
