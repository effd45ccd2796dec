"""The fit of a and b finds the pair that errors were drawn with."""

import numpy as np
import pytest

from recon.ensembles.fit import fit_scale
from tests.support.recon.body import phantom

FACTORS = {"lung": 2.0, "soft tissue": 3.0, "bone": 6.0}


def test_the_factors_that_made_the_errors_are_found() -> None:
    truth = phantom()
    generator = np.random.default_rng(0)
    factor = np.select(
        [truth > 200, truth < -500], [FACTORS["bone"], FACTORS["lung"]], FACTORS["soft tissue"]
    )
    spread = 5.0
    mean = truth + (factor * spread * generator.standard_normal(truth.shape)).astype(np.float32)
    found = fit_scale(mean, np.full_like(truth, spread**2), truth)
    for hu, name in ((-800.0, "lung"), (0.0, "soft tissue"), (400.0, "bone")):
        expected = found.scale.factor(np.array([hu], np.float32))[0] ** 2 * spread**2 + found.scale.b_hu**2
        # The smoothed mean of the borders mixes regions, and a quantile of 4,000 voxels is known to 2 %.
        assert np.sqrt(expected) == pytest.approx(FACTORS[name] * spread, rel=0.15), name
    for name in ("body", "lung", "soft tissue", "bone"):
        assert found.coverage[name] == pytest.approx(0.9, abs=0.03), name
