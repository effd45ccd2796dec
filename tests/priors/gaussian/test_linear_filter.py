"""Linear estimates against the Gaussian conditional mean written out, and inside the network."""

import pytest
import torch

from assimilation.inference.trajectory import ConditionedDenoiser
from priors.diffusion.denoiser import GaussianDenoiser, NetworkDenoiser
from priors.diffusion.parametrisation import Velocity
from priors.diffusion.schedule import Cosine
from priors.gaussian.linear_filter import EigenFilter
from priors.gaussian.modes import gains, in_time, posterior
from priors.gaussian.spectrum import Spectrum
from priors.networks import SpaceTimeDiT
from priors.networks.space_time_dit.attention import visibility

# First-order autoregressions: c(lag) = variance * decay^lag.
COVARIANCE = tuple(2 * 0.8**lag for lag in range(15))
TABLE = torch.tensor(
    [[v * d**lag for lag in range(15)] for v, d in ((3, 0.9), (2, 0.6), (1, 0.95), (0.5, 0.3))],
    dtype=torch.float64,
)
PLACE = (4, 4)


def dense(frames: int) -> torch.Tensor:
    lag = torch.arange(frames)
    return torch.tensor(COVARIANCE, dtype=torch.float64)[(lag[:, None] - lag).abs()]


@pytest.mark.parametrize(("causal", "reach"), [(False, 2), (True, 2), (False, 7), (True, 7)])
def test_the_gains_are_the_conditional_mean_given_the_visible_frames(causal, reach):
    log_ratio = torch.randn(6, generator=torch.Generator().manual_seed(0))
    finished = torch.zeros(1, 4, dtype=torch.bool)
    finished[0, 0] = True
    visible = visibility(finished, reach=reach, causal=causal, cached=2).reshape(4, 6)
    found = gains(TABLE, log_ratio, visible)
    ratio = log_ratio.double().exp()
    alpha, sigma = torch.rsqrt(1 + ratio**2), ratio * torch.rsqrt(1 + ratio**2)
    for mode, c in enumerate(in_time(TABLE, 6)):
        for frame in range(4):
            seen = visible[frame].nonzero()[:, 0]
            a = alpha[seen]
            system = a[:, None] * c[seen][:, seen] * a + torch.diag(sigma[seen] ** 2)
            expected = torch.zeros(6, dtype=torch.float64)
            expected[seen] = torch.linalg.solve(system, a * c[seen, frame + 2])
            torch.testing.assert_close(found[mode, frame], expected, rtol=1e-9, atol=1e-12)


def test_the_posterior_covariance_is_that_after_clean_frames_and_noisy_ones():
    ratio = torch.tensor([0.4, 2.0, 7.0], dtype=torch.float64)
    found = posterior(TABLE, ratio, past=2)
    for c, v in zip(in_time(TABLE, 5), found, strict=True):
        noise = torch.diag(torch.cat([torch.full((2,), 1e-6 * float(c[0, 0])), ratio**2]).double())
        expected = (c - c @ torch.linalg.solve(c + noise, c))[2:, 2:]
        torch.testing.assert_close(v, expected, rtol=1e-9, atol=1e-12)


def network(**changes) -> SpaceTimeDiT:
    small = {"stages": (), "patch": 2, "width": 16, "depth": 1, "head_width": 16, "features": 16, "reach": 7}
    return SpaceTimeDiT(**small, **changes)


def denoiser_of(settings: SpaceTimeDiT) -> NetworkDenoiser:
    return NetworkDenoiser(settings.build(), schedule=Cosine(), parametrisation=Velocity(), reduced=False)


def eigen_denoiser() -> tuple[NetworkDenoiser, torch.Tensor, torch.Tensor]:
    """Return an untrained network on three modes, and mean and covariance of six of its frames written out."""
    denoiser = denoiser_of(network(modes=3, place=PLACE))
    linear = denoiser.network.filter
    assert isinstance(linear, EigenFilter)
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(16, 3, generator=generator, dtype=torch.float64))[0].T
    linear.mean.copy_(torch.randn(16, generator=generator))
    linear.basis.copy_(basis)
    linear.table.copy_(TABLE)
    rest = torch.eye(16, dtype=torch.float64) - basis.T @ basis
    times = in_time(linear.table, 6)
    covariance = torch.einsum("mij,mp,mq->ipjq", times[:3], basis, basis)
    covariance = covariance + torch.einsum("ij,pq->ipjq", times[3], rest)
    return denoiser, linear.mean.double().expand(6, -1), covariance.reshape(96, 96)


