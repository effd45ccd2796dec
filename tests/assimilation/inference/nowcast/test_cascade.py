"""Bands add up to the field and separate waves; their memory is that of a process whose memory is known."""

import numpy as np
import pytest

from assimilation.inference.nowcast.cascade import Autoregression, Cascade, decibels, rain_of


@pytest.mark.parametrize("shape", [(64, 64), (48, 80), (31, 45), (8, 8)])
def test_bands_add_up_to_the_field(shape):
    field = np.random.default_rng(0).normal(size=(2, *shape))
    bands = Cascade(shape).bands(field)
    # Weights sum to 1: what is left is the rounding of the transform.
    np.testing.assert_allclose(bands.sum(axis=1), field, atol=1e-12)


def test_a_wave_lies_in_the_band_of_its_length():
    cascade = Cascade((128, 128))
    place = np.arange(128)
    for band, wavelength in enumerate(cascade.wavelengths[1:-1], start=1):
        halves = round(2 * 128 / wavelength)
        wave = np.broadcast_to(np.cos(np.pi * halves * (place + 0.5) / 128), (128, 128))
        power = (cascade.bands(wave) ** 2).sum(axis=(1, 2))
        assert power.argmax() == band
        # A neighbour an octave away weighs exp(-2) of it, two of them leave 0.78 of the amplitude, 0.6 of the power.
        assert power[band] > 0.55 * (wave**2).sum()


def test_the_memory_is_that_of_the_process():
    phi_1, phi_2 = 1.2, -0.4
    cascade, generator = Cascade((128, 128)), np.random.default_rng(1)
    frames = [np.zeros((128, 128))] * 2
    for _ in range(60):
        frames.append(phi_1 * frames[-1] + phi_2 * frames[-2] + generator.normal(size=(128, 128)))
    memory = Autoregression.seen(cascade.bands(np.stack(frames[-8:])))
    # The three smallest bands have thousands of independent cells: correlations err by a few hundredths.
    np.testing.assert_allclose(memory.first[-3:], phi_1, atol=0.06)
    np.testing.assert_allclose(memory.second[-3:], phi_2, atol=0.06)
    # phi_0^2 = 1 - phi_1 rho_1 - phi_2 rho_2 with rho_1 = phi_1 / (1 - phi_2), rho_2 = phi_1 rho_1 + phi_2.
    rho = phi_1 / (1 - phi_2)
    expected = np.sqrt(1 - phi_1 * rho - phi_2 * (phi_1 * rho + phi_2))
    np.testing.assert_allclose(memory.innovation[-3:], expected, atol=0.05)


def test_every_memory_fades():
    generator = np.random.default_rng(2)
    cascade = Cascade((32, 32))
    for frames in (generator.normal(size=(2, 32, 32)), np.repeat(generator.normal(size=(1, 32, 32)), 4, 0)):
        memory = Autoregression.seen(cascade.bands(frames))
        last = before = np.ones((len(cascade.wavelengths), 1, 1))
        for _ in range(20000):
            last, before = memory.mean(last, before), last
        assert (np.abs(last) < 0.01).all()


def test_decibels_and_back():
    rain = np.array([0, 0.05, 0.1, 1, 10, 100.0])
    assert decibels(rain).tolist() == pytest.approx([-15, -15, -10, 0, 10, 20])
    assert rain_of(decibels(rain)).tolist() == pytest.approx([0, 0, 0.1, 1, 10, 100])
