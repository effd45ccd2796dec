"""Products of an ensemble: against brute force, and by what they promise."""

import numpy as np
import pytest

from assimilation.fields.grid import Variable
from assimilation.fields.products import (
    exceedance,
    probability_matched_mean,
    product_variables,
    products,
)

RAIN = Variable("rain_rate", "mm/h", "rainfall_rate", 0.0)


def some_rain(members: int = 5, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.maximum(draw.normal(size=(members, 6, 7)), 0) ** 2 * 4


def test_the_matched_mean_has_the_places_of_the_mean_and_the_amounts_of_the_members() -> None:
    members = some_rain()
    found = probability_matched_mean(members)
    mean = members.mean(axis=0)
    order = np.argsort(mean, axis=None, kind="stable")
    assert (np.diff(found.ravel()[order]) >= 0).all()
    # With five members the third of every five sorted values is kept.
    assert np.sort(found, axis=None) == pytest.approx(np.sort(members, axis=None)[2::5])
    assert found.max() > mean.max()


def test_the_matched_mean_of_equal_members_is_a_member() -> None:
    member = some_rain(1)
    assert np.array_equal(probability_matched_mean(np.repeat(member, 4, axis=0)), member[0])


def test_missing_cells_stay_missing_and_leave_the_others_alone() -> None:
    members = some_rain(4)
    members[1, 2, 3] = np.nan
    found = products(members.astype(np.float32), (1.0,))
    assert np.isnan(found[:, 2, 3]).all()
    assert np.isfinite(found).sum() == found.size - len(found)


def test_products_are_mean_deviation_and_shares() -> None:
    members = some_rain().astype(np.float32)
    found = products(members, (0.5, 5.0))
    assert [one.name for one in product_variables(RAIN, (0.5, 5.0))] == [
        "rain_rate_mean",
        "rain_rate_matched_mean",
        "rain_rate_deviation",
        "rain_rate_probability_0.5",
        "rain_rate_probability_5",
    ]
    assert found[0] == pytest.approx(members.mean(axis=0), rel=1e-6)
    assert found[2] == pytest.approx(members.std(axis=0, ddof=1), rel=1e-5)
    assert found[3] == pytest.approx(sum(one >= 0.5 for one in members) / 5)
    assert np.array_equal(exceedance(members, 5.0).astype(np.float32), found[4])