def test_an_untrained_network_is_the_exact_denoiser_of_independent_pixels():
    frames, pixels = 5, 16
    denoiser = denoiser_of(network(covariance=COVARIANCE))
    # The same Gaussian for one pixel at a time: every sample of the oracle is one pixel's series.
    oracle = GaussianDenoiser(torch.zeros(frames, dtype=torch.float64), dense(frames), schedule=Cosine())
    x_t = torch.randn(3, frames, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    series = x_t.flatten(2).transpose(1, 2).reshape(3 * pixels, frames).double()
    expected = oracle(series, t.repeat_interleave(pixels))
    found = denoiser(x_t, t).flatten(2).transpose(1, 2).reshape(3 * pixels, frames)
    # The network passes on a velocity in float32, which is divided by sigma and multiplied back.
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-4)


def test_an_untrained_network_with_modes_is_the_exact_denoiser_for_any_levels():
    denoiser, mean, covariance = eigen_denoiser()
    oracle = GaussianDenoiser(mean, covariance, schedule=Cosine())
    generator = torch.Generator().manual_seed(1)
    x_t = torch.randn(3, 6, 1, *PLACE, generator=generator)
    t = 0.02 + 0.97 * torch.rand(3, 6, generator=generator, dtype=torch.float64)
    expected = oracle(x_t.flatten(2).double(), t).reshape(x_t.shape)
    # float32 frames, and a velocity that is divided by sigma.
    torch.testing.assert_close(denoiser(x_t, t).double(), expected, rtol=0, atol=1e-4)


def test_the_covariance_with_modes_is_that_of_the_dense_gaussian_after_clean_frames():
    denoiser, _, covariance = eigen_denoiser()
    t = torch.tensor([0.3, 0.6, 0.6, 0.8], dtype=torch.float64)
    clean = torch.randn(1, 2, 1, *PLACE, generator=torch.Generator().manual_seed(2))
    spread = denoiser.cached(denoiser.remember(clean)).gaussian_covariance(t)
    assert spread is not None
    x = torch.randn(2, 4, 1, *PLACE, generator=torch.Generator().manual_seed(3))
    s = torch.cat([torch.full((2,), 1e-4, dtype=torch.float64), Cosine().ratio(t)]).repeat_interleave(16)
    whole = covariance - covariance @ torch.linalg.solve(covariance + torch.diag(s**2), covariance)
    expected = (x.flatten(1).double() @ whole[32:, 32:]).reshape(x.shape)
    # The clean frames count with a variance of 1e-6 of each mode's, the oracle's with 1e-8.
    torch.testing.assert_close(spread(x).double(), expected, rtol=0, atol=2e-4)


def test_a_frame_of_noise_after_clean_ones_is_forecast():
    denoiser = denoiser_of(network(covariance=COVARIANCE))
    x = torch.randn(1, 4, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    t = torch.tensor([[0.0, 0.0, 0.0, 1.0]], dtype=torch.float64)
    # The autoregression forgets all but the last frame; sigma(1) leaves a trace of 0.0016 of the noise.
    found = denoiser(x, t)[:, 3]
    assert float((found - 0.8 * x[:, 2]).detach().abs().max()) < 0.02


def test_guidance_knows_as_much_of_the_past_with_a_cache_as_without():
    rows = ((2.0, 1.8, 1.5, 1.3, 1.2, 1.1, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5),) * 2
    denoiser = denoiser_of(network(place=PLACE))
    denoiser.spectrum = Spectrum(covariance=rows, above=0)
    past = torch.randn(1, 10, 1, *PLACE, generator=torch.Generator().manual_seed(4))
    x = torch.randn(1, 1, 1, *PLACE, generator=torch.Generator().manual_seed(5))
    t = torch.tensor([0.5], dtype=torch.float64)
    kept = denoiser.cached(denoiser.remember(past)).gaussian_covariance(t)
    given = ConditionedDenoiser(denoiser, past).gaussian_covariance(t)
    assert kept is not None
    assert given is not None
    torch.testing.assert_close(kept(x), given(x), rtol=0, atol=0)
