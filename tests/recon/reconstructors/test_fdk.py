"""Cone-beam filtered backprojection against ellipsoids with exact line integrals, on every orbit, in HU."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import ndimage

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone, DetectorOrbit, HelicalCone, Parallel3D
from recon.geometry.scan import ScanGeometry
from recon.operators.projector import Projector
from recon.operators.voxel_backprojection import CURVED, FLAT, PARALLEL, Views, backproject
from recon.reconstructors.base import Measurement, RunContext, StepRecord
from recon.reconstructors.fbp.fbp import FBP
from tests.support.recon.analytic_3d import Ellipsoid, cylinder, line_integrals, rasterise, torso

WATER = 0.02
VOLUME = Grid((16, 40, 40), (3.6, 3.4, 3.4))
RADIUS = 58.0
OVERSAMPLING = 2
PLACE = {"sod_mm": 200.0, "sdd_mm": 330.0, "column_mm": 4.8, "row_mm": 4.8}
WIDE = {**PLACE, "rows": 34, "columns": 64}
HALF = {**PLACE, "rows": 34, "columns": 39, "offset_columns": 15.3, "views": 240}
SHORT = {**WIDE, "arc_deg": 234.0, "views": 120}
# A detector of 77 mm, 47 mm at the axis; the volume is 58 mm high.
SPIRAL = {**PLACE, "rows": 16, "columns": 64, "views_per_turn": 120, "turns": 3.0}
CIRCLES = {
    "flat": CircularCone(views=160, **WIDE),
    "curved": CircularCone(views=160, detector="curved", **WIDE),
    "clockwise": CircularCone(views=160, arc_deg=-360, **WIDE),
    "offset": CircularCone(views=160, offset_columns=2.25, **WIDE),
    "half detector": CircularCone(**HALF),
    "half detector, curved": CircularCone(detector="curved", **HALF),
    "short": CircularCone(**SHORT),
    "short, curved": CircularCone(detector="curved", **SHORT),
}
HELICES = {
    "helix": HelicalCone(pitch_mm=30, **SPIRAL),
    "helix, curved": HelicalCone(pitch_mm=30, detector="curved", **SPIRAL),
    "helix downwards": HelicalCone(pitch_mm=-30, **SPIRAL),
    "helix, fast, clockwise": HelicalCone(pitch_mm=40, clockwise=True, **SPIRAL),
}
ORBITS = {**CIRCLES, **HELICES, "parallel-3d": Parallel3D(views=160, row_mm=2.3)}


def scan_of(orbit: DetectorOrbit) -> ScanGeometry:
    return orbit.fit(VOLUME).geometry()


def reconstruct(bodies: list[Ellipsoid], geometry: ScanGeometry) -> torch.Tensor:
    sinogram = line_integrals(bodies, geometry, oversampling=OVERSAMPLING).float()
    measured = Measurement(sinogram, torch.ones_like(sinogram))
    return FBP()(measured, Projector(geometry, VOLUME), RunContext())


def errors_hu(image: torch.Tensor, bodies: list[Ellipsoid]) -> np.ndarray:
    """Return errors in HU, NaN outside the body and within three voxels of an edge."""
    truth = rasterise(bodies, VOLUME).numpy()
    level = ndimage.maximum_filter(truth, 7) - ndimage.minimum_filter(truth, 7)
    flat = (level < 1e-9) & (truth > 0.1 * WATER)
    return np.where(flat, (image.numpy() - truth) / WATER * 1000, np.nan)


def rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(error**2)))


@pytest.mark.parametrize("orbit", ORBITS.values(), ids=ORBITS)
def test_bodies_that_do_not_change_along_z_are_exact(orbit: DetectorOrbit) -> None:
    bodies = cylinder(RADIUS)[:2]
    error = errors_hu(reconstruct(bodies, scan_of(orbit)), bodies)
    # Ringing of the sharp ramp at 40 pixels leaves 7 HU, and a coarse blend of half detectors 18; a wrong weight or
    # distance gives tens of HU of bias.
    assert abs(np.nanmean(error, axis=(1, 2))).max() < 1
    assert rms(error) < 20


@pytest.mark.parametrize("kind", ["flat", "curved", "half detector", "short, curved"])
def test_ellipsoids_are_exact_in_the_plane_of_the_source_and_bounded_beside_it(kind: str) -> None:
    bodies = torso(RADIUS)[:2]
    error = errors_hu(reconstruct(bodies, scan_of(CIRCLES[kind])), bodies)
    assert abs(np.nanmean(error[7:9])) < 1
    assert rms(error[7:9]) < 21
    # Up to 7 degrees of cone angle: what a circle does not measure is missing, and shows as darkening.
    assert -14 < np.nanmean(error) < -3
    assert np.nanmin(np.nanmean(error, axis=(1, 2))) > -40
    assert rms(error) < 30


@pytest.mark.parametrize("orbit", HELICES.values(), ids=HELICES)
def test_a_helix_has_no_cone_angle_darkening(orbit: DetectorOrbit) -> None:
    bodies = torso(RADIUS)[:2]
    error = errors_hu(reconstruct(bodies, scan_of(orbit)), bodies)
    assert abs(np.nanmean(error)) < 3
    assert abs(np.nanmean(error, axis=(1, 2))).max() < 8
    assert rms(error) < 8


def test_a_detector_moved_along_z_sees_the_same() -> None:
    bodies, scan = torso(RADIUS)[:2], scan_of(CIRCLES["flat"])
    shift = np.array([0.0, 0.0, 6 * 4.8])
    moved = dataclasses.replace(scan, detector_mm=scan.detector_mm + shift, shape=(46, 64))
    a, b = reconstruct(bodies, scan), reconstruct(bodies, moved)
    # The outermost corners of the volume lie beyond the last row of the first detector.
    torch.testing.assert_close(a[1:-1], b[1:-1], rtol=0, atol=1e-6)


def test_parallel_rays_in_space_need_no_rows_at_slices() -> None:
    bodies = torso(RADIUS)[:2]
    error = errors_hu(reconstruct(bodies, scan_of(ORBITS["parallel-3d"])), bodies)
    assert abs(np.nanmean(error)) < 1
    assert rms(error) < 8


def one_view(kind: int, **changes: object) -> Views:
    """Return a view from (0, -100, 5) along y onto a detector of 7 rows at 150 mm."""
    fields: dict[str, object] = {
        "source": np.array([[0.0, -100.0, 5.0]]),
        "across": np.array([[1.0, 0.0]]),
        "along": np.array([[0.0, 1.0]]),
        "column": np.array([[4.3, 0.2 if kind == FLAT else 25.0]]),
        "row": np.array([[3.1, 0.3]]),
        "distance": np.array([150.0]),
        "factor": np.array([7.0]),
        "turns": np.zeros((1, 2)),
        "step": 0.0,
    }
    return Views(kind=kind, rows=7, **{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [FLAT, CURVED])
def test_a_voxel_takes_what_its_ray_meets(kind: int) -> None:
    volume = Grid((5, 4, 6), (6.0, 5.0, 3.0), (3.0, 2.0, 1.0))
    filtered = torch.randn((1, 11, 7), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    image = torch.zeros((4, 6, 5), dtype=torch.float64)
    backproject(filtered, one_view(kind), volume, image=image)
    z, y, x = np.meshgrid(*(volume.coordinates(axis) for axis in range(3)), indexing="ij")
    depth = y + 100
    far = depth if kind == FLAT else np.hypot(x, depth)
    column = 4.3 + (0.2 * x * 150 / depth if kind == FLAT else 25 * np.arctan2(x, depth))
    row = np.clip(3.1 + 0.3 * (z - 5) * 150 / far, 0, 6)
    expected = 7 / far**2 * ndimage.map_coordinates(filtered[0].numpy(), [column, row], order=1)
    inside = (column >= 0) & (column <= 10)
    found = image.permute(2, 0, 1).numpy()
    # Rows are interpolated at float32 positions.
    assert found == pytest.approx(np.where(inside, expected, 0), abs=1e-8)


@pytest.mark.parametrize("step", [2.0, 9.0, 30.0])
def test_turns_of_a_helix_share_every_voxel(step: float) -> None:
    turns = 12
    heights = step * (np.arange(turns) - (turns - 1) / 2)
    below = np.arange(turns, dtype=np.float64)
    views = Views(
        kind=PARALLEL,
        rows=8,
        source=np.stack([0 * heights, 0 * heights, heights], axis=1),
        across=np.tile([1.0, 0.0], (turns, 1)),
        along=np.tile([0.0, 1.0], (turns, 1)),
        column=np.tile([1.0, 1.0], (turns, 1)),
        row=np.tile([3.5, 1.0], (turns, 1)),
        distance=np.ones(turns),
        factor=np.ones(turns),
        turns=np.stack([below, below[::-1]], axis=1),
        step=step,
    )
    image = torch.zeros((1, 1, 200))
    backproject(torch.ones((turns, 3, 8)), views, Grid((200, 1, 1), (2.1, 1.0, 1.0)), image=image)
    # Every voxel, those beyond the ends included, is seen once in all.
    torch.testing.assert_close(image, torch.ones_like(image), rtol=0, atol=1e-5)


def test_progress_memory_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    bodies, scan = torso(RADIUS)[:2], scan_of(CircularCone(views=24, **WIDE))
    whole = reconstruct(bodies, scan)
    monkeypatch.setattr("recon.reconstructors.fbp.fdk.BLOCK_BYTES", 4 * 34 * 64 * 10)
    sinogram = line_integrals(bodies, scan, oversampling=OVERSAMPLING).float()
    seen: list[StepRecord] = []
    measured = Measurement(sinogram, torch.ones_like(sinogram))
    parts = FBP()(measured, Projector(scan, VOLUME), RunContext(on_step=seen.append))
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-6)
    assert [(record.iteration, record.total) for record in seen] == [(1, 3), (2, 3), (3, 3)]
    assert FBP().plan(VOLUME, scan).total > 4 * parts.numel()


def test_orbits_without_an_inversion_formula_are_refused() -> None:
    scan = scan_of(CircularCone(views=24, **WIDE))
    measured = Measurement(torch.ones((24, 34, 64)), torch.ones((24, 34, 64)))
    wobble = scan.source_mm + np.outer(np.sin(np.arange(24)), [0, 0, 12.0])
    tilted = dataclasses.replace(scan, v_mm=scan.v_mm + 0.2 * scan.u_mm)
    cases = {
        "leaves a helix": dataclasses.replace(scan, source_mm=wobble),
        "lean out of the plane": tilted,
        "expected a circle": dataclasses.replace(
            scan, source_mm=scan.source_mm * np.linspace(1, 1.1, 24)[:, None]
        ),
    }
    for told, broken in cases.items():
        with pytest.raises(InputError, match=told):
            FBP()(measured, Projector(broken, VOLUME), RunContext())
