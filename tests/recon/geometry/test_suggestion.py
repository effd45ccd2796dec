"""The grid a bare geometry suggests is the one its orbit would."""

import numpy as np
import pytest

from recon.geometry import orbits
from recon.geometry.suggestion import suggested_grid

SIZE = {"columns": 24, "column_mm": 1.5, "rows": 6, "row_mm": 2.0}
CONE = {"sod_mm": 400.0, "sdd_mm": 700.0}


@pytest.mark.parametrize(
    "orbit",
    [
        orbits.Parallel(views=30, **SIZE),
        orbits.FanFlat(views=30, **CONE, **SIZE),
        orbits.FanCurved(views=30, offset_columns=2.25, **CONE, **SIZE),
        orbits.CircularCone(views=30, height_mm=7.0, **CONE, **SIZE),
        orbits.Parallel3D(views=30, height_mm=-4.0, **SIZE),
        orbits.HelicalCone(pitch_mm=30.0, turns=3.0, views_per_turn=60, start_mm=-40.0, **CONE, **SIZE),
    ],
    ids=lambda orbit: orbit.name,
)
def test_it_is_the_orbits_own(orbit):
    grid, own = suggested_grid(orbit.geometry()), orbit.grid()
    assert grid.shape == own.shape
    # A shifted detector's mean distance from a source is longer by the square of the shift over it.
    np.testing.assert_allclose(grid.voxel_mm, own.voxel_mm, rtol=1e-4)
    # The last view of a helix is one step short of the end of its climb.
    step = 30.0 / 60 if orbit.name == "helical" else 0.0
    height = orbit.height_mm if orbit.name == "parallel-3d" else own.centre_mm[0]
    assert abs(grid.centre_mm[0] - height) <= step
