"""Rain that evolves keeps its distribution, its texture and its dryness; a prior is heard as far as it was right."""

import numpy as np
import pytest
from scipy import ndimage

from assimilation.inference.nowcast.cascade import Cascade, decibels, rain_of
from assimilation.inference.nowcast.evolution import Evolution, matched, skill
from assimilation.inference.nowcast.noise import Texture, drift

SIZE = 64


def showers(seed: int, frames: int = 4) -> np.ndarray:
    """(f, y, x) in mm/h, in the left half only; changing slowly."""
    generator = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(generator.normal(size=(frames + 6, SIZE, SIZE)), (2, 3, 3))[3:-3]
    rain = np.where(noise > 0.01, 10 ** (40 * noise), 0)
    rain[..., SIZE // 2 :] = 0
    return rain


def grown(evolution: Evolution, steps: int, seed: int = 0) -> np.ndarray:
    member, generator = evolution.start, np.random.default_rng(seed)
    for _ in range(steps):
        member = evolution.step(member, generator)
    return evolution.frame(member[0])


def test_a_frame_has_the_distribution_of_the_last_one_seen():
    frames = showers(0)
    frame = grown(Evolution.seen(frames), 4)
    np.testing.assert_allclose(np.sort(frame, axis=None), np.sort(decibels(frames[-1]), axis=None))
    assert rain_of(frame).max() == pytest.approx(frames[-1].max(), rel=1e-9)


def test_where_nothing_rains_nothing_appears():
    frame = rain_of(grown(Evolution.seen(showers(1)), 6))
    # An hour on, the largest bands, whose deviation reaches half a wavelength, have forgotten a little of where it was
    # dry: the far eighth has less than a fiftieth of the rain, instead of an eighth if it could rain anywhere.
    assert frame[:, 56:].sum() < 0.02 * frame.sum()


def test_near_the_start_the_frame_is_the_last_one_and_later_less_so():
    frames = showers(2)
    evolution = Evolution.seen(frames)
    correlations = [
        np.corrcoef(grown(evolution, steps).ravel(), decibels(frames[-1]).ravel())[0, 1] for steps in (1, 6)
    ]
    assert correlations[0] > 0.9
    assert correlations[1] < correlations[0]


def test_no_rain_stays_no_rain():
    assert (rain_of(grown(Evolution.seen(np.zeros((4, SIZE, SIZE))), 3)) == 0).all()


def test_noise_has_the_anisotropy_of_the_field():
    y, x = np.mgrid[:SIZE, :SIZE]
    field = np.sin(2 * np.pi * (x + y) / 16) * 8
    cascade = Cascade((SIZE, SIZE))
    bands = Texture.of(field, cascade).draw(np.random.default_rng(0))
    # Crests are 16 / sqrt(2) cells apart.
    noise = bands[np.argmin(np.abs(np.log(cascade.wavelengths * np.sqrt(2) / 16)))]
    along = np.corrcoef(noise[:-8, 8:].ravel(), noise[8:, :-8].ravel())[0, 1]
    across = np.corrcoef(noise[:-8, :-8].ravel(), noise[8:, 8:].ravel())[0, 1]
    # Eight cells along the crests are the same wave; eight cells in both axes across them are a whole wave, too: half
    # a wave across is (4, 4).
    half = np.corrcoef(noise[:-4, :-4].ravel(), noise[4:, 4:].ravel())[0, 1]
    assert along > 0.8
    assert half < -0.3 < across


def test_a_prior_is_heard_as_far_as_it_was_right():
    cascade, generator = Cascade((SIZE, SIZE)), np.random.default_rng(3)
    guess, missed, other = (cascade.bands(generator.normal(size=(SIZE, SIZE))) for _ in range(3))
    truth = guess + missed
    assert skill(truth, guess, truth, cascade.wavelengths)[-3:] == pytest.approx(1, abs=0.05)
    assert skill(truth, guess, guess + other, cascade.wavelengths).max() < 0.05
    assert skill(truth, guess, guess - missed, cascade.wavelengths).max() == 0
    # Half of what it says is noise of the same power: the regression is 1/2.
    found = skill(truth, guess, guess + missed + other, cascade.wavelengths)
    assert found[-3:] == pytest.approx(0.5, abs=0.06)


def test_a_perfect_prior_takes_over():
    frames = showers(4, frames=5)
    evolution = Evolution.seen(frames[:4], expected=frames[3])
    assert evolution.shares[-3:].min() > 0.8
    member = evolution.step(evolution.start, np.random.default_rng(0), expected=frames[4])
    alone = Evolution.seen(frames[:4])
    other = alone.step(alone.start, np.random.default_rng(0))
    truth = decibels(frames[4])
    errors = [np.abs(each[0].sum(axis=0) + alone.mean.sum() - truth).mean() for each in (member, other)]
    assert errors[0] < errors[1]


def test_matching_keeps_the_order():
    field, target = np.array([[3.0, 1.0], [2.0, 0.0]]), np.array([[10.0, -15.0], [-15.0, 5.0]])
    assert matched(field, target).tolist() == [[10, -15], [5, -15]]


def test_drift_has_the_deviations_of_bowler():
    draws = np.random.default_rng(0).laplace(scale=1 / np.sqrt(2), size=(20000, 2))
    found = np.std([drift(np.array([0.0, 3.0]), 60.0, each) for each in draws], axis=0)
    # The deviation of a Laplace sample's deviation is sqrt((kurtosis - 1) / 4 n) = 0.8 %; the motion is along x.
    assert found == pytest.approx([5.76 * 60**0.31 - 2.72, 10.88 * 60**0.23 - 7.68], rel=0.04)
    assert (drift(np.zeros(2), 0.05, np.ones(2)) == 0).all()
