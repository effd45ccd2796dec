"""Errors and biases of observations: against Gaussians in closed form and simulated stations."""

import numpy as np
import pytest

from assimilation.verification.observation_errors import (
    Samples,
    centred,
    desroziers,
    paule_mandel,
    station_biases,
    withheld_error,
)

STATIONS, TIMES = 12, 2000
SIGMA_O = 0.8


def background_covariance() -> np.ndarray:
    place = np.arange(STATIONS)
    return 1.5**2 * np.exp(-np.abs(place[:, None] - place) / 2.0)


def simulated(assumed: float, *, bias: np.ndarray | None = None, seed: int = 0) -> Samples:
    """Innovations of a Gaussian background, and residuals of the analysis with the assumed observation error."""
    draw = np.random.default_rng(seed)
    covariance = background_covariance()
    root = np.linalg.cholesky(covariance)
    errors = draw.normal(size=(TIMES, STATIONS)) @ root.T
    innovation = SIGMA_O * draw.normal(size=(TIMES, STATIONS)) - errors
    innovation = innovation if bias is None else innovation + bias
    gain = covariance @ np.linalg.inv(covariance + assumed**2 * np.eye(STATIONS))
    residual = innovation - innovation @ gain.T
    time, place = np.mgrid[:TIMES, :STATIONS]
    flat = [each.ravel() for each in (innovation, residual)]
    variance = np.full(time.size, assumed**2)
    return Samples(np.zeros(time.size, int), place.ravel(), time.ravel(), *flat, variance).of(0)


def closed_form(assumed: float) -> float:
    """The estimate of an infinite sample: tr(R' (B + R')^-1 (B + R)) / n with R' the assumed covariance."""
    covariance, unit = background_covariance(), np.eye(STATIONS)
    product = assumed**2 * np.linalg.inv(covariance + assumed**2 * unit) @ (covariance + SIGMA_O**2 * unit)
    return float(np.sqrt(np.trace(product) / STATIONS))


@pytest.mark.parametrize("assumed", [0.3, SIGMA_O, 2.0])
def test_the_estimate_is_the_one_of_gaussians(assumed: float) -> None:
    found = desroziers(simulated(assumed))
    # 24,000 products, of which those of one time are correlated: 2 % is three standard errors.
    assert found.estimated == pytest.approx(closed_form(assumed), rel=0.02)
    assert found.uncertainty == pytest.approx(found.estimated / np.sqrt(2 * TIMES * STATIONS), rel=1.0)
    assert found.stated == pytest.approx(assumed)
    assert found.factor == pytest.approx(found.estimated / assumed)


def test_with_the_true_error_both_errors_are_found() -> None:
    found = desroziers(simulated(SIGMA_O))
    assert found.estimated == pytest.approx(SIGMA_O, rel=0.02)
    assert found.background == pytest.approx(1.5, rel=0.04)


@pytest.mark.parametrize("first", [0.2, 3.0])
def test_estimating_again_with_what_was_estimated_leads_to_the_truth(first: float) -> None:
    assumed = first
    for _ in range(30):
        assumed = closed_form(assumed)
    assert assumed == pytest.approx(SIGMA_O, rel=0.02)
    once = desroziers(simulated(first)).estimated
    assert min(first, SIGMA_O) * 0.98 < once < max(first, SIGMA_O) * 1.02


def test_a_bias_is_no_error_variance() -> None:
    bias = np.random.default_rng(1).normal(0, 3, STATIONS)
    # Residuals are linear in innovations: centring within places takes the bias out of both exactly.
    plain, biased = desroziers(simulated(SIGMA_O)), desroziers(simulated(SIGMA_O, bias=bias))
    assert biased.estimated == pytest.approx(plain.estimated, rel=1e-9)


def test_withheld_observations_tell_their_error_without_the_gain() -> None:
    samples = simulated(SIGMA_O)
    found = withheld_error(samples, 1.5**2)
    # Variance of the variance: innovations have 2.89, of which 2.25 is taken off; known to 3 % and doubled by it.
    assert found.estimated == pytest.approx(SIGMA_O, rel=0.08)


