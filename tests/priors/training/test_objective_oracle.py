"""Every objective against Gaussian data: the exact conditional mean is where the loss is smallest, and how small.

For x ~ N(m, v) and x_t = alpha x + sigma z everything is linear: E[x | x_t] = m + k (x_t - alpha m) with
k = alpha v / (alpha^2 v + sigma^2). A network that knows it and is off by a factor c has a loss with its minimum at
c = 1, whatever its output means and whatever the schedule: noise, data, velocity, EDM, or the flow of a straight line.
"""

import pytest
import torch
from torch import nn

from priors.diffusion.denoiser import NetworkDenoiser
from priors.diffusion.parametrisation import Clean, Flow, Noise, Parametrisation, Preconditioned, Velocity
from priors.diffusion.schedule import EDM, Cosine, Rectified, Schedule
from priors.training.objective import squared_errors
from priors.training.task import Batch

MEAN, VARIANCE = 0.3, 0.49
CASES = [
    (Noise(), Cosine()),
    (Clean(), EDM(sigma_min=0.01, sigma_max=10.0)),
    (Velocity(), Cosine()),
    (Flow(), Rectified()),
    (Flow(sign=-1), Rectified()),
    (Preconditioned(sigma_data=0.7), EDM(sigma_min=0.01, sigma_max=10.0)),
]


class Exact(nn.Module):
    """The best output, times a factor that training could change; knows the schedule only by log(sigma / alpha)."""

    def __init__(self, parametrisation: Parametrisation, schedule: Schedule) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.parametrisation, self.schedule = parametrisation, schedule

    def forward(self, seen: torch.Tensor, log_ratio: torch.Tensor) -> torch.Tensor:
        alpha, sigma = (
            s.reshape(-1, 1) for s in self.schedule(self.schedule.inverse(log_ratio.double().exp()))
        )
        scale = self.parametrisation.network_input(torch.ones_like(alpha), alpha, sigma)
        x_t = seen / scale
        x = MEAN + alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2) * (x_t - alpha * MEAN)
        # Any target is linear in clean data and noise, and so is its conditional mean.
        return self.factor * self.parametrisation.target(x, (x_t - alpha * x) / sigma, alpha, sigma)


@pytest.mark.parametrize(("parametrisation", "schedule"), CASES, ids=lambda case: case.name)
def test_the_conditional_mean_is_the_minimum_of_the_loss(parametrisation, schedule):
    generator = torch.Generator().manual_seed(0)
    count = 200_000
    x = MEAN + VARIANCE**0.5 * torch.randn(count, 1, generator=generator, dtype=torch.float64)
    z = torch.randn(count, 1, generator=generator, dtype=torch.float64)
    t = torch.linspace(0.05, 0.95, 10, dtype=torch.float64).repeat(count // 10)
    network = Exact(parametrisation, schedule)
    denoiser = NetworkDenoiser(network, schedule=schedule, parametrisation=parametrisation, reduced=False)
    loss = squared_errors(denoiser, Batch(x, z, t)) / count
    (slope,) = torch.autograd.grad(loss, network.factor)
    # The target's variance given x_t: the error of the clean estimate, k-th power of its coefficient in the target.
    alpha, sigma = (s.reshape(-1, 1) for s in schedule(t))
    spread = VARIANCE * sigma**2 / (alpha**2 * VARIANCE + sigma**2)
    ones, zeros = torch.ones_like(alpha), torch.zeros_like(alpha)
    # A change dx of the data at the same x_t changes the noise by -alpha dx / sigma.
    per_dx = parametrisation.target(ones, -alpha / sigma, alpha, sigma) - parametrisation.target(
        zeros, zeros, alpha, sigma
    )
    expected = float((per_dx**2 * spread).mean())
    # 200,000 draws: the deviation of a mean of squares is 0.3 %, of the slope as much of the output's power.
    assert float(loss.detach()) == pytest.approx(expected, rel=0.02)
    assert abs(float(slope)) < 0.03
