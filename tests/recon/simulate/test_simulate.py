"""The simulator: geometry, resolution and noise against analytic expectations."""

import numpy as np
import pytest
import torch

from priors.runtime.errors import InputError
from recon.data.noise import Exposure
from recon.data.resample import resample
from recon.data.units import MU_WATER, hu_to_attenuation
from recon.data.volume import Volume, grid_affine
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone, FanFlat, HelicalCone, Orbit, Parallel, Parallel3D
from recon.operators.projector import Projector
from recon.simulate.scan import simulate
from tests.support.recon.analytic_3d import Ellipsoid, line_integrals, rasterise


def disc(pixels: int, slices: int = 2, radius_mm: float = 24.0, affine: np.ndarray | None = None) -> Volume:
    """Return a disc of water in air, 64 mm wide, off centre by (6, -4) mm, with anti-aliased edges."""
    pixel = 64 / pixels
    at = (np.arange(pixels) - (pixels - 1) / 2) * pixel
    distance = np.hypot(at[:, None] + 4, at[None, :] - 6)
    fill = np.clip((radius_mm - distance) / pixel + 0.5, 0, 1)
    values = np.broadcast_to(1000 * fill - 1000, (slices, pixels, pixels)).astype(np.float32)
    if affine is None:
        affine = np.diag([-pixel, -pixel, 2.0, 1.0])
    return Volume(values, affine, "HU")


@pytest.mark.parametrize(("pixels", "grid"), [(128, 64), (64, 64), (64, None)])
def test_line_integrals_are_those_of_the_disc(pixels: int, grid: int | None) -> None:
    data = simulate(disc(pixels), Parallel(views=12), i0=1e9, grid=grid, seed=0)
    assert data.grid.shape == (2, 64, 64)
    assert data.geometry.shape == (2, 96)
    u = data.geometry.u_mm / np.linalg.norm(data.geometry.u_mm, axis=1, keepdims=True)
    axis = (np.arange(96) - 47.5) * 1.0
    offset = axis[None, :] - (u[:, :2] @ [6.0, -4.0])[:, None]
    exact = 2 * MU_WATER * np.sqrt(np.clip(24.0**2 - offset**2, 0, None))
    inner = abs(offset) < 22
    # Chords of a disc sampled at 1 mm or finer; photon noise is 3e-5.
    np.testing.assert_allclose(data.sinogram[:, 0][inner], exact[inner], rtol=0.02)
    assert abs(data.sinogram[:, 0][abs(offset) > 26]).max() < 1e-3
    np.testing.assert_allclose(data.sinogram[:, 0], data.sinogram[:, 1], atol=1e-3)


def test_the_scan_is_not_made_on_the_grid_it_is_reconstructed_on() -> None:
    image = disc(64)
    data = simulate(image, Parallel(views=12), i0=1e9, grid=64, seed=0)
    attenuation = torch.from_numpy(hu_to_attenuation(image.values).copy())
    same_grid = Projector(data.geometry, data.grid)(attenuation).numpy()
    # Edges must differ by far more than the photon noise of 3e-5.
    assert abs(same_grid - data.sinogram).max() > 1e-2


def test_chi2_of_the_truth_is_about_one_at_low_dose() -> None:
    image = disc(128)
    data = simulate(image, FanFlat(views=20, sod_mm=150, sdd_mm=250), i0=2e3, grid=64, seed=1)
    truth = hu_to_attenuation(resample(image, _target(data.grid, data.affine(data.grid))))
    residual = Projector(data.geometry, data.grid)(torch.from_numpy(truth)).numpy() - data.sinogram
    # Discretisation adds to the noise; 20 x 2 x 160 rays know chi2 to 2 %.
    assert 0.95 < (data.weights * residual**2).mean() < 1.2


def _target(volume, affine: np.ndarray) -> Volume:
    return Volume(np.zeros(volume.shape, np.float32), affine, "HU")


