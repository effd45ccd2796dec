"""Audits against closed forms: Gaussian flows, a denoiser that can only copy, features of known covariance."""

import numpy as np
import pytest
import torch

from priors.audits.features import icr, kurtosis
from priors.audits.flow_distance import distance, flow
from priors.diffusion.denoiser import Denoiser, GaussianDenoiser, broadcast_scales
from priors.diffusion.samplers.sampler import Multistep
from priors.diffusion.schedule import EDM
from priors.training.memorisation.copying import copies, copying, nearest, thumbnails
from priors.training.memorisation.gap import gap, overfits
from priors.training.slices.gallery import drawn

SCHEDULE = EDM(sigma_min=0.005, sigma_max=20.0)
SIDE = 6


def gaussian(mean: float, variance: float, correlation: float) -> GaussianDenoiser:
    places = torch.cartesian_prod(torch.arange(SIDE), torch.arange(SIDE)).double()
    covariance = variance * correlation ** torch.cdist(places, places)
    return GaussianDenoiser(torch.full((1, SIDE, SIDE), mean), covariance.float(), schedule=SCHEDULE)


def closed_flow(prior: GaussianDenoiser, noise: torch.Tensor, start: float) -> torch.Tensor:
    """m + C^(1/2) (C + T^2)^(-1/2) (x - m)"""
    gain = (prior.values / (prior.values + start**2)).sqrt()
    centred = noise.flatten(1) - prior.mean.flatten()
    return (prior.mean.flatten() + (centred @ prior.vectors * gain) @ prior.vectors.T).reshape(noise.shape)


