"""Coverage and spread-skill on errors drawn from the deviation that is claimed."""

import numpy as np
import pytest

from priors.runtime.errors import InputError
from recon.score.coverage import Spread, coverage, regions_of
from tests.support.recon.body import phantom

Z = 1.645


def spread(claimed: float, real: float) -> tuple[Spread, np.ndarray]:
    truth = phantom()
    noise = np.random.default_rng(0).standard_normal(truth.shape).astype(np.float32)
    mean = truth + np.float32(real) * noise
    deviation = np.full_like(truth, claimed)
    return Spread(mean, deviation, mean - Z * deviation, mean + Z * deviation), truth


def test_an_honest_deviation_covers_nine_tenths_in_every_region() -> None:
    found = coverage(*spread(20.0, 20.0))
    assert set(found["by_region"]) == {"body", "lung", "soft tissue", "bone", "edges"}
    for name, figures in found["by_region"].items():
        # Three deviations of a share of n independent voxels.
        tolerance = 3 * np.sqrt(0.09 / figures["voxels"])
        assert figures["coverage_90"] == pytest.approx(0.9, abs=tolerance), name
        assert figures["spread_skill"] == pytest.approx(1.0, abs=4 / np.sqrt(2 * figures["voxels"])), name
    assert found["coverage_90"] == found["by_region"]["body"]["coverage_90"]
    assert {"-900 to -700 HU", "-50 to 50 HU", "200 to 2000 HU"} <= set(found["by_hu"])
    assert set(found["by_reference"]) == set(found["by_region"])


def test_a_deviation_that_is_half_of_the_error_shows() -> None:
    found = coverage(*spread(10.0, 20.0))
    assert found["spread_skill"] == pytest.approx(0.5, abs=0.02)
    assert found["coverage_90"] == pytest.approx(0.589, abs=0.02)  # P(|N| < 1.645 / 2)


def test_voxels_without_a_reference_are_in_no_region() -> None:
    truth = phantom()
    truth[:, :, 48:] = np.nan
    regions = regions_of(truth, truth)
    assert not regions["body"][:, :, 48:].any()
    assert not regions["bone"].any()


def test_a_reference_without_a_body_is_refused() -> None:
    with pytest.raises(InputError, match="body"):
        regions_of(phantom()[:2, :8, :8], np.full((2, 8, 8), -1000.0, np.float32))
