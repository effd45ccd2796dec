"""Rays that cross slices: every geometry and backend against dense matrices, closed forms and their own adjoint."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone, FanCurved, FanFlat, HelicalCone
from recon.geometry.scan import ScanGeometry
from recon.operators.projector import Projector
from tests.recon.operators.test_projector import ROUND_OFF, mismatch
from tests.support.recon.analytic_3d import balls, joseph_matrix, line_integrals, rasterise
from tests.support.recon.cone_scans import KINDS, ORBITS, VOLUMES, scan_of
from tests.support.recon.projector_checks import memory_is_fresh_and_slice_last, threads_change_nothing

BACKENDS = ("numba", "reference")


def draws(A: Projector, dtype: torch.dtype, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=generator, dtype=dtype) for shape in (A.domain, A.range))  # type: ignore[return-value]


def gap(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found.double() - expected.double()).abs().max() / expected.abs().max())


@pytest.mark.parametrize("kind", KINDS)
def test_the_stored_matrix_is_josephs_method_ray_by_ray(kind: str) -> None:
    volume = Grid((5, 7, 6), (2.0, 5.3, 5.7), (1.0, 3.0, -2.0))
    scan = scan_of(kind, volume)
    if scan.views > 4:
        scan = scan[[0, scan.views // 2, scan.views - 1]]
    A = Projector(scan, volume, backend="reference")
    x, y = draws(A, torch.float64)
    matrix = torch.from_numpy(joseph_matrix(volume, scan))
    assert gap(A(x), (matrix @ x.flatten()).reshape(A.range)) < 1e-12
    assert gap(A.adjoint(y), (y.flatten() @ matrix).reshape(A.domain)) < 1e-12


@pytest.mark.parametrize("grid", VOLUMES.values(), ids=VOLUMES)
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_loops_are_the_stored_matrix(kind: str, grid: Grid) -> None:
    scan = scan_of(kind, grid)
    A, B = Projector(scan, grid), Projector(scan, grid, backend="reference")
    x, y = draws(A, torch.float64)
    ax, aty = B(x), B.adjoint(y)
    # Crossings in the plane are rounded to 2**-40 pixel, slopes too: 30 of them make 3e-11.
    assert gap(A(x), ax) < 1e-10
    assert gap(A.adjoint(y), aty) < 1e-10
    # Sums of some 100 terms in float32.
    tolerance = 1e-6
    assert gap(A(x.float()), ax) < tolerance
    assert gap(A.adjoint(y.float()), aty) < tolerance


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_adjoint_is_matched(kind: str, backend: str, dtype: torch.dtype) -> None:
    for volume in VOLUMES.values():
        A = Projector(scan_of(kind, volume), volume, backend=backend)
        generator = torch.Generator().manual_seed(2)
        for draw in (torch.rand, torch.randn):
            x, y = (draw(shape, generator=generator, dtype=dtype) for shape in (A.domain, A.range))
            assert mismatch(A, x, y) < ROUND_OFF[dtype]


@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 24), st.integers(1, 24)),
    voxel=st.tuples(st.floats(0.3, 3), st.floats(0.5, 2), st.floats(0.5, 2)),
    centre=st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5)),
    detector=st.tuples(st.integers(1, 20), st.integers(1, 20), st.floats(0.5, 6), st.floats(0.5, 6)),
    start=st.floats(0, 360),
    curved=st.booleans(),
    distance=st.floats(1.05, 3),
    pitch=st.floats(-20, 20).filter(lambda p: abs(p) > 0.1),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_any_helix_is_matched_and_agrees_with_the_stored_matrix(
    shape: tuple[int, int, int],
    voxel: tuple[float, float, float],
    centre: tuple[float, float, float],
    detector: tuple[int, int, float, float],
    start: float,
    curved: bool,
    distance: float,
    pitch: float,
) -> None:
    volume = Grid(shape, voxel, centre)
    rows, columns, row_mm, column_mm = detector
    size = {"rows": rows, "columns": columns, "row_mm": row_mm, "column_mm": column_mm}
    sod = distance * volume.radius_mm + 0.1
    orbit = HelicalCone(
        pitch_mm=pitch,
        views_per_turn=3,
        turns=1,
        start_deg=start,
        sod_mm=sod,
        sdd_mm=1.5 * sod,
        detector="curved" if curved else "flat",
        **size,
    )
    scan = orbit.fit(volume).geometry()
    A, B = Projector(scan, volume), Projector(scan, volume, backend="reference")
    x, y = draws(A, torch.float64)
    assert float((A(x) - B(x)).norm()) <= 1e-9 * float(B(x).norm())
    assert float((A.adjoint(y) - B.adjoint(y)).norm()) <= 1e-9 * float(B.adjoint(y).norm())
    ax = A(x)
    if float(ax.norm()) > 0:
        assert mismatch(A, x, y) < 1e-12


@pytest.mark.parametrize("kind", ["flat", "curved"])
def test_one_row_of_a_cone_is_a_fan(kind: str) -> None:
    volume = Grid((1, 33, 21), (2.0, 1.3, 1.7), (0.0, 3.0, -2.0))
    field = {"views": 7, "start_deg": 11, "offset_columns": 0.25, "sod_mm": 60, "sdd_mm": 80}
    fan = (FanFlat if kind == "flat" else FanCurved)(**field).fit(volume)
    cone = CircularCone(
        detector=kind, rows=1, row_mm=2.0, columns=fan.columns, column_mm=fan.column_mm, **field
    )
    A, B = Projector(fan.geometry(), volume), Projector(cone.fit(volume).geometry(), volume)
    x, y = draws(A, torch.float64)
    # The two tables round their crossings to 2**-40 pixel from different sides.
    assert gap(B(x), A(x)) < 1e-10
    assert gap(B.adjoint(y), A.adjoint(y)) < 1e-10


@pytest.mark.parametrize("kind", ["flat", "curved", "helical", "tilted", "parallel-3d"])
def test_line_integrals_of_ellipsoids_at_64(kind: str) -> None:
    volume = Grid((64, 64, 64), (0.5, 0.5, 0.5))
    scan = ORBITS[kind].model_copy(update={"columns": 24, "column_mm": 2.2, "rows": 16, "row_mm": 2.6})
    scan = scan.fit(volume).geometry()
    scan = scan[:: max(1, scan.views // 4)]
    phantom = balls(14)
    exact = line_integrals(phantom, scan)
    found = Projector(scan, volume)(rasterise(phantom, volume))
    # Voxels and interpolation cost 4e-3 of the norm at 256 x 256, in proportion to their size; z adds its own share.
    assert float((found - exact).norm() / exact.norm()) < 4 * 4e-3 * 2**0.5


def test_rays_that_miss_are_zero_and_lift_nothing() -> None:
    volume = VOLUMES["odd"]
    for shift in ({"offset_columns": 500}, {"offset_rows": 500}, {"height_mm": 1000.0}):
        orbit = CircularCone(
            views=4, columns=9, column_mm=1.0, rows=7, row_mm=1.0, sod_mm=60, sdd_mm=100, **shift
        )
        A = Projector(orbit.fit(volume).geometry(), volume)
        assert not A(torch.ones(A.domain)).any()
        assert not A.adjoint(torch.ones(A.range)).any()


def test_nothing_behind_the_source_is_seen() -> None:
    volume = Grid((4, 8, 8), (1.0, 1.0, 1.0), (0.0, 20.0, 0.0))
    size = {"columns": 9, "column_mm": 1.0, "rows": 5, "row_mm": 1.0}
    for tilt in (0, 5):
        orbit = CircularCone(angles_deg=(0.0,), sod_mm=10, sdd_mm=20, tilt_deg=tilt, **size)
        assert not Projector(orbit.geometry(), volume)(torch.ones(volume.shape)).any()


def test_views_of_a_projector() -> None:
    volume = VOLUMES["thin"]
    for kind in ("helical", "tilted"):
        A = Projector(scan_of(kind, volume), volume)
        x, _ = draws(A, torch.float32)
        for views in (slice(1, 4), [3, 0]):
            assert torch.equal(A[views](x), A(x)[views])
        with pytest.raises(InputError, match="cross slices"):
            A.slices(0, 1)
        with pytest.raises(InputError, match="distance_weighted_adjoint"):
            A.distance_weighted_adjoint(torch.zeros(A.range))


def test_results_do_not_depend_on_threads_or_runs() -> None:
    volume = Grid((13, 60, 55), (0.6, 1.0, 1.0))
    scan = CircularCone(views=7, sod_mm=80, sdd_mm=150, rows=40, row_mm=3.0).fit(volume).geometry()
    A = Projector(scan, volume)
    x, y = draws(A, torch.float32)
    threads_change_nothing(A, x, y)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["helical", "tilted"])
def test_results_are_fresh_slice_last_memory_for_any_strides(kind: str, backend: str) -> None:
    volume = VOLUMES["odd"]
    A = Projector(scan_of(kind, volume), volume, backend=backend)
    x, _ = draws(A, torch.float32)
    memory_is_fresh_and_slice_last(A, x)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["helical", "slanted", "parallel-3d"])
def test_first_and_second_derivatives(kind: str, backend: str) -> None:
    volume = Grid((3, 4, 5), (2.0, 5.0, 4.0))
    orbit = ORBITS[kind].model_copy(update={"columns": 4, "column_mm": 9.0, "rows": 3, "row_mm": 4.0})
    A = Projector(orbit.fit(volume).geometry()[:3], volume, backend=backend)
    x, y = (part.requires_grad_() for part in draws(A, torch.float64))
    assert torch.autograd.gradcheck(A, x)
    assert torch.autograd.gradcheck(A.adjoint, y)
    assert torch.autograd.gradgradcheck(lambda x: A(x) ** 2, x)


def test_a_source_inside_the_volume_is_refused_and_one_above_it_is_not() -> None:
    volume = VOLUMES["odd"]
    size = {"columns": 9, "column_mm": 1.0, "rows": 5, "row_mm": 1.0}
    with pytest.raises(InputError, match="source of view 0 is inside"):
        Projector(CircularCone(views=3, sod_mm=5, sdd_mm=50, **size).geometry(), volume)
    above = CircularCone(views=3, sod_mm=5, sdd_mm=50, height_mm=20.0, **size).geometry()
    down = dataclasses.replace(above, detector_mm=above.detector_mm - np.array([0, 0, 60.0]))
    A, B = Projector(down, volume), Projector(down, volume, backend="reference")
    x, _ = draws(A, torch.float64)
    assert float(B(x).abs().max()) > 0
    assert gap(A(x), B(x)) < 1e-10


def test_reference_refuses_large_scans() -> None:
    volume = Grid((128, 128, 128), (1.0, 1.0, 1.0))
    scan = CircularCone(views=60, sod_mm=200, sdd_mm=300).fit(volume).geometry()
    with pytest.raises(InputError, match="use numba"):
        Projector(scan, volume, backend="reference")
    assert isinstance(scan, ScanGeometry)
