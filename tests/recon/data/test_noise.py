"""Counts and weights against their own statistics."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from priors.runtime.errors import InputError
from recon.data.noise import FLOOR, Exposure, draw_counts, line_integrals
from recon.data.units import attenuation_to_hu, hu_to_attenuation


@pytest.mark.parametrize("exposure", [Exposure(1e4), Exposure(1e4, 200.0, 30.0)])
@pytest.mark.parametrize("p", [0.0, 1.0, 3.0])
def test_weights_are_inverse_variances(exposure: Exposure, p: float) -> None:
    draws = 40_000
    counts = draw_counts(np.full((draws, 1, 1), np.exp(-p)), exposure, np.random.default_rng(0))
    sinogram, weights = line_integrals(counts, exposure)
    # The relative error of a variance over n draws is sqrt(2 / n) = 0.7 %; four of them and the curvature of
    # the log.
    assert sinogram.var() * np.median(weights) == pytest.approx(1, rel=0.05)
    assert sinogram.mean() == pytest.approx(
        p, abs=float(5 / np.sqrt(weights.mean() * draws) + 2 / weights.mean())
    )


def test_counts_have_the_stated_mean_and_variance() -> None:
    exposure = Exposure(500.0, 20.0, 10.0)
    counts = draw_counts(np.full((100, 20, 20), 0.4), exposure, np.random.default_rng(1))
    # 40 000 draws of standard deviation 18: the mean is known to 0.09, the variance to 0.7 %.
    assert counts.mean() == pytest.approx(220, abs=0.4)
    assert counts.var() == pytest.approx(220 + 100, rel=0.03)


def test_the_same_seed_gives_the_same_counts() -> None:
    transmission = np.random.default_rng(2).uniform(0.1, 1, (3, 4, 5))
    one, two = (draw_counts(transmission, Exposure(100.0), np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(one, two)


def test_an_isolated_zero_count_is_finite_and_weighs_little() -> None:
    counts = np.full((2, 3, 4), 900, np.float32)
    counts[1, 2, 3] = 0
    sinogram, weights = line_integrals(counts, Exposure(1000.0))
    assert sinogram[1, 2, 3] == pytest.approx(-np.log(FLOOR / 1000))
    assert weights[1, 2, 3] == pytest.approx(FLOOR)
    assert weights[0, 0, 0] == 900


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "NaN"), (np.inf, "NaN or infinite"), (-3.0, "negative"), (1e7, "more than ten times i0")],
)
def test_impossible_counts_are_refused(value: float, message: str) -> None:
    counts = np.full((2, 3, 4), 900, np.float32)
    counts[1, 2, 0] = value
    with pytest.raises(InputError, match=message):
        line_integrals(counts, Exposure(1000.0))


def test_views_without_a_single_count_are_refused() -> None:
    counts = np.full((3, 3, 4), 900, np.float32)
    counts[1] = 0
    with pytest.raises(InputError, match="view 1 holds only zeros"):
        line_integrals(counts, Exposure(1000.0))
    with pytest.raises(InputError, match="every value is zero"):
        line_integrals(np.zeros_like(counts), Exposure(1000.0))


@pytest.mark.parametrize(
    "wrong", [{"i0": 0.0}, {"i0": -1.0}, {"i0": np.inf}, {"i0": 1.0, "background": -1.0}]
)
def test_impossible_exposures_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match="expected"):
        Exposure(**wrong)


@given(st.floats(-1000, 3000), st.floats(0.01, 0.03))
def test_units_are_inverse_to_each_other(hu: float, mu_water: float) -> None:
    mu = hu_to_attenuation(np.array([hu]), mu_water)
    np.testing.assert_allclose(attenuation_to_hu(mu, mu_water), [hu], atol=1e-9)


def test_water_and_air_have_their_definitions() -> None:
    np.testing.assert_allclose(hu_to_attenuation(np.array([0.0, -1000.0]), 0.02), [0.02, 0.0], atol=1e-18)