def test_the_flow_of_a_gaussian_is_its_closed_form() -> None:
    prior = gaussian(-0.3, 0.5, 0.6)
    noise = 20 * torch.randn(16, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    found = flow(prior, noise, start=20.0)
    # Heun's method in 40 steps: errors of a few thousandths of the deviation 0.7.
    torch.testing.assert_close(found, closed_flow(prior, noise, 20.0), rtol=0, atol=0.02)


def test_the_flow_distance_is_that_of_the_closed_forms() -> None:
    first, second = gaussian(0.0, 0.5, 0.6), gaussian(0.1, 0.8, 0.2)
    found = distance(first, second, (1, SIDE, SIDE), count=64)
    noise = 20 * torch.randn((64, 1, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    apart = closed_flow(first, noise, 20.0) - closed_flow(second, noise, 20.0)
    expected = float(apart.double().flatten(1).square().sum(1).mean().sqrt())
    assert found["pfd"] == pytest.approx(expected, rel=0.02)
    assert distance(first, first, (1, SIDE, SIDE), count=4)["pfd"] == 0.0


def test_the_icr_of_known_covariances_is_its_closed_form() -> None:
    generator = np.random.default_rng(0)
    d, images, views = 6, 4000, 6
    signal = np.diag(np.linspace(0.5, 3.0, d))
    noise = np.diag(np.linspace(0.4, 1.6, d))
    sigma = generator.multivariate_normal(np.zeros(d), signal, images)
    xi = generator.multivariate_normal(np.zeros(d), noise, (images, views))
    expected = 1 / (1 + np.mean(np.diag(signal) / np.diag(noise)))
    # Covariances of 4,000 images are known to 2 %.
    assert icr(sigma[:, None] + xi) == pytest.approx(expected, rel=0.03)


def test_the_kurtosis_of_a_normal_distribution_is_three() -> None:
    generator = np.random.default_rng(0)
    assert kurtosis(generator.standard_normal(100_000)) == pytest.approx(3.0, abs=0.1)
    assert kurtosis(generator.laplace(size=100_000)) == pytest.approx(6.0, abs=0.5)


class Empirical(Denoiser):
    """The best denoiser of a training set: it knows nothing but these slices."""

    def __init__(self, data: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("data", data)
        self.schedule = SCHEDULE

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        alpha, sigma = broadcast_scales(self.schedule, x_t, t)
        u, s = x_t / alpha, (sigma / alpha).flatten()[:, None]
        squared = torch.cdist(u.flatten(1), self.data.flatten(1)).square()
        weights = torch.softmax(-squared / (2 * s**2), dim=1)
        return (weights @ self.data.flatten(1)).reshape(x_t.shape)


@pytest.fixture(scope="module")
def patients() -> dict[str, torch.Tensor]:
    """Four series: smooth patterns of their own, slices of one series alike."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for name in "abcd":
        base = torch.nn.functional.interpolate(
            torch.randn(1, 1, 4, 4, generator=generator), (32, 32), mode="bilinear"
        )
        steps = 0.1 * torch.nn.functional.interpolate(
            torch.randn(20, 1, 4, 4, generator=generator), (32, 32), mode="bilinear"
        )
        found[name] = base + steps
    return found


def audited(denoiser: Denoiser, patients: dict[str, torch.Tensor]) -> dict[str, float]:
    samples = drawn(denoiser, Multistep(steps=24), (64, 1, 32, 32), seed=1)[:, 0]
    return copying(thumbnails(samples), {name: thumbnails(x[:, 0]) for name, x in patients.items()})


def test_a_prior_that_can_only_copy_is_caught(patients: dict[str, torch.Tensor]) -> None:
    known = {name: x for name, x in patients.items() if name != "d"}
    data = torch.cat(list(known.values()))
    figures = audited(Empirical(data), known)
    assert copies(figures)
    assert figures["share_below"] == 1.0
    apart = gap(Empirical(data), data[::6], patients["d"][::2])
    assert overfits(apart)
    assert min(apart["gap_0.1"], apart["gap_0.3"], apart["gap_1"]) > 0.5


def test_a_prior_of_the_same_moments_is_not(patients: dict[str, torch.Tensor]) -> None:
    # Many patients' second moments, none of whom is a training patient.
    generator = torch.Generator().manual_seed(5)
    others = torch.nn.functional.interpolate(
        torch.randn(2000, 1, 4, 4, generator=generator), (32, 32), mode="bilinear"
    ).flatten(1)
    covariance = others.T @ others / len(others) + 1e-4 * torch.eye(1024)
    prior = GaussianDenoiser(torch.zeros(1, 32, 32), covariance, schedule=SCHEDULE)
    figures = audited(prior, patients)
    assert not copies(figures)
    apart = gap(prior, torch.cat([patients[name] for name in "abc"])[::6], patients["d"][::2])
    assert not overfits(apart)


def smooth(count: int, *, seed: int) -> torch.Tensor:
    """Return many patients' smooth patterns, one slice each."""
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.interpolate(
        torch.randn(count, 1, 4, 4, generator=generator), (SIDE, SIDE), mode="bilinear"
    )


def test_priors_that_copy_disagree_between_halves_of_the_patients_and_others_agree() -> None:
    """The flow distance over the deviation of samples: near sqrt(2) where nothing is shared but the distribution."""

    def apart(first: Denoiser, second: Denoiser) -> float:
        found = distance(first, second, (1, SIDE, SIDE), count=32, steps=20)
        return found["pfd_per_value"] / found["deviation"]

    def fitted(x: torch.Tensor) -> GaussianDenoiser:
        flat = x.flatten(1)
        covariance = torch.cov(flat.T) + 1e-4 * torch.eye(flat.shape[1])
        return GaussianDenoiser(x.mean(0), covariance, schedule=SCHEDULE)

    few = [smooth(16, seed=seed) for seed in (1, 2)]
    many = [smooth(2000, seed=seed) for seed in (3, 4)]
    assert apart(*(Empirical(x) for x in few)) > 0.5
    # 2,000 patterns of 16 numbers: their second moments are known to 3 %.
    assert apart(*(fitted(x) for x in many)) < 0.15


def test_distances_are_to_the_nearest() -> None:
    points = np.array([[0.0, 0.0], [3.0, 4.0]], np.float32)
    np.testing.assert_allclose(nearest(np.array([[3.0, 3.0]], np.float32), points), np.sqrt(0.5))
