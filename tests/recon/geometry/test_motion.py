"""Motion of the object as motion of the scanner, against closed-form line integrals."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.motion import moved
from recon.geometry.orbits import CircularCone, FanCurved, Parallel, Parallel3D
from recon.geometry.scan import ScanGeometry
from recon.operators.projector import Projector
from tests.support.recon.analytic_3d import Ellipsoid, line_integrals, rasterise

VOLUME = Grid((16, 20, 20), (1.5, 1.2, 1.2))
BALL = Ellipsoid((1.0, -2.0, 1.5), (5.0, 5.0, 5.0), 0.0, 0.02)
SMALL = {"columns": 14, "column_mm": 3.0, "rows": 10, "row_mm": 4.0}
CONE = CircularCone(views=3, sod_mm=60, sdd_mm=100, start_deg=10, **SMALL).geometry()
SHIFTS = np.array([[0.0, 0.0, 0.0], [1.0, -2.0, 0.7], [-0.5, 0.3, -1.1]])
TURNS = np.array([[0.0, 0.0, 0.0], [0.1, 0.05, -0.2], [-0.04, 0.3, 0.1]])


@pytest.mark.parametrize(
    "geometry", [CONE, Parallel3D(views=3, elevation_deg=20, **SMALL).geometry()], ids=["cone", "parallel-3d"]
)
def test_a_moving_ball_is_a_ball_elsewhere(geometry: ScanGeometry) -> None:
    seen = moved(geometry, SHIFTS, TURNS)
    for view in range(geometry.views):
        turn = Rotation.from_rotvec(TURNS[view])
        centre = tuple(float(x) for x in turn.apply(np.array(BALL.centre)) + SHIFTS[view])
        there = dataclasses.replace(BALL, centre=centre)
        expected = line_integrals([there], geometry[[view]])
        assert line_integrals([BALL], seen[[view]]) == pytest.approx(expected, abs=1e-12)


def test_the_projector_sees_the_motion() -> None:
    seen = moved(CONE, SHIFTS, TURNS)
    fine = Grid((60, 60, 60), (0.4, 0.4, 0.4))
    found = Projector(seen, fine)(rasterise([BALL], fine))
    exact = line_integrals([BALL], seen)
    still = line_integrals([BALL], CONE)
    # 25 voxels across: edges cost 1.6e-2 at 64, in proportion to the size; the motion itself changes far more.
    assert float((found - exact).norm() / exact.norm()) < 0.06
    assert float((still - exact).norm() / exact.norm()) > 0.3


def test_turning_the_object_about_the_axis_is_another_start_angle() -> None:
    orbit = FanCurved(views=5, sod_mm=60, sdd_mm=100, start_deg=10)
    turned = moved(orbit.fit(VOLUME).geometry(), np.zeros((5, 3)), np.tile([0, 0, np.deg2rad(15)], (5, 1)))
    other = orbit.model_copy(update={"start_deg": -5}).fit(VOLUME).geometry()
    for name in ("source_mm", "detector_mm", "u_mm", "v_mm"):
        assert getattr(turned, name) == pytest.approx(getattr(other, name), abs=1e-12)


def test_refusals() -> None:
    flat = Parallel(views=3).fit(VOLUME).geometry()
    assert moved(flat, SHIFTS * [1, 1, 0]).beam == "parallel"
    with pytest.raises(InputError, match="across the slices"):
        moved(flat, SHIFTS)
    with pytest.raises(InputError, match="across the slices"):
        moved(flat, SHIFTS * 0, TURNS)
    with pytest.raises(InputError, match=r"shifts_mm: found shape \(2, 3\)"):
        moved(CONE, SHIFTS[:2])
    with pytest.raises(InputError, match="rotations"):
        moved(CONE, SHIFTS, TURNS * np.nan)
