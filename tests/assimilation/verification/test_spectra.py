"""Radial spectra against single waves and Parseval's sum."""

import numpy as np
import pytest

from assimilation.fields.fields import Grid
from assimilation.verification.spectra import radial_power, wavenumbers
from tests.support.assimilation.pairs import plane


def box(n=32, length=2 * np.pi):
    axis = np.arange(n) * length / n
    return Grid(axis, axis, "plane", "1", (True, True), "")


def test_a_wave_lies_in_its_bin_with_its_variance():
    grid = box()
    y, x = np.meshgrid(grid.y, grid.x, indexing="ij")
    power = radial_power(3.0 + 2.0 * np.cos(3 * x + 4 * y), grid)
    expected = np.zeros(power.size)
    expected[4] = 2.0  # |k| = 5, variance amplitude^2 / 2
    np.testing.assert_allclose(power, expected, atol=1e-12)
    np.testing.assert_allclose(2 * np.pi * wavenumbers(grid), np.arange(1, 17), rtol=1e-12)


@pytest.mark.parametrize("grid", [box(), plane(32, 32)], ids=["periodic", "limited"])
def test_bins_sum_to_the_variance_of_a_band_limited_field(grid):
    generator = np.random.default_rng(0)
    field = np.zeros(grid.shape)
    j, i = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    for _ in range(20):
        a, b = generator.integers(0, 9, 2)
        if all(grid.periodic):
            field += np.cos(2 * np.pi * (a * j / 32 + b * i / 32) + generator.random())
        else:
            field += np.cos(np.pi * a * (j + 0.5) / 32) * np.cos(np.pi * b * (i + 0.5) / 32)
    # Equal up to rounding: every wave is below both Nyquist wavenumbers.
    assert radial_power(field, grid).sum() == pytest.approx(field.var(), rel=1e-12)


def test_a_trend_is_not_small_scale_in_a_limited_area():
    grid = plane(32, 32)
    power = radial_power(np.outer(np.ones(32), np.arange(32.0)), grid)
    assert power[0] / power.sum() > 0.98
    assert power[16:].sum() / power.sum() < 1e-3


def test_a_missing_value_makes_that_field_s_spectrum_missing():
    fields = np.random.default_rng(0).normal(size=(2, 16, 16))
    fields[1, 3, 3] = np.nan
    power = radial_power(fields, plane(16, 16))
    assert np.isfinite(power[0]).all()
    assert np.isnan(power[1]).all()
