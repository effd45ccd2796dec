"""The fit of a and b finds the pair that errors were drawn with."""

import numpy as np
import pytest

from recon.ensembles.fit import fit_scale
from tests.support.recon.body import phantom

A, B = 3.0, 12.0


def test_the_pair_that_made_the_errors_is_found() -> None:
    truth = phantom()
    generator = np.random.default_rng(0)
    # Each region has a spread of its own, so that a and b can be told apart.
    spread = np.select([truth > 200, truth < -500], [30.0, 10.0], 2.0).astype(np.float32)
    error = np.sqrt(A**2 * spread**2 + B**2) * generator.standard_normal(truth.shape)
    found = fit_scale(error.astype(np.float32), spread**2, truth)
    # 26,000 voxels: the quantile of a normal sample is known to 1 %, b stands on a grid of 1 HU.
    assert found.a == pytest.approx(A, rel=0.08)
    assert found.b_hu == pytest.approx(B, abs=1.0)
    for name, share in found.coverage.items():
        assert share == pytest.approx(0.9, abs=0.02), name
