"""Schedules: what makes each usable, the inverse, and the published tables and formulas they claim to be."""

import math

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from priors.diffusion.fitted import Averaged
from priors.diffusion.schedule import (
    EDM,
    VP,
    AnySchedule,
    Betas,
    Cosine,
    Discrete,
    Geometric,
    Rectified,
    Schedule,
    Spaced,
)

DDPM_BETAS = tuple(np.linspace(1e-4, 0.02, 1000).tolist())
SCHEDULES = [
    VP(),
    VP(beta_min=0.5, beta_max=10.0, start=1e-5),
    Cosine(),
    Cosine(start=0.01, stop=0.9),
    EDM(),
    EDM(sigma_min=0.005, sigma_max=20.0, rho=3.0),
    Spaced(),
    Spaced(ratio_min=0.01, ratio_max=20.0, rho=3.0),
    Rectified(),
    Rectified(start=0.01, stop=0.99),
    Discrete(betas=DDPM_BETAS),
    Discrete(betas=(0.1, 0.2)),
    Geometric(),
    Betas(kind="scaled_linear", start=0.0015, stop=0.0195),
    Betas(kind="cosine", count=50, zero_terminal=True),
    Averaged(inner=EDM()),
]
TIMES = torch.linspace(0, 1, 1001, dtype=torch.float64)

every_schedule = pytest.mark.parametrize("schedule", SCHEDULES)


def final_subclasses() -> set[type[Schedule]]:
    found, queue = set(), [Schedule]
    while queue:
        children = queue.pop().__subclasses__()
        queue += children
        # Those of a card; a schedule that a sampler wraps around them for itself is examined with the sampler.
        own = {kind for kind in children if ".samplers." not in kind.__module__}
        found |= {kind for kind in own if not kind.__subclasses__()}
    return found


def test_every_schedule_is_examined():
    assert {type(schedule) for schedule in SCHEDULES} == final_subclasses()


@every_schedule
def test_the_noise_level_grows_strictly_from_a_positive_to_a_finite_value(schedule):
    ratio = schedule.ratio(TIMES)
    assert ratio.dtype == torch.float64
    assert float(ratio[0]) > 0
    assert math.isfinite(float(ratio[-1]))
    assert bool((ratio.diff() > 0).all())


@every_schedule
def test_scales_are_positive_and_alpha_never_grows(schedule):
    alpha, sigma = schedule(TIMES)
    assert bool((alpha > 0).all())
    assert bool((sigma > 0).all())
    assert bool((alpha.diff() <= 0).all())


@every_schedule
def test_the_inverse_names_the_time_of_a_noise_level(schedule):
    # The worst-conditioned map is EDM's seventh power: 1e-16 relative in s is 1e-15 in t; 1e-9 is far above it.
    torch.testing.assert_close(schedule.inverse(schedule.ratio(TIMES)), TIMES, rtol=0, atol=1e-9)


@every_schedule
def test_levels_out_of_range_give_the_ends(schedule):
    low, high = (float(schedule.ratio(torch.tensor(t))) for t in (0.0, 1.0))
    times = schedule.inverse(torch.tensor([low / 2, 2 * high], dtype=torch.float64))
    assert times.tolist() == [0.0, 1.0]


@every_schedule
def test_times_keep_their_shape_and_precision_is_double_for_single_input(schedule):
    t = torch.rand(2, 3, generator=torch.Generator().manual_seed(0))
    for scale in (*schedule(t), schedule.ratio(t), schedule.inverse(schedule.ratio(t))):
        assert scale.shape == (2, 3)
        assert scale.dtype == torch.float64


@every_schedule
def test_yaml_builds_it_again(schedule):
    again = type(schedule).model_validate_json(schedule.model_dump_json())
    assert again == schedule
    if not isinstance(schedule, Averaged):  # which a card never names
        assert TypeAdapter(AnySchedule).validate_json(schedule.model_dump_json()) == schedule


@pytest.mark.parametrize("schedule", [VP(), Cosine(), Spaced(), Discrete(betas=DDPM_BETAS)])
def test_variance_is_preserved(schedule):
    alpha, sigma = schedule(TIMES)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(alpha), rtol=0, atol=1e-14)


def test_vp_solves_its_differential_equation():
    # d log alpha / dr = -beta(r) / 2 with beta linear; central differences are wrong by O(h^2) only.
    schedule = VP()
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    h = 1e-5
    slope = (torch.log(schedule(t + h)[0]) - torch.log(schedule(t - h)[0])) / (2 * h)
    r = schedule.start + (1 - schedule.start) * t
    beta = schedule.beta_min + (schedule.beta_max - schedule.beta_min) * r
    torch.testing.assert_close(slope, -0.5 * beta * (1 - schedule.start), rtol=1e-7, atol=0)


def test_vp_is_the_continuum_of_the_ddpm_table():
    # Song et al.: beta(t) = T beta_n. Sums of log(1 - beta) and of -beta differ by half the sum of beta^2, 0.067.
    discrete, vp = Discrete(betas=DDPM_BETAS), VP(beta_min=0.1, beta_max=20.0)
    t = torch.linspace(0.05, 1, 20, dtype=torch.float64)
    torch.testing.assert_close(discrete.ratio(t).log(), vp.ratio(t).log(), rtol=0, atol=0.035)


def test_edm_levels_are_those_of_karras():
    # Eq. 5 with i counted from the noisy end.
    steps, low, high, rho = 18, 0.002, 80.0, 7.0
    i = np.arange(steps)
    expected = (high ** (1 / rho) + i / (steps - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    found = EDM().ratio(torch.linspace(1, 0, steps, dtype=torch.float64))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)


def test_discrete_reproduces_the_ddpm_table_at_every_training_step():
    kept = np.cumprod(1 - np.array(DDPM_BETAS))
    alpha, sigma = Discrete(betas=DDPM_BETAS)(torch.linspace(0, 1, 1000, dtype=torch.float64))
    np.testing.assert_allclose(alpha.numpy(), np.sqrt(kept), rtol=1e-10)
    np.testing.assert_allclose(sigma.numpy(), np.sqrt(1 - kept), rtol=1e-10)
    # The table's published end: alpha_bar(1000) = 4.04e-5, so sigma / alpha = 157.
    assert float(sigma[-1] / alpha[-1]) == pytest.approx(157.4, abs=0.1)


def test_discrete_is_log_linear_between_training_steps():
    schedule = Discrete(betas=(0.1, 0.2, 0.3))
    log = schedule.ratio(torch.tensor([0.5, 0.75, 1.0], dtype=torch.float64)).log()
    assert float(log[1]) == pytest.approx(0.5 * float(log[0] + log[2]), abs=1e-12)


@pytest.mark.parametrize(
    "mistake",
    [
        {"name": "edm", "sigma_min": 2.0, "sigma_max": 1.0},
        {"name": "vp", "beta_min": 20.0, "beta_max": 0.1},
        {"name": "cosine", "start": 0.0},
        {"name": "cosine", "start": 0.9, "stop": 0.5},
        {"name": "rectified", "start": 0.5, "stop": 0.5},
        {"name": "discrete", "betas": [0.1]},
        {"name": "discrete", "betas": [0.1, 1.0]},
        {"name": "karras"},
        {"name": "edm", "rho": 7.0, "sigma": 1.0},
    ],
)
def test_an_unusable_schedule_is_refused(mistake):
    with pytest.raises(ValidationError):
        TypeAdapter(AnySchedule).validate_python(mistake)
