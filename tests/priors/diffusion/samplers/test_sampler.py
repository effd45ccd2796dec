"""Samplers as distributions: with the exact denoiser of a Gaussian, samples have its mean, covariance and quantiles.

The probability-flow equation of Gaussian data has a closed solution: along an eigenvector with variance v the state
u scales by sqrt((v + r^2) / (v + s^2)) from level s to r. It gives every solver's order of convergence.
"""

import itertools
import math

import pytest
import torch
from pydantic import TypeAdapter
from scipy import stats

from priors.diffusion.denoiser import GaussianDenoiser
from priors.diffusion.samplers.few_step import Jumps
from priors.diffusion.samplers.sampler import DDIM, AnySampler, Heun, Multistep, Sampler, SamplerState
from priors.diffusion.schedule import EDM, VP, Cosine, Discrete, Rectified

SAMPLERS = [DDIM(steps=80), DDIM(steps=160, eta=1.0), Heun(steps=20), Multistep(steps=60)]
SCHEDULES = [
    EDM(sigma_min=0.01, sigma_max=20),
    VP(),
    Cosine(start=0.01, stop=0.98),
    Rectified(stop=0.98),
    Discrete(betas=tuple(torch.linspace(1e-4, 0.02, 1000).tolist())),
]
MEAN = torch.tensor([0.5, -1.0, 0.2], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.5, 0.1], [0.5, 0.8, -0.2], [0.1, -0.2, 0.3]], dtype=torch.float64)
COUNT = 4000

every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: f"{s.name}{getattr(s, 'eta', '')}")


def draw(sampler: Sampler, schedule, *, count: int = COUNT, seed: int = 0) -> torch.Tensor:
    denoiser = GaussianDenoiser(MEAN, COVARIANCE, schedule=schedule)
    generator = torch.Generator().manual_seed(seed)
    alpha, sigma = (float(scale) for scale in schedule(torch.ones(1)))
    x_1 = alpha * MEAN + sigma * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return sampler.sample(denoiser, x_1, generator=generator)


def test_every_sampler_is_examined():
    # Jumps serve only networks that were trained to jump: test_few_step.py examines them.
    assert {Jumps, *map(type, SAMPLERS)} == set(Sampler.__subclasses__())


# First-order samplers need many steps: they run on one schedule, the others on all.
CASES = [(sampler, schedule) for sampler in SAMPLERS[2:] for schedule in SCHEDULES]
CASES += [(sampler, SCHEDULES[0]) for sampler in SAMPLERS[:2]]


@pytest.mark.parametrize(("sampler", "schedule"), CASES, ids=lambda one: one.name)
def test_samples_have_the_mean_and_the_covariance(sampler, schedule):
    # Each entry of mean and covariance has deviation about 1 / sqrt(COUNT) = 0.016: four of them, plus what
    # starting at a finite level (data variance / 20^2) and a first-order method leave, at most 0.03.
    samples = draw(sampler, schedule)
    tolerance = 4 / math.sqrt(COUNT) + 0.03
    torch.testing.assert_close(samples.mean(0), MEAN, rtol=0, atol=tolerance)
    torch.testing.assert_close(torch.cov(samples.T), COVARIANCE, rtol=0, atol=tolerance)


@every_sampler
def test_samples_pass_the_kolmogorov_smirnov_test(sampler):
    # 2000 samples: a deviation wrong by 5 % or a mean by a tenth of a deviation would be rejected.
    samples = draw(sampler, SCHEDULES[0], count=2000, seed=3)
    for k in range(3):
        deviation = math.sqrt(float(COVARIANCE[k, k]))
        told = stats.kstest(samples[:, k].numpy(), "norm", args=(float(MEAN[k]), deviation))
        assert told.pvalue > 1e-3


def test_the_distribution_test_sees_a_wrong_denoiser():
    denoiser = GaussianDenoiser(MEAN, 1.5 * COVARIANCE, schedule=SCHEDULES[0])
    generator = torch.Generator().manual_seed(3)
    x_1 = 20 * torch.randn(2000, 3, generator=generator, dtype=torch.float64)
    wrong = Heun(steps=30).sample(denoiser, x_1, generator=generator)
    assert stats.kstest(wrong[:, 0].numpy(), "norm", args=(0.5, 1.0)).pvalue < 1e-3


