"""Incompressible flow on the periodic square (0, 2 pi)^2, in vorticity form, by Fourier series.

    d w / dt + u dw/dx + v dw/dy = nu laplacian(w) - drag w + F,      u = dpsi/dy, v = -dpsi/dx, -laplacian(psi) = w

Coefficients beyond a third of the grid's wavenumbers are removed from every product (2/3 rule), so the
truncated advection conserves energy and enstrophy exactly. Time steps are fourth-order Runge-Kutta on
exp(lambda t) w with lambda = nu k^2 + drag (Lawson 1967): linear terms are exact and limit no step; the
advection allows about 2.8 / (k_max (max|u| + max|v|)).
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Complex, Float
from torch import Tensor

LENGTH = 2 * math.pi


class Spectral:
    """The discretised equation on n x n points; holds constants only, so one instance serves every state."""

    def __init__(
        self, size: int, dt: float, *, viscosity: float, drag: float, dtype: torch.dtype = torch.float32
    ) -> None:
        """Compute the constants.

        Args:
            size: grid points along each axis.
            dt: time step.
            viscosity: nu.
            drag: linear drag per unit time.
            dtype: of physical fields; coefficients have the complex type of the same precision.
        """
        self.size, self.dt, self.dtype = size, dt, dtype
        self.complex_dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
        k = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
        ky, kx = k[:, None], torch.arange(size // 2 + 1, dtype=torch.float64)[None]
        squared = kx**2 + ky**2
        keep = (kx < size / 3) & (ky.abs() < size / 3)
        inverse = torch.where(squared > 0, 1 / squared.clamp(min=1), 0.0)
        decay = viscosity * squared + drag

        def cast(values: Tensor) -> Tensor:
            return values.to(self.complex_dtype if values.is_complex() else dtype)

        self.keep, self.squared = cast(keep.double()), cast(squared)
        self._u, self._v = cast(1j * ky * inverse), cast(-1j * kx * inverse)
        self._dx, self._dy = cast(-1j * kx * keep), cast(-1j * ky * keep)
        self._half, self._full = cast(torch.exp(-decay * dt / 2)), cast(torch.exp(-decay * dt))

    def coefficients(self, field: Float[Tensor, "*b y x"]) -> Complex[Tensor, "*b ky kx"]:
        """Return the retained Fourier coefficients of a field."""
        coefficients: Tensor = torch.fft.rfft2(field) * self.keep
        return coefficients

    def field(self, coefficients: Complex[Tensor, "*b ky kx"]) -> Float[Tensor, "*b y x"]:
        """Return the field of Fourier coefficients."""
        field: Tensor = torch.fft.irfft2(coefficients, s=(self.size, self.size))
        return field

    def velocity(self, w: Complex[Tensor, "*b ky kx"]) -> Float[Tensor, "*b 2 y x"]:
        """Return (u, v) of the vorticity ``w``."""
        return self.field(torch.stack([self._u * w, self._v * w], dim=-3))

    def vorticity(self, velocity: Float[Tensor, "*b 2 y x"]) -> Complex[Tensor, "*b ky kx"]:
        """Return dv/dx - du/dy, the coefficients of the vorticity of (u, v)."""
        flow = torch.fft.rfft2(velocity)
        curl: Tensor = self._dy * flow[..., 0, :, :] - self._dx * flow[..., 1, :, :]
        return curl

    def advection(self, w: Complex[Tensor, "*b ky kx"]) -> Complex[Tensor, "*b ky kx"]:
        """Return -(u dw/dx + v dw/dy) as the divergence of a flux, dealiased."""
        flux = torch.fft.rfft2(self.velocity(w) * self.field(w).unsqueeze(-3))
        divergence: Tensor = self._dx * flux[..., 0, :, :] + self._dy * flux[..., 1, :, :]
        return divergence

    def step(
        self, w: Complex[Tensor, "*b ky kx"], source: Complex[Tensor, "ky kx"] | None = None
    ) -> Complex[Tensor, "*b ky kx"]:
        """Return the vorticity one time step later; ``source`` is a steady forcing F."""

        def slope(w: Tensor) -> Tensor:
            return self.advection(w) if source is None else self.advection(w) + source

        dt, half, full = self.dt, self._half, self._full
        k1 = slope(w)
        k2 = slope(half * (w + 0.5 * dt * k1))
        k3 = slope(half * w + 0.5 * dt * k2)
        k4 = slope(full * w + dt * half * k3)
        return full * (w + dt / 6 * k1) + dt / 3 * half * (k2 + k3) + dt / 6 * k4


@lru_cache(maxsize=16)
def spectral(
    size: int, dt: float, *, viscosity: float, drag: float, dtype: torch.dtype = torch.float32
) -> Spectral:
    """Return the constants of a flow, computed once."""
    return Spectral(size, dt, viscosity=viscosity, drag=drag, dtype=dtype)
