"""Radiographs to line integrals: fields, bad pixels, noise, centre of rotation."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from priors.runtime.errors import InputError
from recon.data.noise import estimate_i0
from recon.preprocess.centre_estimates import mirror_centre
from recon.preprocess.radiographs import detector_noise, fill_dead, flat_correct
from tests.support.real_data import real_data

SHAPE = (6, 2, 30)


def fields(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return raw values, darks, flats and the line integrals, without noise."""
    generator = np.random.default_rng(seed)
    lines = generator.uniform(0, 2, SHAPE)
    gain = generator.uniform(0.7, 1.3, SHAPE[1:])
    dark = np.broadcast_to(50 + 10 * gain, (3, *SHAPE[1:]))
    flat = np.broadcast_to(dark[0] + 1000 * gain, (3, *SHAPE[1:]))
    return dark[0] + 1000 * gain * np.exp(-lines), dark, flat, lines


def test_fields_and_logarithm_give_line_integrals() -> None:
    raw, dark, flat, lines = fields()
    found = flat_correct(raw, dark, flat)
    np.testing.assert_allclose(found.sinogram, lines, atol=1e-6)
    assert (found.weights > 0).all()


def test_one_bad_frame_does_not_matter() -> None:
    raw, dark, flat, lines = fields()
    flat = flat.copy()
    flat[1] *= 3
    np.testing.assert_allclose(flat_correct(raw, dark, flat).sinogram, lines, atol=1e-6)


def test_dead_pixels_are_interpolated_and_weigh_nothing() -> None:
    raw, dark, flat, lines = (a.copy() for a in fields())
    raw[:, 1, 7] = flat[:, 1, 7] = dark[0, 1, 7]
    found = flat_correct(raw, dark, flat)
    assert (found.weights[:, 1, 7] == 0).all()
    expected = (lines[:, 1, 6] + lines[:, 1, 8]) / 2
    np.testing.assert_allclose(found.sinogram[:, 1, 7], expected, atol=1e-6)
    assert (found.weights[:, 0] > 0).all()


def test_a_row_without_living_pixels_is_refused() -> None:
    with pytest.raises(InputError, match="row 1 sees no beam"):
        fill_dead(np.zeros(SHAPE), np.array([[False] * 30, [True] * 30]))


def test_gain_and_dark_noise_of_a_detector() -> None:
    generator = np.random.default_rng(1)
    dark = 100 + generator.normal(0, 4, (20, 4, 200))
    flicker = generator.uniform(0.95, 1.05, (20, 1, 1))
    flat = 100 + 2.5 * generator.poisson(4000 * flicker, (20, 4, 200))
    gain, variance = detector_noise(dark, flat)
    # A variance of 20 frames scatters by a third per pixel, its median over 800 pixels by a few percent,
    # below the mean by the skewness of chi-square (3.5 % at 19 degrees of freedom).
    assert gain == pytest.approx(2.5, rel=0.1)
    assert variance == pytest.approx(16, rel=0.1)
    assert detector_noise(dark[:1], flat[:1]) == (1.0, 0.0)


def test_lost_photons_are_estimated_from_the_noise() -> None:
    columns = np.linspace(-1, 1, 200)
    lines = np.broadcast_to(2 * np.sqrt(1 - 0.99 * columns**2), (100, 1, 200))
    counts = np.random.default_rng(2).poisson(5e3 * np.exp(-lines))
    # Median of 19600 normal differences: 1.2 % on the spread, twice that on its square.
    assert estimate_i0(-np.log(counts / 5e3)) == pytest.approx(5e3, rel=0.1)


@settings(deadline=None, max_examples=30)
@given(centre=st.floats(24, 40), views=st.integers(8, 40))
def test_facing_views_give_the_centre(centre: float, views: int) -> None:
    """Shadows of three Gaussian blobs, exact at every angle; the last view faces the first."""
    angles = np.linspace(0, 180, views + 1)
    turn = np.deg2rad(angles)[:, None]
    columns = np.arange(64.0)
    sinogram = np.zeros((views + 1, 64))
    for x, y, width in ((8.0, 3.0, 2.0), (-5.0, 9.0, 3.0), (2.0, -10.0, 1.5)):
        shadow = centre + x * np.cos(turn) + y * np.sin(turn)
        sinogram += np.exp(-((columns - shadow) ** 2) / (2 * width**2))
    assert mirror_centre(sinogram, angles) == pytest.approx(centre, abs=0.3)


def test_a_short_arc_has_no_facing_views() -> None:
    with pytest.raises(InputError, match="180 degrees apart"):
        mirror_centre(np.random.default_rng(0).uniform(size=(10, 30)), np.arange(10.0))


def _nan(raw: np.ndarray, dark: np.ndarray, flat: np.ndarray) -> tuple[np.ndarray, ...]:
    raw[2, 1, 3] = np.nan
    return raw, dark, flat


def _negative(raw: np.ndarray, dark: np.ndarray, flat: np.ndarray) -> tuple[np.ndarray, ...]:
    raw[2, 1, 3] = -5
    return raw, dark, flat


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_nan, r"1 values are NaN or infinite, the first at \(2, 1, 3\)"),
        (_negative, "found -5"),
        (lambda raw, dark, flat: (raw, flat, dark), "are dark and flat swapped"),
        (lambda raw, dark, flat: (0 * raw, dark, flat), "every value is zero"),
        (lambda raw, dark, flat: (raw, dark[:, :1], flat), r"found \(1, 30\)"),
        (lambda raw, dark, flat: (raw, dark, flat[:0]), "found no frames"),
    ],
)
def test_impossible_radiographs_are_refused(change, message: str) -> None:
    raw, dark, flat, _ = (a.copy() for a in fields())
    with pytest.raises(InputError, match=message):
        flat_correct(*change(raw, dark, flat))


def test_swapped_fields_of_a_real_scan_are_noticed() -> None:
    folder = real_data("sinograms/savu_24737")
    raw = np.stack([tifffile.imread(file) for file in sorted(folder.glob("raw_*.tiff"))])
    dark, flat = (tifffile.imread(folder / f"{name}_00001.tiff")[None] for name in ("dark", "flat"))
    assert np.isfinite(flat_correct(raw, dark, flat).sinogram).all()
    with pytest.raises(InputError, match="swapped"):
        flat_correct(raw, flat, dark)
