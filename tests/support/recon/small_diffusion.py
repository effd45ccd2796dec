"""A reconstruction small enough for dense algebra, with a prior whose conditional mean is known exactly."""

import numpy as np
import torch

from priors.codec import Codec
from priors.diffusion.denoiser import Denoiser, GaussianDenoiser
from priors.diffusion.schedule import EDM
from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.operators.differences import Differences
from recon.operators.projector import Projector
from recon.reconstructors.base import Measurement
from recon.reconstructors.diffusion.coupling import Coupling
from recon.reconstructors.diffusion.data_term import DataTerm, NetworkUnits
from recon.reconstructors.diffusion.problem import NerdProblem

SIDE, SLICES, VIEWS = 6, 3, 4
SCHEDULE = EDM(sigma_min=0.005, sigma_max=20.0)
CODEC = Codec(offset=0.0, scale=1000.0, low=-1024.0, high=1500.0)


def small_projector() -> Projector:
    volume = Grid((SLICES, SIDE, SIDE), (2.0, 1.5, 1.5))
    return Projector(Parallel(views=VIEWS, arc_deg=180).fit(volume).geometry(), volume)


def measured(projector: Projector, seed: int = 0) -> tuple[Measurement, torch.Tensor]:
    """Return a noisy measurement of a random attenuation, and that attenuation."""
    generator = torch.Generator().manual_seed(seed)
    truth = 0.02 * torch.rand(projector.domain, generator=generator)
    weights = 200 + 800 * torch.rand(projector.range, generator=generator)
    noise = torch.randn(projector.range, generator=generator) / weights.sqrt()
    return Measurement(projector(truth) + noise, weights), truth


def gaussian_denoiser(variance: float = 0.3, correlation: float = 0.5) -> GaussianDenoiser:
    n = SIDE * SIDE
    places = torch.arange(SIDE)
    grid = torch.cartesian_prod(places, places).double()
    distance = torch.cdist(grid, grid)
    covariance = variance * correlation**distance
    return GaussianDenoiser(
        torch.full((1, SIDE, SIDE), -0.5), covariance.float().reshape(n, n), schedule=SCHEDULE
    )


def make_problem(
    denoiser: Denoiser, coupling: Coupling, *, threshold: float = 0.05, chunk: int = 2
) -> NerdProblem:
    projector = small_projector()
    data = DataTerm(projector, measured(projector)[0], units=NetworkUnits.of(CODEC), model_error=0.0)
    differences = Differences(projector.grid.shape, axes=(0,))
    return NerdProblem(data, denoiser, coupling, differences, threshold, chunk)


def dense(problem: NerdProblem) -> np.ndarray:
    """Return A as a matrix, by columns."""
    count = int(np.prod(problem.data.projector.domain))
    columns = [
        problem.data.projector(torch.eye(count)[k].reshape(problem.data.projector.domain)).flatten()
        for k in range(count)
    ]
    return torch.stack(columns, 1).double().numpy()