def test_the_frame_overlays_the_image_even_when_sheared() -> None:
    affine = np.array([[0.5, 0.1, 0, 7], [-0.1, 0.5, 0.4, -3], [0, 0, 2, 50], [0, 0, 0, 1.0]])
    image = disc(128, affine=affine)
    data = simulate(image, Parallel(views=2), i0=1e4, grid=None, seed=0)
    np.testing.assert_allclose(data.affine(data.grid), affine, atol=1e-9)
    half = simulate(image, Parallel(views=2), i0=1e4, grid=64, seed=0)
    # The first voxel of the half grid is the middle of the first 2 x 2 block.
    corner = half.affine(half.grid) @ [0, 0, 0, 1]
    np.testing.assert_allclose(corner, affine @ [0.5, 0.5, 0, 1], atol=1e-9)


@pytest.mark.parametrize(
    "orbit",
    [
        CircularCone(views=4, sod_mm=150, sdd_mm=250, start_deg=9, rows=24, row_mm=2.5),
        HelicalCone(views_per_turn=3, pitch_mm=16, sod_mm=150, sdd_mm=250, detector="curved"),
        Parallel3D(views=3, elevation_deg=20),
    ],
    ids=lambda orbit: orbit.name,
)
def test_a_ball_seen_by_rays_that_cross_slices(orbit: Orbit) -> None:
    ball = Ellipsoid((3.0, -2.0, 1.0), (11.0, 11.0, 11.0), 0.0, MU_WATER)
    grid = Grid((32, 64, 64), (1.0, 0.5, 0.5))
    hu = 1000 * rasterise([ball], grid).numpy().astype(np.float32) / MU_WATER - 1000
    image = Volume(hu.astype(np.float32), np.diag([-0.5, -0.5, 1.0, 1.0]), "HU")
    data = simulate(image, orbit, i0=1e9, grid=32, seed=0)
    exact = line_integrals([ball], data.geometry).numpy()
    # Away from the rim a chord of the ball changes little across a cell; photon noise is 1e-4.
    inner = exact > 0.7 * exact.max()
    np.testing.assert_allclose(data.sinogram[inner], exact[inner], rtol=0.03)
    assert abs(data.sinogram[exact == 0]).mean() < 1e-2


def test_padding_counts_as_air() -> None:
    image = disc(128)
    padded = Volume(np.where(image.values < -999, -3024, image.values).astype(np.float32), image.affine, "HU")
    one, two = (simulate(i, Parallel(views=4), i0=1e4, grid=64, seed=3) for i in (image, padded))
    np.testing.assert_array_equal(one.counts, two.counts)


def test_noise_follows_the_seed_and_the_exposure() -> None:
    image = disc(128)
    same = [simulate(image, Parallel(views=4), i0=1e4, grid=64, seed=s).counts for s in (5, 5, 6)]
    assert same[0] is not None
    np.testing.assert_array_equal(same[0], same[1])
    assert (same[0] != same[2]).any()
    data = simulate(image, Parallel(views=4), i0=Exposure(1e4, 50.0, 20.0), grid=64, seed=5)
    assert data.exposure == Exposure(1e4, 50.0, 20.0)
    assert data.i0 == 1e4


def test_a_wide_image_is_covered_by_a_square_grid() -> None:
    image = Volume(np.full((1, 20, 30), -1000, np.float32), np.diag([1.0, 1.0, 2.0, 1.0]), "HU")
    grid = image.grid.square(15)
    assert grid.shape == (1, 15, 15)
    assert grid.voxel_mm == (2.0, 2.0, 2.0)
    affine = grid_affine(grid)
    np.testing.assert_allclose((affine @ [7, 7, 0, 1])[:3], [0, 0, 0])


def test_columns_stay_as_the_orbit_says() -> None:
    image = disc(64)
    fixed = simulate(image, Parallel(views=2, columns=70), i0=1e4, grid=64, seed=0)
    assert fixed.geometry.shape == (2, 70)


@pytest.mark.parametrize(("grid", "value"), [(0, 0.0), (-4, 0.0), (32, np.nan)])
def test_impossible_requests_are_refused(grid: int, value: float) -> None:
    image = Volume(np.full((1, 64, 64), value, np.float32), np.eye(4), "HU")
    with pytest.raises(InputError):
        simulate(image, Parallel(views=2), i0=1e4, grid=grid, seed=0)
