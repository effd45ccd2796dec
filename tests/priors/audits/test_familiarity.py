"""The figures of familiarity against a Gaussian prior, whose residual is known in closed form."""

import math

import numpy as np
import pytest
import torch

from priors.audits.familiarity import LEVELS_HU, levels_of, reference, residual, score, spread_slices
from priors.audits.verdict import Check, Verdict, score_check, sentence
from priors.card import Prior, card_of_prior
from priors.diffusion.denoiser import GaussianDenoiser
from priors.diffusion.schedule import EDM

SIDE, SLICES = 32, 12
VARIANCE, MEAN = 0.04, 0.05


@pytest.fixture(scope="module")
def prior() -> Prior:
    """Independent pixels around 50 HU with a deviation of 200 HU."""
    denoiser = GaussianDenoiser(
        torch.full((1, SIDE, SIDE), MEAN),
        VARIANCE * torch.eye(SIDE * SIDE),
        schedule=EDM(sigma_min=0.005, sigma_max=20.0),
    )
    return Prior.assembled(denoiser, card_of_prior("ct-chest-256"))


def slices(offset: float) -> np.ndarray:
    return np.full((SLICES, SIDE, SIDE), 1000 * (MEAN + offset), np.float32)


def expected(offset: float) -> tuple[float, ...]:
    """d = -s^2 / (v + s^2) offset + v s / (v + s^2) z, of known mean and square."""
    r, beta = [], []
    for hu in LEVELS_HU:
        s = hu / 1000
        mean = -(s**2) / (VARIANCE + s**2) * offset
        noise = VARIANCE * s / (VARIANCE + s**2)
        r.append(math.hypot(mean, noise))
        beta.append(mean / r[-1])
    return (math.log(r[2] / r[1]), math.log(r[0] / r[1]), beta[2], beta[1], math.log(r[0]))


@pytest.mark.parametrize("offset", [0.0, 0.2, -0.3])
def test_the_figures_are_those_of_the_closed_form(prior: Prior, offset: float) -> None:
    found = residual(prior, slices(offset))
    assert found is not None
    # 12,288 pixels: a mean is known to 0.009 deviations, a logarithm of a deviation to 0.006.
    np.testing.assert_allclose(found.figures, expected(offset), atol=0.03)
    # Independent pixels have no right way up: every turned copy is denoised as well.
    np.testing.assert_allclose(found.turned, 1.0, atol=0.02)


def test_air_alone_is_not_judged(prior: Prior) -> None:
    assert residual(prior, np.full((2, SIDE, SIDE), -1000.0, np.float32)) is None


def test_a_prior_that_lacks_a_level_is_not_judged(prior: Prior) -> None:
    card = prior.card.model_copy(update={"schedule": EDM(sigma_min=0.1, sigma_max=20.0)})
    assert levels_of(card) is None
    assert levels_of(prior.card) == pytest.approx((0.05, 0.2, 0.7))


def test_the_reference_leaves_patients_out() -> None:
    generator = np.random.default_rng(0)
    blocks = {
        name: [tuple(0.2 * generator.standard_normal(5) + shift) for _ in range(4)]
        for name, shift in (("a", 0.0), ("b", 0.0), ("c", 0.0), ("strange", 5.0))
    }
    found = reference(blocks, slices=4, data="four")
    assert found.left_out["strange"] > 10
    assert max(found.left_out[name] for name in "abc") < 4
    assert score(found.mean, found.mean, found.deviation) == 0.0


def test_verdicts_are_the_worst_of_the_checks() -> None:
    assert Verdict.of([], 1.0).name == "familiar"
    unsure, bad = Check("unfamiliar", "pixels"), Check("do-not-believe", "residual")
    found = Verdict.of([unsure, bad], 5.0)
    assert found.metrics() == {"verdict": "do-not-believe", "score": 5.0, "reasons": ["residual", "pixels"]}
    assert sentence(found.metrics()) == "familiarity: do-not-believe (score 5): residual; pixels"
    assert [check.verdict for check in score_check(3.5, "")] == ["unfamiliar"]
    assert [check.verdict for check in score_check(4.5, "")] == ["do-not-believe"]
    assert score_check(2.9, "") == score_check(None, "") == []


def test_slices_are_spread_over_the_volume() -> None:
    assert spread_slices(3) == [0, 1, 2]
    assert spread_slices(100, 5) == [0, 25, 50, 74, 99]
