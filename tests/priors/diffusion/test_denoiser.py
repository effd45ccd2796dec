"""Denoisers: the Gaussian oracle against the dense formula, and networks behind their parametrisation."""

import pytest
import torch
from torch import nn

from priors.diffusion.denoiser import GaussianDenoiser, NetworkDenoiser, broadcast_scales
from priors.diffusion.parametrisation import Noise, Preconditioned, Velocity
from priors.diffusion.schedule import EDM, VP, Cosine, Rectified
from priors.networks import MonaiUNet, UnshuffledUNet

SCHEDULES = [VP(), Cosine(), EDM(), Rectified()]


def gaussian(n: int, *, rank: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(n, rank, generator=generator, dtype=torch.float64) / n**0.5
    return torch.randn(n, generator=generator, dtype=torch.float64), factor @ factor.T


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)
@pytest.mark.parametrize("rank", [3, 12])
def test_the_gaussian_oracle_is_the_dense_formula(schedule, rank):
    mean, covariance = gaussian(12, rank=rank)
    denoiser = GaussianDenoiser(mean.reshape(3, 4), covariance, schedule=schedule)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    x_t = torch.randn(3, 3, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    estimate = denoiser(x_t, t)
    for k in range(3):
        alpha, sigma = (float(scale) for scale in schedule(t[k]))
        system = alpha**2 * covariance + sigma**2 * torch.eye(12, dtype=torch.float64)
        innovation = x_t[k].flatten() - alpha * mean
        direct = mean + alpha * covariance @ torch.linalg.solve(system, innovation)
        # The condition number of the system is up to 1e5 at t = 0.1: 1e-16 * 1e5 and some room.
        torch.testing.assert_close(estimate[k].flatten(), direct, rtol=1e-9, atol=1e-9)


def test_the_gaussian_oracle_minimises_the_squared_error():
    # The property that defines a denoiser, without any formula: no other affine estimate does better.
    mean, covariance = gaussian(4, rank=4)
    schedule = VP()
    generator = torch.Generator().manual_seed(2)
    factor = torch.linalg.cholesky(covariance)
    x = mean + torch.randn(100_000, 4, generator=generator, dtype=torch.float64) @ factor.T
    t = torch.full((len(x),), 0.4, dtype=torch.float64)
    alpha, sigma = broadcast_scales(schedule, x, t)
    x_t = alpha * x + sigma * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    estimate = GaussianDenoiser(mean, covariance, schedule=schedule)(x_t, t)
    design = torch.cat([x_t, torch.ones(len(x), 1, dtype=torch.float64)], 1)
    fitted = design @ torch.linalg.lstsq(design, x).solution
    own, best = ((estimate - x) ** 2).mean(), ((fitted - x) ** 2).mean()
    # Least squares on the same draws wins by chance only: parameters / draws = 5e-5.
    assert float(best) <= float(own) <= float(best) * (1 + 5e-4)


class Fixed(nn.Module):
    """Stands for a network: an affine function of what it sees and of the logarithm of the noise level."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.7))
        self.seen: torch.Tensor | None = None
        self.log_ratio: torch.Tensor | None = None

    def forward(self, x: torch.Tensor, log_ratio: torch.Tensor) -> torch.Tensor:
        self.seen, self.log_ratio = x, log_ratio
        return self.weight * x


def test_a_network_is_read_through_its_parametrisation():
    network, schedule = Fixed(), VP()
    denoiser = NetworkDenoiser(network, schedule=schedule, parametrisation=Noise(), reduced=False)
    x_t = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.2, 0.8])
    alpha, sigma = (scale.reshape(2, 1, 1, 1).float() for scale in schedule(t))
    torch.testing.assert_close(denoiser(x_t, t), (x_t - sigma * 0.7 * x_t) / alpha)
    torch.testing.assert_close(network.log_ratio, torch.log(schedule.ratio(t)).float())


def test_edm_scales_what_the_network_sees():
    network, schedule = Fixed(), EDM()
    denoiser = NetworkDenoiser(
        network, schedule=schedule, parametrisation=Preconditioned(sigma_data=0.5), reduced=False
    )
    t = schedule.inverse(torch.tensor([2.0]))
    denoiser(torch.ones(1, 1, 4, 4), t)
    torch.testing.assert_close(network.seen, torch.full((1, 1, 4, 4), (4 + 0.25) ** -0.5))


def test_gradients_flow_to_input_and_weights_and_nothing_switches_them_off():
    denoiser = NetworkDenoiser(Fixed(), schedule=Cosine(), parametrisation=Velocity(), reduced=False)
    x_t = torch.randn(1, 1, 3, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    t = torch.tensor([0.5])
    denoiser(x_t, t).sum().backward()
    alpha, sigma = (float(scale) for scale in denoiser.schedule(t))
    torch.testing.assert_close(x_t.grad, torch.full((1, 1, 3, 3), alpha - 0.7 * sigma))
    assert float(denoiser.network.weight.grad) == pytest.approx(-sigma * float(x_t.detach().sum()), rel=1e-5)
    with torch.no_grad():
        assert not denoiser(x_t, t).requires_grad


class Blur(nn.Module):
    """A translation-invariant stand-in of a U-Net on packed channels that insists on whole strides."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, packed: torch.Tensor, conditioning: torch.Tensor, class_labels: None) -> torch.Tensor:
        assert packed.shape[-1] % self.stride == 0
        assert packed.shape[-2] % self.stride == 0
        return packed * conditioning[:, None, None, None]


@pytest.mark.parametrize("size", [(16, 16), (15, 16), (17, 9), (1, 1)])
def test_any_size_is_padded_and_cropped_again(size):
    network = UnshuffledUNet(Blur(4), MonaiUNet(channels=(16, 16, 16), unshuffle=2, conditioning_scale=10.0))
    x = torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(0))
    log_ratio = torch.tensor([0.1, -0.2])
    # Where the network works pixel by pixel, unshuffle, padding and cropping must leave every pixel in place.
    torch.testing.assert_close(network(x, log_ratio), x * (10 * log_ratio)[:, None, None, None])
