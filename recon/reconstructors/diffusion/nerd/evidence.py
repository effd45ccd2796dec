r"""How much a scan says about a volume, before anything is reconstructed: the error of the best linear reconstruction.

A slice of the body is mostly flat with sharp borders, whose power spectrum falls with the third power of the
wavenumber. As a Gaussian process of that spectrum,

    x = C^(1/2) v,   v ~ N(0, 1),      S(k) = 250 HU^2/mm (k^2 + k_0^2)^(-3/2),   k_0 = 0.007 / mm

it can be reconstructed in closed form: from y = A x + n, n ~ N(0, W^-1), the posterior mean solves

    (C^(1/2) A.T W A C^(1/2) + 1) v' = C^(1/2) A.T W y

and the root mean square of C^(1/2) (v' - v) for one draw of v and n is the posterior's standard deviation: fewer views,
fewer photons and missing angles all raise it, in HU, by as much as they hide. Conjugate gradients are preconditioned by
(1 + S(k) h(k))^-1, h(k) being what A.T W A does to waves of wavenumber k on average.
Constants: the mean spectrum of slices of the seven patients that ct-chest-256 was trained on, within a factor 1.5 from
0.01 to 0.2 / mm.
Source: perturbation sampling of Gaussian posteriors, Papandreou and Yuille, NeurIPS 2010.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from priors.codec import Codec
from priors.linalg import cg
from priors.runtime.system.seeds import generator_of
from recon.operators.base import LinearOperator, grid_of
from recon.operators.projector import Projector
from recon.reconstructors.base import Measurement
from recon.reconstructors.diffusion.data_term import DataTerm, NetworkUnits

Volumes = Float[Tensor, "z y x"]
Spectrum = Float[Tensor, "ky kx"]

POWER_HU2_PER_MM = 250.0
LONGEST_PER_MM = 0.007
# Slices of parallel and fan beams that stand for all of them.
SLICES = 4
ITERATIONS = 40
# Thousands of HU, whatever the units of the prior.
THOUSANDS = Codec(offset=0.0, scale=1000.0, low=-1024.0, high=3000.0)


def expected_error_hu(measurement: Measurement, projector: LinearOperator, *, model_error: float) -> float:
    """Return the error in HU; about forty projections of at most `SLICES` slices where rays stay in slices.

    Raises:
        InputError: an operator without a grid.
    """
    measurement, projector = _middle(measurement, projector)
    units = NetworkUnits.of(THOUSANDS, mu_water=measurement.mu_water)
    data = DataTerm(projector, measurement, units=units, model_error=model_error)
    rings = _Rings(projector)
    power = rings.body_power(units.hu)
    generator = generator_of(0)
    with torch.no_grad():
        white = torch.randn(projector.domain, generator=generator)
        damping = 1 / (1 + power * rings.transfer(white, data.normal(white)))
        x = rings.filtered(power.sqrt(), torch.randn(projector.domain, generator=generator))
        noise = torch.randn(data.weights.shape, generator=generator)
        b = data.normal(x) + projector.adjoint(data.weights.sqrt() * noise)
        root = (power * damping).sqrt()

        def matvec(w: Volumes) -> Volumes:
            seen = data.normal(rings.filtered(root, w))
            return rings.filtered(root, seen) + rings.filtered(damping, w)

        w = cg(matvec, rings.filtered(root, b), iterations=ITERATIONS)
        error = float((rings.filtered(root, w) - x).square().mean(dtype=torch.float64).sqrt())
    return error * units.hu


class _Rings:
    """Filters of slices by wavenumber: slices are independent, each periodic."""

    def __init__(self, projector: LinearOperator) -> None:
        _, ny, nx = projector.domain
        _, dy, dx = grid_of(projector, "nerd").voxel_mm
        fy, fx = torch.fft.fftfreq(ny, dy)[:, None], torch.fft.rfftfreq(nx, dx)[None]
        self._shape, self._pixel = (ny, nx), dy * dx
        self._squared = fy**2 + fx**2
        # As many rings as the shorter side has frequencies.
        longest = float(self._squared.max().sqrt())
        self._ring = (self._squared.sqrt() / longest * min(ny, nx) / 2).round().long()

    def body_power(self, hu: float) -> Spectrum:
        """Return the power of a body-like slice by wavenumber, in squared network units of ``hu`` HU."""
        density: Spectrum = POWER_HU2_PER_MM * (self._squared + LONGEST_PER_MM**2) ** -1.5
        return density / self._pixel / hu**2

    def filtered(self, factor: Spectrum, v: Volumes) -> Volumes:
        """Return ``v`` with every wave multiplied by a factor."""
        result: Volumes = torch.fft.irfft2(factor * torch.fft.rfft2(v), s=self._shape)
        return result

    def transfer(self, white: Volumes, seen: Volumes) -> Spectrum:
        """Return by how much A.T W A multiplies a wave, the mean over directions, read off white noise."""
        before, after = torch.fft.rfft2(white), torch.fft.rfft2(seen)
        ring = self._ring.flatten()
        shared = (before.conj() * after).real.sum(0).flatten().double()
        own = before.abs().square().sum(0).flatten().double()
        profile = torch.bincount(ring, shared) / torch.bincount(ring, own).clamp(min=1e-30)
        return profile.clamp(min=0).float()[self._ring]


def _middle(measurement: Measurement, projector: LinearOperator) -> tuple[Measurement, LinearOperator]:
    """Return the problem of a few slices in the middle, all of it where rays cross slices."""
    slices = projector.domain[0]
    if not isinstance(projector, Projector) or not projector.geometry.sliced or slices <= SLICES:
        return measurement, projector
    start = (slices - SLICES) // 2
    rows = slice(start, start + SLICES)
    sinogram, weights = measurement.sinogram[:, rows], measurement.weights[:, rows]
    part = Measurement(sinogram.contiguous(), weights.contiguous(), measurement.mu_water, measurement.unit)
    return part, projector.slices(start, start + SLICES)
