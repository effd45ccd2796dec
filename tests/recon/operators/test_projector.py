"""The projector against a dense matrix, its own adjoint and closed-form line integrals."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularOrbit, FanCurved, FanFlat, Parallel
from recon.geometry.scan import ScanGeometry
from recon.operators.projector import Projector
from tests.support.recon.analytic import body, joseph_matrix, line_integrals, rasterise
from tests.support.recon.projector_checks import memory_is_fresh_and_slice_last, threads_change_nothing

ORBITS = {
    "parallel": Parallel(views=7, start_deg=3),
    "parallel-offset": Parallel(views=5, arc_deg=360, offset_columns=1.25, column_mm=0.7),
    "parallel-exact": Parallel(angles_deg=(0, 45, 90, 135, 180, 225, 270, 315)),
    "fan-flat": FanFlat(views=7, sod_mm=60, sdd_mm=100),
    "fan-flat-exact": FanFlat(
        angles_deg=(0, 45, 90, 135, 180, 270), sod_mm=90, sdd_mm=90, offset_columns=-0.5
    ),
    "fan-curved": FanCurved(views=6, start_deg=11, sod_mm=60, sdd_mm=80, offset_columns=0.25),
    # The corner of the volume is 31 mm from the axis: the source grazes it.
    "fan-near": FanFlat(views=9, sod_mm=32, sdd_mm=70, columns=41, column_mm=3.0),
}
VOLUMES = {
    "odd": Grid((3, 33, 21), (2.0, 1.3, 1.7), (1.0, 3.0, -2.0)),
    "wide": Grid((2, 18, 40), (1.0, 1.0, 1.0)),
}
BACKENDS = ("numba", "reference")
# Round-off of sums over a few hundred crossings: about sqrt(300) * 2**-24 in float32, 2**-53 in float64.
ROUND_OFF = {torch.float32: 1e-6, torch.float64: 1e-12}


def arbitrary_vectors(grid: Grid) -> ScanGeometry:
    """Irregular poses: every view has its own distance, shift and skewed column step."""
    generator = np.random.default_rng(5)
    angle = generator.uniform(0, 2 * np.pi, 6)
    out = np.stack([-np.sin(angle), np.cos(angle), 0 * angle], 1)
    across = np.stack([np.cos(angle + 0.2), np.sin(angle + 0.2), 0 * angle], 1)
    source = out * generator.uniform(60, 90, (6, 1))
    detector = -out * generator.uniform(20, 50, (6, 1)) + across * generator.uniform(-3, 3, (6, 1))
    up = np.tile([0.0, 0.0, 1.5], (6, 1))
    return ScanGeometry(
        "fan", source, detector, across * generator.uniform(0.8, 2, (6, 1)), up, (grid.shape[0], 45)
    )


def scan_of(orbit: str, grid: Grid) -> ScanGeometry:
    return arbitrary_vectors(grid) if orbit == "vectors" else ORBITS[orbit].fit(grid).geometry()


def mismatch(A: Projector, x: torch.Tensor, y: torch.Tensor) -> float:
    """Return |<A x, y> - <x, A.T y>| / (|A x| |y|), summed in float64."""
    ax, aty = A(x).double(), A.adjoint(y).double()
    gap = (ax * y.double()).sum() - (x.double() * aty).sum()
    return float(abs(gap) / (ax.norm() * y.double().norm()))


@pytest.mark.parametrize("grid", VOLUMES.values(), ids=VOLUMES)
@pytest.mark.parametrize("orbit", [*ORBITS, "vectors"])
def test_every_backend_is_josephs_dense_matrix(orbit: str, grid: Grid) -> None:
    scan = scan_of(orbit, grid)
    matrix = torch.from_numpy(joseph_matrix(grid, scan))
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(grid.shape, generator=generator, dtype=torch.float64)
    y = torch.randn((scan.views, *scan.shape), generator=generator, dtype=torch.float64)
    ax = (x.flatten(1) @ matrix.T).reshape(-1, scan.views, scan.shape[1]).transpose(0, 1)
    aty = (y.transpose(0, 1).flatten(1) @ matrix).reshape(grid.shape)
    for backend in BACKENDS:
        A = Projector(scan, grid, backend=backend)
        # Crossings are rounded to 2**-40 pixel in the table, which exact angles can turn into another tie.
        torch.testing.assert_close(A(x), ax, rtol=0, atol=1e-9 * float(ax.abs().max()))
        torch.testing.assert_close(A.adjoint(y), aty, rtol=0, atol=1e-9 * float(aty.abs().max()))
        torch.testing.assert_close(A(x.float()).double(), ax, rtol=0, atol=1e-6 * float(ax.abs().max()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("orbit", [*ORBITS, "vectors"])
def test_adjoint_is_matched(orbit: str, backend: str, dtype: torch.dtype) -> None:
    volume = VOLUMES["odd"]
    A = Projector(scan_of(orbit, volume), volume, backend=backend)
    generator = torch.Generator().manual_seed(2)
    for draw in (torch.rand, torch.randn):
        x, y = (draw(shape, generator=generator, dtype=dtype) for shape in (A.domain, A.range))
        assert mismatch(A, x, y) < ROUND_OFF[dtype]


@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 50), st.integers(1, 50)),
    pixel=st.floats(0.5, 2),
    column=st.floats(0.5, 2),
    shift=st.tuples(st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5)),
    start=st.floats(0, 360),
    kind=st.sampled_from(["parallel", "fan-flat", "fan-curved"]),
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_any_geometry_is_matched_and_agrees_with_the_stored_matrix(
    shape: tuple[int, int, int],
    pixel: float,
    column: float,
    shift: tuple[float, float, float],
    start: float,
    kind: str,
) -> None:
    volume = Grid(shape, (1.0, pixel, 1.0), shift)
    field = {"views": 3, "start_deg": start, "column_mm": column}
    fan = {**field, "sod_mm": 1.2 * volume.radius_mm, "sdd_mm": 2 * volume.radius_mm}
    orbit: CircularOrbit = {
        "parallel": lambda: Parallel(**field),
        "fan-flat": lambda: FanFlat(**fan, columns=60),
        "fan-curved": lambda: FanCurved(**fan),
    }[kind]()
    scan = orbit.fit(volume).geometry()
    A, B = Projector(scan, volume), Projector(scan, volume, backend="reference")
    generator = torch.Generator().manual_seed(3)
    x, y = torch.randn(A.domain, generator=generator), torch.randn(A.range, generator=generator)
    assert float((A(x) - B(x)).norm()) <= 1e-6 * float(B(x).norm())
    assert float((A.adjoint(y) - B.adjoint(y)).norm()) <= 1e-6 * float(B.adjoint(y).norm())
    assert mismatch(A, x, y) < 1e-6


@pytest.mark.parametrize("slices", [1, 2, 4, 5, 16, 17, 33, 64, 65, 130])
def test_every_number_of_slices_gives_each_slice_alone(slices: int) -> None:
    volume = Grid((slices, 70, 40), (1.0, 1.0, 1.0))
    A = Projector(FanFlat(views=4, sod_mm=90, sdd_mm=150).fit(volume).geometry(), volume)
    generator = torch.Generator().manual_seed(4)
    x, y = torch.rand(A.domain, generator=generator), torch.rand(A.range, generator=generator)
    ax, aty = A(x), A.adjoint(y)
    for k in {0, slices // 2, slices - 1}:
        alone = A.slices(k, k + 1)
        # Widths differ in the order of sums only.
        torch.testing.assert_close(ax[:, k : k + 1], alone(x[k : k + 1]), rtol=2e-6, atol=1e-5)
        torch.testing.assert_close(aty[k : k + 1], alone.adjoint(y[:, k : k + 1]), rtol=2e-6, atol=1e-5)


@pytest.mark.parametrize("orbit", ["parallel", "fan-flat", "fan-curved"])
def test_line_integrals_of_ellipses_at_256(orbit: str) -> None:
    volume = Grid((1, 256, 256), (1.0, 1.0, 1.0))
    fan = {"views": 24, "sod_mm": 500, "sdd_mm": 900}
    kinds = {"parallel": Parallel(views=24), "fan-flat": FanFlat(**fan), "fan-curved": FanCurved(**fan)}
    scan = kinds[orbit].fit(volume).geometry()
    phantom = body(105)
    exact = line_integrals(phantom, scan)
    found = Projector(scan, volume)(rasterise(phantom, volume))
    # Design target: voxels and interpolation cost 4e-3 of the norm at 256 x 256.
    assert float((found - exact).norm() / exact.norm()) < 4e-3


def test_rays_that_miss_are_zero_and_lift_nothing() -> None:
    volume = VOLUMES["wide"]
    scan = Parallel(views=4, columns=9, column_mm=1.0, offset_columns=500).fit(volume).geometry()
    A = Projector(scan, volume)
    assert not A(torch.ones(A.domain)).any()
    assert not A.adjoint(torch.ones(A.range)).any()
    assert A.norm() == 0


def test_nothing_behind_the_source_is_seen() -> None:
    volume = Grid((1, 8, 8), (1.0, 1.0, 1.0), (0.0, 20.0, 0.0))
    # The source at y = 10 looks down, away from the volume around y = 20.
    scan = FanFlat(
        angles_deg=(0.0,), sod_mm=10, sdd_mm=20, columns=9, column_mm=1.0, rows=1, row_mm=1.0
    ).geometry()
    assert not Projector(scan, volume)(torch.ones(volume.shape)).any()


def test_views_and_slices_of_a_projector() -> None:
    volume = VOLUMES["odd"]
    A = Projector(scan_of("fan-curved", volume), volume)
    x = torch.rand(A.domain, generator=torch.Generator().manual_seed(5))
    kept = np.array([True, False, True, False, False, True])
    for views in (slice(1, 4), [4, 0], kept):
        assert torch.equal(A[views](x), A(x)[views])
    assert A.slices(1, 3).domain == (2, 33, 21)
    assert A.slices(1, 3).grid.coordinates(0) == pytest.approx(volume.coordinates(0)[1:3])


def test_adjoint_and_forward_do_not_depend_on_threads_or_runs() -> None:
    volume = Grid((5, 90, 75), (1.0, 1.0, 1.0))
    A = Projector(FanFlat(views=11, sod_mm=100, sdd_mm=150).fit(volume).geometry(), volume)
    generator = torch.Generator().manual_seed(6)
    x, y = torch.randn(A.domain, generator=generator), torch.randn(A.range, generator=generator)
    threads_change_nothing(A, x, y)


@pytest.mark.parametrize("backend", BACKENDS)
def test_results_are_fresh_slice_last_memory_for_any_strides(backend: str) -> None:
    volume = VOLUMES["odd"]
    A = Projector(scan_of("fan-flat", volume), volume, backend=backend)
    x = torch.rand(A.domain, generator=torch.Generator().manual_seed(7))
    memory_is_fresh_and_slice_last(A, x)


def test_norm_is_the_largest_singular_value() -> None:
    volume = Grid((2, 12, 9), (1.0, 1.0, 1.5))
    scan = Parallel(views=5).fit(volume).geometry()
    expected = np.linalg.norm(joseph_matrix(volume, scan), 2)
    A = Projector(scan, volume)
    # The power iteration stops at a relative change of 1e-4 of the squared norm.
    assert A.norm() == pytest.approx(expected, rel=2e-3)
    assert A.T.norm() == A.norm()
    assert A.T.T is A


def test_mismatches_are_one_clear_line() -> None:
    volume = VOLUMES["odd"]
    scan = scan_of("parallel", volume)
    A = Projector(scan, volume)
    with pytest.raises(InputError, match=r"shape \(2, 33, 21\).*volume \(z, y, x\) = \(3, 33, 21\)"):
        A(torch.zeros(2, 33, 21))
    with pytest.raises(InputError, match="sinogram"):
        A.adjoint(torch.zeros(7, 3, 2))
    with pytest.raises(InputError, match="float32 or float64"):
        A(torch.zeros(volume.shape, dtype=torch.float16))
    with pytest.raises(InputError, match="2 detector rows for 3 slices"):
        Projector(scan.rows(0, 2), volume)
    with pytest.raises(InputError, match="leave the plane"):
        Projector(dataclasses.replace(scan, u_mm=scan.u_mm + np.array([0, 0, 0.1])), volume)
    with pytest.raises(InputError, match="source of view 0 is inside"):
        Projector(
            FanFlat(views=3, sod_mm=5, sdd_mm=50, columns=9, column_mm=1.0, rows=3, row_mm=1.0).geometry(),
            volume,
        )


def test_reference_refuses_large_scans() -> None:
    volume = Grid((1, 2048, 2048), (1.0, 1.0, 1.0))
    with pytest.raises(InputError, match="use numba"):
        Projector(Parallel(views=16).fit(volume).geometry(), volume, backend="reference")
