"""What a scan says, against dense algebra; what NERD makes of it; and that explicit numbers win."""

import numpy as np
import pytest
import torch

from priors.card import card_of_prior
from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.operators.projector import Projector
from recon.reconstructors import NerdFast
from recon.reconstructors.base import Measurement
from recon.reconstructors.diffusion.nerd import evidence
from recon.reconstructors.diffusion.nerd.automatic import Levels, choose, errors_of, level_of
from recon.reconstructors.diffusion.nerd.evidence import expected_error_hu
from recon.reconstructors.diffusion.nerd.nerd import CgStage

SIDE = 14


def scan(*, views: int, weight: float = 2000.0, arc: float = 180.0) -> tuple[Measurement, Projector]:
    grid = Grid((2, SIDE, SIDE), (2.0, 6.0, 6.0))
    projector = Projector(Parallel(views=views, arc_deg=arc).fit(grid).geometry(), grid)
    return Measurement(torch.zeros(projector.range), torch.full(projector.range, weight)), projector


def left_open(**scanner: float) -> float:
    return expected_error_hu(*scan(**scanner), model_error=0.0)


def test_the_error_is_the_deviation_of_the_dense_posterior(monkeypatch: pytest.MonkeyPatch) -> None:
    measurement, projector = scan(views=5)
    count = int(np.prod(projector.domain))
    unit = torch.eye(count).reshape(count, *projector.domain)
    matrix = torch.stack([projector(e).flatten() for e in unit], 1).double().numpy() * 0.02
    rings = evidence._Rings(projector)
    half = rings.body_power(1000.0).sqrt()
    root = torch.stack([rings.filtered(half, e).flatten() for e in unit], 1).double().numpy()
    weights = measurement.weights.flatten().double().numpy()
    units = evidence.NetworkUnits.of(evidence.THOUSANDS, mu_water=measurement.mu_water)
    matrix = matrix * units.slope / 0.02
    seen_through = root.T @ matrix.T @ (weights[:, None] * (matrix @ root)) + np.eye(count)
    posterior = root @ np.linalg.solve(seen_through, root.T)
    found = expected_error_hu(measurement, projector, model_error=0.0)
    # One draw of some hundred unknown directions scatters by a tenth.
    assert found == pytest.approx(1000 * np.sqrt(np.trace(posterior) / count), rel=0.15)


def test_fewer_views_fewer_photons_and_missing_angles_raise_the_error() -> None:
    best = left_open(views=24)
    assert left_open(views=6) > 1.2 * best
    assert left_open(views=24, weight=20.0) > 1.2 * best
    assert left_open(views=24, arc=90.0) > 1.2 * best


def test_slices_in_the_middle_stand_for_all() -> None:
    grid = Grid((9, SIDE, SIDE), (2.0, 6.0, 6.0))
    projector = Projector(Parallel(views=6).fit(grid).geometry(), grid)
    weights = torch.full(projector.range, 100.0)
    weights[:, 2:6] = 2000.0
    found = expected_error_hu(Measurement(torch.zeros(projector.range), weights), projector, model_error=0.0)
    few = projector.slices(2, 6)
    part = Measurement(torch.zeros(few.range), weights[:, 2:6].contiguous())
    assert found == expected_error_hu(part, few, model_error=0.0)


def test_levels_are_read_off_the_table_of_errors() -> None:
    table = {100.0: 30.0, 400.0: 60.0, 1600.0: 120.0}
    # The table is 3 HU sqrt(s / HU), within and beyond its ends.
    for error in (15.0, 30.0, 42.0, 60.0, 240.0):
        assert level_of(error, table) == pytest.approx((error / 3) ** 2, rel=1e-6)
    # An error that does not grow is left out; too few points are no table.
    assert level_of(42.0, {**table, 200.0: 29.0}) == pytest.approx(196.0, rel=1e-6)
    assert level_of(92.0, {100.0: 30.0}) == pytest.approx(1000.0)


def test_the_card_of_the_chest_prior_has_such_a_table() -> None:
    errors = errors_of(card_of_prior("ct-chest-256"))
    # 26.71 dB on a range of 2 is 0.0924 of 1000 HU.
    assert errors[1000.0] == pytest.approx(92.4, abs=0.1)


def test_worse_scans_work_at_larger_levels() -> None:
    good, poor = choose(120.0, {}), choose(300.0, {})
    assert (good.start_hu, good.stop_hu) == (150.0, 10.0)
    # 0.25 and 0.07 of 300 HU are e(s) = 92 HU sqrt(s / 1000 HU) at 665 and 52 HU.
    assert (poor.start_hu, poor.stop_hu) == (660.0, 52.0)


def test_explicit_numbers_win() -> None:
    levels = Levels(start_hu=1000.0, stop_hu=40.0)
    stage = CgStage(levels=3).resolved(levels)
    assert stage.sequence(1000.0) == pytest.approx([1.0, 0.2, 0.04])
    mine = CgStage(levels=7, start_hu=300.0).resolved(levels)
    assert (mine.start_hu, mine.stop_hu, mine.levels) == (300.0, 40.0, 7)
    assert not mine.automatic
    # Levels fall whatever is given.
    assert CgStage(levels=2, start_hu=30.0).resolved(levels).stop_hu == 30.0
    assert CgStage(levels=2, stop_hu=2000.0).resolved(levels).start_hu == 2000.0


def test_a_method_settles_itself_before_it_runs() -> None:
    measurement, projector = scan(views=6)
    method = NerdFast()
    assert method.automatic
    settled = method.resolved(measurement, projector)
    assert not settled.automatic
    assert settled == method.resolved(measurement, projector)
    assert settled.resolved(measurement, projector) is settled
    with pytest.raises(RuntimeError, match="resolved"):
        method.levels()
