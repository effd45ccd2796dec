"""The Triton kernels in the interpreter, as NumPy on the CPU, and compiled for a GPU that need not be there.

Triton reads TRITON_INTERPRET when it is imported, so the interpreted checks run in one subprocess.
"""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone, CircularOrbit, FanCurved, FanFlat, Parallel
from recon.operators.backends.gather import column_map
from recon.operators.backends.triton_gpu.backend import Triton
from recon.operators.projector import Projector
from recon.operators.rays import trace
from tests.support.recon.analytic import rays

triton = pytest.importorskip("triton", reason="triton is not installed")
# Older interpreters convert one-element arrays in a way that numpy 2.4 no longer allows.
interpreter = pytest.mark.skipif(
    tuple(map(int, triton.__version__.split(".")[:2])) < (3, 7), reason="the interpreter needs triton 3.7"
)

VOLUME = Grid((2, 24, 22), (2.0, 1.0, 1.2), (0.0, 1.5, -2.0))
ORBITS: dict[str, CircularOrbit] = {
    "parallel": Parallel(views=2, start_deg=3, column_mm=0.7),
    "parallel-exact": Parallel(angles_deg=(0, 45, 90)),
    "fan-flat": FanFlat(views=2, start_deg=70, sod_mm=60, sdd_mm=100, offset_columns=-0.5),
    "fan-curved": FanCurved(views=2, start_deg=11, sod_mm=60, sdd_mm=80, offset_columns=0.25),
    # The source is 3 mm from the corner of the volume: many rays meet its pixels.
    "fan-near": FanFlat(views=2, start_deg=40, sod_mm=21, sdd_mm=70, columns=31, column_mm=3.0),
}


@functools.cache
def interpreted() -> dict[str, dict[str, dict[str, float]]]:
    """Run the functions of ``tests.support.recon.triton_checks`` in triton's interpreter, all in one process."""
    code = """
import json
from tests.support.recon import triton_checks as t
print(json.dumps({each.__name__: each() for each in (t.stacks, t.cones, t.gradients)}))
"""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-c", code]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        run, env=environment, cwd=root, capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    figures: dict[str, dict[str, dict[str, float]]] = json.loads(done.stdout.splitlines()[-1])
    return figures


@interpreter
def test_kernels_are_the_stored_matrix_matched_and_repeatable() -> None:
    found = interpreted()["stacks"]
    assert set(found) == set(ORBITS)
    for orbit, errors in found.items():
        # Sums of a few hundred terms in another order: float32, and float64 with weights of 2**-40.
        assert max(errors["forward32"], errors["adjoint32"], errors["pair32"]) < 1e-6, orbit
        assert max(errors["forward64"], errors["adjoint64"], errors["pair64"]) < 1e-13, orbit
        assert errors.get("faded", 0) < 1e-6, orbit
        # bfloat16 keeps 8 bits of the values; the sums are float32.
        assert errors.get("bfloat16", 0) < 2.0**-8, orbit
        assert errors.get("repeats", True), orbit


@interpreter
def test_cone_kernels_are_the_stored_matrix_and_matched() -> None:
    found = interpreted()["cones"]
    assert set(found) == {"flat", "curved", "helix"}
    for orbit, errors in found.items():
        # Heights are rounded to 2**-40 slice per row: up to 2**-30 after some hundred rows and indices.
        assert max(errors["forward64"], errors["adjoint64"]) < 2.0**-30, orbit
        assert max(errors["forward32"], errors["adjoint32"], errors["pair32"]) < 1e-6, orbit
        assert errors["pair64"] < 1e-13, orbit


def test_rays_that_must_be_traced_one_by_one_are_left_to_numba() -> None:
    scan = CircularCone(views=2, sod_mm=60, sdd_mm=100, tilt_deg=7).fit(VOLUME).geometry()
    assert "tilted" in str(Triton().refusal(Projector(scan, VOLUME)._traced))


@interpreter
def test_gradients_and_devices_of_the_projector() -> None:
    found = interpreted()["gradients"]["fan-flat"]
    assert found["first"]
    assert found["second"]
    assert found["same_device"]


@pytest.mark.parametrize("orbit", ORBITS)
def test_the_reach_of_a_tile_holds_every_ray_that_meets_its_pixels(orbit: str) -> None:
    scan = ORBITS[orbit].fit(VOLUME).geometry()
    table, columns = trace(VOLUME, scan), column_map(VOLUME, scan)
    line = columns.rows()
    reach = columns.reach(table.grid, (4, 8), torch.device("cpu")).numpy()
    for v, c in np.ndindex(table.shape):
        i = np.arange(table.first[v, c], table.stop[v, c])
        near = (table.offset[v, c] + table.slope[v, c] * i) >> 40
        for j in (near, near + 1):
            x, y = (j, i) if table.along_y[v, c] else (i, j)
            inside = (x >= 0) & (x < 22) & (y >= 0) & (y < 24)
            q = (line[v, 0] + line[v, 1] * x + line[v, 2] * y) / (
                line[v, 3] + line[v, 4] * x + line[v, 5] * y
            )
            middle = line[v, 6] + (line[v, 7] * np.arctan(q) if columns.curved else q)
            tile = np.clip(y // 4 * 3 + x // 8, 0, reach.shape[1] - 1)
            assert (abs(c - middle) <= reach[v, tile])[inside].all()


@pytest.mark.parametrize("orbit", ORBITS)
def test_the_column_map_inverts_the_rays(orbit: str) -> None:
    scan = ORBITS[orbit].fit(VOLUME).geometry()
    point, direction = rays(scan)
    line, columns = column_map(VOLUME, scan).rows()[:, :, None], column_map(VOLUME, scan)
    at = point + 37.0 * direction
    x = (at[..., 0] - VOLUME.coordinates(2)[0]) / VOLUME.voxel_mm[2]
    y = (at[..., 1] - VOLUME.coordinates(1)[0]) / VOLUME.voxel_mm[1]
    q = (line[:, 0] + line[:, 1] * x + line[:, 2] * y) / (line[:, 3] + line[:, 4] * x + line[:, 5] * y)
    found = line[:, 6] + (line[:, 7] * np.arctan(q) if columns.curved else q)
    np.testing.assert_allclose(found, np.broadcast_to(np.arange(scan.shape[1]), found.shape), atol=1e-9)


def test_a_gpu_backend_without_a_gpu_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="triton: torch finds no GPU"):
        Projector(Parallel(views=3).fit(VOLUME).geometry(), VOLUME, backend="triton")
