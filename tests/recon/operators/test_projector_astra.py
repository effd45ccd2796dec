"""The projector against ASTRA's, an independent implementation of Joseph's method (CPU, parallel beam)."""

import numpy as np
import pytest

from recon.geometry.grid import Grid
from recon.geometry.orbits import FanFlat, Parallel
from recon.operators.projector import Projector
from tests.support.recon.analytic import body, rasterise

astra = pytest.importorskip("astra", reason="ASTRA is not installed")

VOLUME = Grid((1, 96, 80), (1.0, 1.0, 1.0))
IMAGE = rasterise(body(32), VOLUME).float()


def astra_sinogram(geometry: dict[str, object], kind: str) -> np.ndarray:
    grid = astra.create_vol_geom(96, 80)
    projector = astra.create_projector(kind, geometry, grid)
    # ASTRA's first image row has the largest y.
    identifier, sinogram = astra.create_sino(np.ascontiguousarray(IMAGE.numpy()[0, ::-1]), projector)
    astra.data2d.delete(identifier)
    astra.projector.delete(projector)
    return np.asarray(sinogram)


@pytest.mark.parametrize("spacing", [0.5, 1.0, 2.0])
def test_parallel_values_are_those_of_astras_linear_projector(spacing: float) -> None:
    orbit = Parallel(views=31, start_deg=1, column_mm=spacing).fit(VOLUME)
    expected = astra_sinogram(
        astra.create_proj_geom("parallel", spacing, orbit.columns, orbit.angles()), "linear"
    )
    found = Projector(orbit.geometry(), VOLUME)(IMAGE)[:, 0].numpy()
    # ASTRA computes its ray positions in float32.
    assert abs(found - expected).max() < 5e-5 * expected.max()


def test_flat_fan_agrees_with_astras_lines_through_pixels() -> None:
    orbit = FanFlat(views=31, sod_mm=150, sdd_mm=260).fit(VOLUME)
    # At angle 0 ASTRA's fan comes from -y and ours from +y; both number columns along (cos a, sin a).
    angles = orbit.angles() + np.pi
    shape = (orbit.column_mm, orbit.columns, angles, orbit.sod_mm, orbit.sdd_mm - orbit.sod_mm)
    expected = astra_sinogram(astra.create_proj_geom("fanflat", *shape), "line_fanflat")[:, ::-1]
    found = Projector(orbit.geometry(), VOLUME)(IMAGE)[:, 0].numpy()
    # Another interpolation (exact lengths in pixels): the same integrals up to the edges of the phantom.
    assert np.linalg.norm(found - expected) < 1e-2 * np.linalg.norm(expected)
