"""The variance-optimised sampler and the Gaussian start against the exact flow of Gaussian data."""

import pytest
import torch

from priors.diffusion.denoiser import Denoiser, GaussianDenoiser
from priors.diffusion.samplers.gaussian_start import gaussian_path, sample_from
from priors.diffusion.samplers.sampler import DDIM, Multistep
from priors.diffusion.samplers.second_order import VarianceOptimised, balanced
from priors.diffusion.schedule import EDM
from priors.gaussian.spectrum import Spectrum, wavenumbers

SCHEDULE = EDM(sigma_min=0.01, sigma_max=40.0)
DEVIATIONS = torch.tensor([0.02, 0.1, 0.5, 1.0, 3.0], dtype=torch.float64)


def flow_error(sampler, steps):
    denoiser = GaussianDenoiser(
        torch.zeros(5, dtype=torch.float64), torch.diag(DEVIATIONS**2), schedule=SCHEDULE
    )
    z = 40.0 * torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    low = 0.01
    # The last answer is the conditional mean at the lowest level of the exact path.
    path = z * torch.sqrt((DEVIATIONS**2 + low**2) / (DEVIATIONS**2 + 40.0**2))
    exact = DEVIATIONS**2 / (DEVIATIONS**2 + low**2) * path
    found = sampler(steps=steps).sample(denoiser, z, generator=torch.Generator())
    return float((found - exact).square().mean().sqrt())


def test_it_is_second_order_and_no_worse_than_the_multistep_rule():
    # A first-order rule would be four times as exact with four times the steps; measured is 8.5.
    assert flow_error(VarianceOptimised, 16) > 6 * flow_error(VarianceOptimised, 64)
    for steps in (8, 12, 16, 24):
        assert flow_error(VarianceOptimised, steps) < flow_error(Multistep, steps) < flow_error(DDIM, steps)
    # From 12 steps on it is worth more than half of the multistep rule's error.
    assert flow_error(VarianceOptimised, 12) < 0.6 * flow_error(Multistep, 12)


def test_the_balance_is_the_mean_of_two_slopes_with_the_smallest_square():
    ahead, behind = torch.randn(2, 50, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = balanced(ahead, behind).square().sum(1)
    shares = torch.linspace(0, 1, 101, dtype=torch.float64)[:, None, None]
    tried = ((1 - shares) * ahead + shares * behind).square().sum(2)
    assert bool((found <= tried + 1e-12).all())
    assert torch.equal(balanced(ahead, ahead), ahead)


class Fields(Denoiser):
    """The exact denoiser of a process with a spectrum, one frame."""

    def __init__(self, spectrum, mean, size):
        super().__init__()
        self.schedule, self.mean = SCHEDULE, mean
        table = torch.tensor(spectrum.covariance, dtype=torch.float64)[:, 0]
        q = wavenumbers((size, size), torch.device("cpu")).double()
        position = (2 * q * (len(table) - 1)).clamp(max=len(table) - 1)
        low = position.floor().long().clamp(max=len(table) - 2)
        self.variance = table[low] + (position - low) * (table[low + 1] - table[low])

    def forward(self, x_t, t):
        ratio = self.schedule.ratio(t).reshape(-1, 1, 1, 1, 1)
        waves = torch.fft.rfft2(x_t - self.mean)
        return self.mean + torch.fft.irfft2(
            self.variance / (self.variance + ratio**2) * waves, s=x_t.shape[-2:]
        )


def test_the_gaussian_start_is_the_exact_path_and_saves_the_calls_above():
    spectrum = Spectrum(covariance=((4.0,), (1.0,), (0.1,)))
    mean = torch.linspace(-1, 1, 8, dtype=torch.float64)
    denoiser = Fields(spectrum, mean, 8)
    z = 40.0 * torch.randn(2, 1, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    fine = Multistep(steps=3000).sample(denoiser, z, generator=torch.Generator())
    exact = gaussian_path(z, 40.0, 0.01, spectrum=spectrum, mean=mean)
    # The flow of 3000 second-order steps; the wave of deviation 0.3 keeps noise of 0.01.
    assert float((fine - exact).abs().max()) < 0.05
    few = Multistep(steps=4)
    started = sample_from(
        denoiser, z, sampler=few, level=3.0, moments=(spectrum, mean), generator=torch.Generator()
    )
    plain = few.sample(denoiser, z, generator=torch.Generator())
    errors = [float((each - fine).square().mean().sqrt()) for each in (started, plain)]
    assert errors[0] < 0.7 * errors[1], errors


def test_frames_of_one_level_go_together():
    # Perfectly correlated frames stay equal when they begin equal.
    spectrum = Spectrum(covariance=((4.0, 4.0), (1.0, 1.0)))
    u = torch.randn(1, 1, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moved = gaussian_path(u.expand(1, 2, 1, 8, 8), 40.0, 1.0, spectrum=spectrum)
    assert torch.allclose(moved[:, 0], moved[:, 1])
    alone = gaussian_path(u, 40.0, 1.0, spectrum=Spectrum(covariance=((8.0,), (2.0,))))
    assert float((moved[:, :1] - alone).abs().max()) == pytest.approx(0.0, abs=1e-10)
