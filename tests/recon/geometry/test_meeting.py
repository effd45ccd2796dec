"""Whether rays and grids meet, on scans that are in order and on grids that lie beside them."""

from dataclasses import replace

import numpy as np
import pytest

from recon.geometry.grid import Grid
from recon.geometry.meeting import meeting_share, repeats
from recon.geometry.orbits import CircularCone, FanFlat, HelicalCone, Parallel
from recon.geometry.scan import ScanGeometry

GRID = Grid((4, 16, 16), (1.0, 1.0, 1.0))
FAN = {"sod_mm": 150.0, "sdd_mm": 250.0}
HELIX = HelicalCone(views_per_turn=40, pitch_mm=8.0, rows=12, row_mm=2.0, **FAN)
ORBITS = {
    "parallel": Parallel(views=24),
    "fan": FanFlat(views=36, **FAN),
    "cone": CircularCone(views=36, **FAN),
    "helix": HELIX,
}


def scan(name: str) -> ScanGeometry:
    return ORBITS[name].fit(GRID).geometry()


@pytest.mark.parametrize("name", ORBITS)
def test_a_grid_about_the_axis_is_met_from_everywhere(name):
    assert meeting_share(scan(name), GRID) == 1.0
    # A region of interest, smaller than a pixel and beside the axis; voxels much larger than the detector.
    assert meeting_share(scan(name), Grid((1, 1, 1), (0.1, 0.1, 0.1), (0.0, 3.3, -2.7))) > 0.9
    assert meeting_share(scan(name), Grid((3, 3, 3), (1e4, 1e4, 1e4))) == 1.0


@pytest.mark.parametrize("name", ORBITS)
def test_a_grid_beside_the_beam_is_not(name):
    far = replace(GRID, centre_mm=(0.0, 1e4, 0.0))
    assert meeting_share(scan(name), far) < 0.5


@pytest.mark.parametrize("name", ["cone", "helix"])
def test_a_grid_above_the_beam_is_not_where_rows_see_heights(name):
    assert meeting_share(scan(name), replace(GRID, centre_mm=(1e4, 0.0, 0.0))) == 0.0


def test_rows_of_a_parallel_beam_are_slices_wherever_the_grid_lies():
    assert meeting_share(scan("parallel"), replace(GRID, centre_mm=(1e4, 0.0, 0.0))) == 1.0


def test_some_slices_of_a_helix_are_met_from_every_direction():
    long = Grid((64, 16, 16), (1.0, 1.0, 1.0))
    assert meeting_share(HELIX.fit(long).geometry(), long.slices(30, 34)) > 0.9


def test_a_detector_beside_the_axis_sees_the_grid():
    half = CircularCone(views=36, columns=24, rows=8, column_mm=1.0, row_mm=1.0, offset_columns=8.0, **FAN)
    assert meeting_share(half.geometry(), GRID) == 1.0


def test_repeats_are_groups_of_views_of_one_pose():
    whole = scan("parallel")
    assert repeats(whole) == []
    assert repeats(whole[[0, 1, 0, 2, 2, 2]]) == [[0, 2], [3, 4, 5]]
    assert repeats(whole[np.zeros(3, int)]) == [[0, 1, 2]]
