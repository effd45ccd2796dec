"""Which calibration a scan gets, and what intervals it makes."""

import math

import pytest
import torch

from priors.card.trust import IntervalRow
from recon.ensembles.calibration import Conditions, Scale, find_scale, orbit_kind, settings_hash
from recon.ensembles.intervals import intervals, smoothed_variance
from recon.ensembles.moments import Moments
from recon.geometry.grid import Grid
from recon.geometry.orbits import FanFlat, Parallel
from recon.reconstructors import NerdFast


def row(views: int, a: float, *, i0: float = 1e5, b_hu: float = 10.0) -> IntervalRow:
    return IntervalRow(
        method="nerd-fast",
        settings="s",
        views=views,
        columns=400,
        i0=i0,
        orbit="parallel",
        draws=4,
        a=a,
        b_hu=b_hu,
        data="",
        version="",
    )


ROWS = (row(8, 4.0, b_hu=20.0), row(32, 2.0), row(8, 8.0, i0=1e4), row(32, 4.0, i0=1e4))


def now(views: float, i0: float = 1e5, **changes: str) -> Conditions:
    given = {"method": "nerd-fast", "settings": "s", "orbit": "parallel", **changes}
    return Conditions(given["method"], given["settings"], views / 400, i0, given["orbit"])


def test_log_a_is_linear_in_log_views_and_log_dose() -> None:
    middle = find_scale(ROWS, now(16))
    assert isinstance(middle, Scale)
    assert middle.a == pytest.approx(math.sqrt(4.0 * 2.0))
    assert middle.b_hu == pytest.approx(15.0)
    between = find_scale(ROWS, now(8, i0=math.sqrt(1e4 * 1e5)))
    assert isinstance(between, Scale)
    assert between.a == pytest.approx(math.sqrt(4.0 * 8.0))
    exact = find_scale(ROWS, now(32))
    assert isinstance(exact, Scale)
    assert exact.a == pytest.approx(2.0)
    assert exact.rows == (ROWS[1],)


def test_beyond_the_rows_a_is_held_and_then_unknown() -> None:
    held = find_scale(ROWS, now(6, i0=2e5))
    assert isinstance(held, Scale)
    assert held.a == pytest.approx(4.0)
    for condition, words in (
        (now(5), "views per detector column"),
        (now(60), "views per detector column"),
        (now(8, i0=1e6), "photons per ray"),
        (now(8, method="dds"), "no calibration of dds"),
        (now(8, settings="t"), "other settings"),
        (now(8, orbit="cone"), "orbit 'cone'"),
    ):
        found = find_scale(ROWS, condition)
        assert isinstance(found, str)
        assert words in found
    assert find_scale((), now(8)) == "the prior's card has no calibration"


def test_the_orbit_says_beam_and_missing_angles() -> None:
    grid = Grid((2, 16, 16), (2.0, 1.5, 1.5))
    assert orbit_kind(Parallel(views=8, arc_deg=180).fit(grid).geometry()) == "parallel"
    assert orbit_kind(Parallel(views=8, arc_deg=90).fit(grid).geometry()) == "parallel, limited angle"
    fan = FanFlat(views=16, sod_mm=300, sdd_mm=500, arc_deg=360).fit(grid).geometry()
    assert orbit_kind(fan) == "fan"


def test_the_hash_of_settings_leaves_out_what_changes_no_result() -> None:
    plain = settings_hash(NerdFast())
    assert settings_hash(NerdFast(prior="elsewhere", chunk=2)) == plain
    assert settings_hash(NerdFast(model_error=0.1)) != plain


def test_intervals_follow_their_formula() -> None:
    moments = Moments(4, torch.full((1, 8, 8), 0.02), torch.full((1, 8, 8), 3 * 1e-8))
    mu_water, per_hu = 0.02, 2e-5
    # A constant variance of 1e-8 stays what it is when smoothed.
    torch.testing.assert_close(smoothed_variance(moments), torch.full((1, 8, 8), 1.25e-8))
    found = intervals(moments, Scale(3.0, 5.0), mu_water=mu_water)
    expected = math.sqrt(1.25 * 9 * 1e-8 + (5 * per_hu) ** 2)
    torch.testing.assert_close(found.deviation, torch.full((1, 8, 8), expected))
    torch.testing.assert_close(found.upper - moments.mean, 1.645 * found.deviation)
    # The mean is water: its factor stands at 0 HU.
    doubled = Scale(3.0, 0.0, relative=(1.0, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0))
    ratio = intervals(moments, doubled, mu_water=mu_water).deviation / smoothed_variance(moments).sqrt()
    torch.testing.assert_close(ratio, torch.full((1, 8, 8), 6.0), rtol=1e-4, atol=0)
    wide = intervals(moments, Scale(1e3, 5.0), mu_water=mu_water)
    assert float(wide.lower.min()) == 0.0  # nothing is below vacuum
