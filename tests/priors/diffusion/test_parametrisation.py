"""Parametrisations: the target is an output that gives back the clean data, and EDM's unit variances."""

import pytest
import torch
from pydantic import TypeAdapter

from priors.diffusion.parametrisation import (
    AnyParametrisation,
    Clean,
    Flow,
    Noise,
    Parametrisation,
    Preconditioned,
    Score,
    Velocity,
)
from priors.diffusion.schedule import EDM, VP, Cosine, Rectified

PARAMETRISATIONS = [
    Noise(),
    Clean(),
    Velocity(),
    Score(),
    Flow(),
    Preconditioned(sigma_data=0.7),
]
SCHEDULES = [VP(), Cosine(), EDM(), Rectified()]

every_one = pytest.mark.parametrize("parametrisation", PARAMETRISATIONS, ids=lambda p: p.name)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: s.name)


def normal(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_every_parametrisation_is_examined():
    assert {type(one) for one in PARAMETRISATIONS} == set(Parametrisation.__subclasses__())


@every_one
@every_schedule
def test_the_target_is_an_output_that_gives_the_clean_data(parametrisation, schedule):
    t = torch.linspace(0, 1, 33, dtype=torch.float64)
    alpha, sigma = (scale[:, None] for scale in schedule(t))
    x, z = normal(33, 50, seed=1), normal(33, 50, seed=2)
    x_t = alpha * x + sigma * z
    again = parametrisation.clean(parametrisation.target(x, z, alpha, sigma), x_t, alpha, sigma)
    # Noise and score divide by alpha, down to 4e-5: rounding of 1e-16 sigma is amplified by sigma / alpha.
    tolerance = 1e-14 * (1 + sigma / alpha) * 10
    assert bool(((again - x).abs() <= tolerance).all())


@every_one
def test_a_scale_per_frame_works_like_a_scale_per_sample(parametrisation):
    alpha, sigma = (scale[..., None] for scale in VP()(torch.tensor([[0.2, 0.6], [0.9, 0.4]])))
    output, x_t = normal(2, 2, 5, seed=3), normal(2, 2, 5, seed=4)
    whole = parametrisation.clean(output, x_t, alpha, sigma)
    for b, f in ((0, 1), (1, 0)):
        alone = parametrisation.clean(output[b, f], x_t[b, f], alpha[b, f], sigma[b, f])
        torch.testing.assert_close(whole[b, f], alone, rtol=0, atol=0)


@every_schedule
@pytest.mark.parametrize("time", [0.01, 0.3, 0.6, 0.99])
def test_edm_input_and_target_have_unit_variance(schedule, time):
    # Only data, noise and sigma_data matter; 4e5 draws give the variance to 1 / sqrt(2e5) = 0.22 %: four deviations.
    deviation, count = 0.3, 400_000
    edm = Preconditioned(sigma_data=deviation)
    alpha, sigma = schedule(torch.tensor(time))
    x, z = deviation * normal(count, seed=5), normal(count, seed=6)
    seen = edm.network_input(alpha * x + sigma * z, alpha, sigma)
    assert float(seen.var()) == pytest.approx(1, abs=0.009)
    assert float(edm.target(x, z, alpha, sigma).var()) == pytest.approx(1, abs=0.009)


@every_one
def test_the_mean_target_gives_the_posterior_mean(parametrisation):
    # clean() is affine in the output, so E[target | x_t] must give E[x | x_t]; two-point data make both sums exact.
    alpha, sigma = VP()(torch.tensor(0.5))
    values = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    x_t = torch.tensor(0.4, dtype=torch.float64)
    z = (x_t - alpha * values) / sigma
    weights = torch.softmax(-0.5 * z**2, 0)
    output = (weights * parametrisation.target(values, z, alpha, sigma)).sum()
    estimate = parametrisation.clean(output, x_t, alpha, sigma)
    assert float(estimate) == pytest.approx(float((weights * values).sum()), rel=1e-12)


def test_the_score_is_the_gradient_of_the_log_density():
    # Gaussian data of deviation d: log p(x_t) is Gaussian with variance alpha^2 d^2 + sigma^2.
    alpha, sigma, deviation, x_t = 0.8, 0.6, 0.5, 1.3
    variance = alpha**2 * deviation**2 + sigma**2
    mean = alpha * deviation**2 / variance * x_t
    gradient = torch.tensor(-x_t / variance)
    scales = (torch.tensor(alpha), torch.tensor(sigma))
    assert float(Score().clean(gradient, torch.tensor(x_t), *scales)) == pytest.approx(mean, rel=1e-6)


@every_one
def test_yaml_builds_it_again(parametrisation):
    again = TypeAdapter(AnyParametrisation).validate_json(parametrisation.model_dump_json())
    assert again == parametrisation