def flow_error(sampler: Sampler, steps: int) -> float:
    """Return the error of the probability flow from level 5 to 0.05 on data N(0, 0.6)."""
    schedule, variance = EDM(sigma_min=0.05, sigma_max=5.0, rho=3.0), 0.6
    covariance = torch.tensor([[variance]], dtype=torch.float64)
    denoiser = GaussianDenoiser(torch.zeros(1, dtype=torch.float64), covariance, schedule=schedule)
    levels = schedule.ratio(torch.linspace(1, 0, steps + 1, dtype=torch.float64)).tolist()
    state = SamplerState(torch.ones(1, 1, dtype=torch.float64), levels[0])
    generator = torch.Generator().manual_seed(0)
    for level in levels[1:]:
        state = sampler.step(state, level, denoiser=denoiser, generator=generator)
    exact = math.sqrt((variance + levels[-1] ** 2) / (variance + levels[0] ** 2))
    return abs(float(state.u) - exact)


@pytest.mark.parametrize(
    ("sampler", "order"), [(DDIM(), 1), (Heun(), 2), (Multistep(), 2)], ids=["ddim", "heun", "multistep"]
)
def test_the_order_of_convergence(sampler, order):
    errors = [flow_error(sampler, steps) for steps in (40, 80, 160)]
    for coarse, fine in itertools.pairwise(errors):
        # The next term of the error expansion is below 1 / 40 relative: 0.15 of an order is generous.
        assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


def test_ancestral_steps_keep_the_marginal_variance():
    # From exact draws of u at level s, one eta = 1 step gives u at level r: variance v + r^2, up to O(step^2).
    variance, s, r = 0.6, 1.0, 0.97
    denoiser = GaussianDenoiser(
        torch.zeros(1, dtype=torch.float64),
        torch.tensor([[variance]], dtype=torch.float64),
        schedule=EDM(sigma_min=0.01, sigma_max=20),
    )
    generator = torch.Generator().manual_seed(5)
    u = math.sqrt(variance + s**2) * torch.randn(100_000, 1, generator=generator, dtype=torch.float64)
    stepped = DDIM(eta=1.0).step(SamplerState(u, s), r, denoiser=denoiser, generator=generator).u
    # Deviation of a variance of 1e5 draws: 1.54 sqrt(2 / 1e5) = 0.007; four of them.
    assert float(stepped.var()) == pytest.approx(variance + r**2, abs=0.028)
    # Fresh noise must be in it: what is left of u explains the deterministic part only.
    share = float((stepped * u).mean() / (u * u).mean())
    rest = float((stepped - share * u).var())
    assert rest == pytest.approx(r**2 * (1 - r**2 / s**2), rel=0.03)


def test_deterministic_samplers_repeat_and_seeds_matter_for_the_ancestral_one():
    schedule = SCHEDULES[0]
    denoiser = GaussianDenoiser(MEAN, COVARIANCE, schedule=schedule)
    x_1 = 20 * torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for sampler, same in ((Multistep(steps=8), True), (DDIM(steps=8, eta=1.0), False)):
        first, second = (
            sampler.sample(denoiser, x_1, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)
        )
        assert torch.equal(first, second) is same
        third = sampler.sample(denoiser, x_1, generator=torch.Generator().manual_seed(1))
        assert torch.equal(first, third)


def test_every_step_is_reported():
    told = []
    denoiser = GaussianDenoiser(MEAN, COVARIANCE, schedule=VP())
    x_1 = torch.zeros(1, 3, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    Heun(steps=3).sample(denoiser, x_1, generator=generator, on_step=lambda *step: told.append(step))
    assert told == [(1, 3), (2, 3), (3, 3)]


@every_sampler
def test_yaml_builds_it_again(sampler):
    assert TypeAdapter(AnySampler).validate_json(sampler.model_dump_json()) == sampler