def test_nothing_positive_is_no_estimate() -> None:
    samples = simulated(SIGMA_O)
    opposed = Samples(**{**vars(samples), "residual": -samples.residual})
    assert desroziers(opposed).estimated is None
    assert desroziers(opposed).factor is None


def test_places_with_one_value_are_centred_together() -> None:
    values, freedom = centred(np.array([1.0, 3.0, 10.0, 20.0]), np.array([0, 0, 5, 7]))
    assert values.tolist() == [-1, 1, -5, 5]
    assert freedom == 2


def test_the_variance_among_equally_known_groups_is_in_closed_form() -> None:
    means = np.random.default_rng(0).normal(0, 2, 50)
    assert paule_mandel(means, np.full(50, 0.7)) == pytest.approx(means.var(ddof=1) - 0.7, rel=1e-6)
    assert paule_mandel(means, np.full(50, 1e3)) == 0.0


def biased_stations(times: int, stations: int = 60, *, tau: float, memory: float = 0.0, seed: int = 3):
    draw = np.random.default_rng(seed)
    beta = draw.normal(0, tau, stations)
    noise = draw.normal(size=(times, stations))
    for time in range(1, times):
        noise[time] = memory * noise[time - 1] + np.sqrt(1 - memory**2) * noise[time]
    innovation = (0.5 + beta + noise).ravel()
    time, place = np.mgrid[:times, :stations]
    rest = [innovation, innovation, np.ones(innovation.size)]
    return beta, Samples(np.zeros(innovation.size, int), place.ravel(), time.ravel(), *rest).of(0)


@pytest.mark.parametrize("memory", [0.0, 0.6])
def test_biases_are_found_as_well_as_the_best_linear_estimate_finds_them(memory: float) -> None:
    times, tau = 30, 0.4
    beta, samples = biased_stations(times, tau=tau, memory=memory)
    common, spread, found = station_biases(samples)
    estimated = np.array([one.bias for one in found])
    raw = np.array([one.mean for one in found]) - common
    # A mean of an AR(1) process has the variance (1 + r) / (1 - r) / n.
    error = (1 + memory) / (1 - memory) / times
    best = np.sqrt(tau**2 * error / (tau**2 + error))
    wrong = np.sqrt(np.mean((estimated - beta) ** 2))
    assert wrong < np.sqrt(np.mean((raw - beta) ** 2))
    # 60 stations: 9 % of a root mean square, doubled; tau and r are estimated, too.
    assert wrong == pytest.approx(best, rel=0.25)
    assert common == pytest.approx(0.5, abs=3 * np.sqrt((tau**2 + error) / 60))
    assert spread == pytest.approx(tau, rel=0.4)
    assert found[0].count == times


def test_stations_without_bias_are_left_alone() -> None:
    _, samples = biased_stations(20, tau=0.0, seed=5)
    _, spread, found = station_biases(samples)
    # tau^2 is 0 or little above: what is taken off is far below the error of a mean, 0.22, but for the few stations
    # that are more than two of them away from the others by chance.
    assert spread < 0.1
    taken = np.abs([one.bias for one in found])
    assert np.sqrt(np.mean(taken**2)) < 0.25 / np.sqrt(20)
    assert np.mean(taken > 0.1) < 0.1
    assert station_biases(biased_stations(2, tau=1.0)[1])[2] == []


def test_one_bad_station_among_good_ones_is_not_taken_for_one_of_them() -> None:
    _, samples = biased_stations(20, 300, tau=0.1, seed=6)
    innovation = samples.innovation + 2.5 * (samples.place == 7)
    _, spread, found = station_biases(Samples(**{**vars(samples), "innovation": innovation}))
    bad = next(one for one in found if one.place == 7)
    plain = spread**2 / (spread**2 + bad.error**2) * (bad.mean - 0.5)
    assert plain < 1.9 < bad.bias < 3.0
