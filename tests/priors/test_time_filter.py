"""The linear estimate along time against the Gaussian conditional mean written out, and inside the network."""

import pytest
import torch

from priors.denoiser import GaussianDenoiser, NetworkDenoiser
from priors.networks import SpaceTimeDiT
from priors.networks.space_time_dit_attention import visibility
from priors.networks.time_filter import TimeFilter
from priors.parametrisation import Velocity
from priors.schedule import Cosine

# A first-order autoregression: c(lag) = 2 * 0.8^lag.
COVARIANCE = tuple(2 * 0.8**lag for lag in range(15))


def dense(frames: int) -> torch.Tensor:
    lag = torch.arange(frames)
    return torch.tensor(COVARIANCE, dtype=torch.float64)[(lag[:, None] - lag).abs()]


@pytest.mark.parametrize("causal", [False, True])
def test_the_gains_are_the_conditional_mean_given_the_visible_frames(causal):
    log_ratio = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    finished = torch.zeros(2, 4, dtype=torch.bool)
    finished[1, 0] = True
    visible = visibility(finished, reach=2, causal=causal, cached=2)
    gains = TimeFilter(COVARIANCE).gains(log_ratio, visible)
    ratio = log_ratio.double().exp()
    alpha, sigma = torch.rsqrt(1 + ratio**2), ratio * torch.rsqrt(1 + ratio**2)
    for sample in range(2):
        rows = visible if visible.ndim == 2 else visible[sample]
        for frame in range(4):
            seen = rows[frame].nonzero()[:, 0]
            c, a = dense(6), alpha[sample, seen]
            system = a[:, None] * c[seen][:, seen] * a + torch.diag(sigma[sample, seen] ** 2)
            expected = torch.zeros(6, dtype=torch.float64)
            expected[seen] = torch.linalg.solve(system, a * c[seen, frame + 2])
            torch.testing.assert_close(gains[sample, frame], expected, rtol=1e-9, atol=1e-12)


def network(**changes) -> SpaceTimeDiT:
    small = {"stages": (), "patch": 2, "width": 16, "depth": 1, "head_width": 16, "features": 16, "reach": 7}
    return SpaceTimeDiT(**small, covariance=COVARIANCE, **changes)


def test_an_untrained_network_is_the_exact_denoiser_of_independent_pixels():
    frames, pixels = 5, 16
    denoiser = NetworkDenoiser(
        network().build(), schedule=Cosine(), parametrisation=Velocity(), reduced=False
    )
    # The same Gaussian for one pixel at a time: every sample of the oracle is one pixel's series.
    oracle = GaussianDenoiser(torch.zeros(frames, dtype=torch.float64), dense(frames), schedule=Cosine())
    x_t = torch.randn(3, frames, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    series = x_t.flatten(2).transpose(1, 2).reshape(3 * pixels, frames).double()
    expected = oracle(series, t.repeat_interleave(pixels))
    found = denoiser(x_t, t).flatten(2).transpose(1, 2).reshape(3 * pixels, frames)
    # The network passes on a velocity in float32, which is divided by sigma and multiplied back.
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)


def test_a_frame_of_noise_after_clean_ones_is_forecast():
    denoiser = NetworkDenoiser(
        network().build(), schedule=Cosine(), parametrisation=Velocity(), reduced=False
    )
    x = torch.randn(1, 4, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    t = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    # The autoregression forgets all but the last frame; sigma(1) leaves a trace of 0.0016 of the noise.
    found = denoiser(x, t)[:, 3]
    assert float((found - 0.8 * x[:, 2]).detach().abs().max()) < 0.02
