r"""Plug-and-play with a diffusion prior as the denoiser: PnP-HQS, and PnP-ADMM with its dual kept.

Half-quadratic splitting (DPIR, Zhang et al., TPAMI 2021), no noise is ever added:

    X = argmin 1/2 ||W^(1/2) (A X - y)||^2 + rho_s / 2 ||X - V||^2,   V = D(X, s),   rho_s = lambda / s^2

ADMM keeps the scaled dual B between levels (Venkatakrishnan et al. 2013), which removes the bias that half-quadratic
splitting leaves at its end:

    V = D(X + B, s),   B <- B + X - V,   X = argmin 1/2 ||W^(1/2) (A X - y)||^2 + rho_s / 2 ||X - V + B||^2

What the denoiser is given there, X + B, is wrong by structured errors (streaks, the dual), not by white noise, while it
was trained on white noise of deviation s. ``whiten`` adds Gaussian noise whose in-plane power spectrum fills the
residual's up to the flat spectrum of s, the idea of dual-coupled plug-and-play (arXiv 2602.04162); the spectrum of the
residual X + B - V is averaged over slices and rings of wavenumber.
"""

from typing import Literal

import torch
from pydantic import Field

from recon.reconstructors.diffusion.base import (
    Advance,
    DiffusionReconstructor,
    NoiseLevel,
    Volumes,
)
from recon.reconstructors.diffusion.coupling import AdmmCoupling
from recon.reconstructors.diffusion.ladder import Geometric, Ladder
from recon.reconstructors.diffusion.noise import noise_like
from recon.reconstructors.diffusion.problem import NerdProblem
from recon.reconstructors.diffusion.state import DiffusionState


class PlugAndPlay(DiffusionReconstructor):
    """What both splittings share.

    Attributes:
        ladder: the noise levels given to the denoiser.
        weight: lambda, the weight of the network's estimate relative to a measurement of deviation s.
        iterations: conjugate-gradient steps per level.
    """

    warm_start: Literal["tv", "fbp"] = "tv"
    ladder: Ladder = Geometric(levels=24, start_hu=200.0, stop_hu=20.0)
    coupling: AdmmCoupling = AdmmCoupling(rho=0)
    weight: float = Field(0.23, gt=0)
    iterations: int = Field(10, ge=1)

    @property
    def through_network(self) -> bool:
        """See `DiffusionReconstructor`."""
        return False

    def sequence(self, largest: float, hu: float) -> list[float]:
        """See `DiffusionReconstructor`."""
        return self.ladder.sequence(largest, hu)

    def first_state(self, x: Volumes, level: float, generator: torch.Generator) -> Volumes:
        """Return the warm start itself: no noise is added."""
        return x


class PnPHQS(PlugAndPlay):
    """Half-quadratic splitting."""

    name: Literal["pnp-hqs"] = "pnp-hqs"

    def advance(
        self, problem: NerdProblem, state: DiffusionState, now: NoiseLevel, generator: torch.Generator
    ) -> Advance:
        """See `DiffusionReconstructor`."""
        estimate = problem.denoise(state.u, now.level)
        weight = self.weight / now.level**2
        x = problem.data_solve(
            estimate, state.duals, start=estimate, weight=weight, iterations=self.iterations
        )
        duals = problem.update_duals(state.duals, x, convexity=weight)
        return Advance(x, x, duals, {})


class PnPADMM(PlugAndPlay):
    """ADMM with its dual kept between levels.

    Attributes:
        whiten: add the noise that makes the spectrum of what the denoiser sees flat.
    """

    name: Literal["pnp-admm"] = "pnp-admm"
    whiten: bool = True

    def advance(
        self, problem: NerdProblem, state: DiffusionState, now: NoiseLevel, generator: torch.Generator
    ) -> Advance:
        """See `DiffusionReconstructor`; the duals hold B and the last V besides the coupling's."""
        dual = state.duals.get("split", torch.zeros_like(state.x))
        seen = state.x + dual
        if self.whiten and "denoised" in state.duals:
            seen = seen + filling_noise(seen - state.duals["denoised"], now.level, generator)
        estimate = problem.denoise(seen, now.level)
        dual = dual + state.x - estimate
        weight = self.weight / now.level**2
        coupled = {name: value for name, value in state.duals.items() if name not in ("split", "denoised")}
        x = problem.data_solve(
            estimate - dual, coupled, start=estimate, weight=weight, iterations=self.iterations
        )
        duals = problem.update_duals(coupled, x, convexity=weight)
        duals = {**duals, "split": dual, "denoised": estimate}
        return Advance(x, x, duals, {})


def filling_noise(residual: Volumes, level: float, generator: torch.Generator) -> Volumes:
    """Return noise whose in-plane spectrum is what ``residual`` lacks of white noise of deviation ``level``."""
    height, width = residual.shape[1:]
    power = torch.fft.rfft2(residual).abs().square().mean(0) / (height * width)
    # Rings of one wavenumber: a residual has no direction of its own after 180 degrees of views.
    ring = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]) * min(
        height, width
    )
    index = ring.round().long().flatten()
    count = torch.bincount(index).clamp(min=1)
    profile = torch.bincount(index, power.flatten().double()) / count
    missing = (level**2 - profile).clamp(min=0).sqrt().float()[index].reshape(power.shape)
    white = torch.fft.rfft2(noise_like(residual, generator))
    filling: Volumes = torch.fft.irfft2(missing * white, s=(height, width))
    return filling
