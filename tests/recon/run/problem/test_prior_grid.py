"""Reconstructions on a prior's pixels: exact block means of the same volume, the same fit, and nearer to the truth."""

import json
from functools import cache

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tomocast as tc
from recon.data.volume import Volume, grid_affine
from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.io.scans.registry import write_scan
from recon.reconstructors.diffusion.nerd.nerd import NerdFast
from recon.run.problem.prior_grid import grid_for, prior_pixel, resampled
from tests.support.command_line import inside, mistake

KNOWN = (1.08, 1.95)
"""Pixels in mm of the embedded chest prior."""


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (1.5, 1.5),
        (1.96, 1.96),  # within the rounding of a stated range
        (3.0, 1.5),
        (4.2, 1.4),
        (6.0, 1.5),
        (0.5, 1.5),
        (0.2, 1.2),
        (0.9, 1.8),
    ],
)
def test_pixels_are_whole_parts_or_multiples_where_possible(asked, expected):
    assert prior_pixel(asked, *KNOWN) == pytest.approx(expected)


def test_a_narrow_range_is_met_at_its_end():
    assert prior_pixel(1.0, 0.7, 0.75) == 0.75
    assert prior_pixel(0.5, 0.7, 0.75) == 0.7


@cache
def loaded() -> tc.Prior:
    return tc.load_prior("ct-chest-256")


def trained_on(low: float, high: float) -> tc.Prior:
    card = loaded().card.model_copy(update={"pixel_mm": (low, high)})
    return tc.Prior.assembled(loaded().denoiser, card)


@settings(max_examples=30)
@given(
    mm=st.floats(0.05, 30.0),
    low=st.floats(0.2, 2.0),
    ratio=st.floats(1.0, 3.0),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)),
)
def test_the_grid_covers_the_field_with_pixels_the_prior_knows(mm, low, ratio, shape):
    asked = Grid(shape, (2.0, mm, mm), (1.0, -3.0, 5.0))
    grid = grid_for(NerdFast(prior=trained_on(low, low * ratio)), asked)
    assert 0.99 * low <= grid.voxel_mm[1] <= 1.01 * low * ratio * (1 + 1e-9)
    assert (grid.voxel_mm[0], grid.shape[0], grid.centre_mm) == (2.0, shape[0], asked.centre_mm)
    for axis in (1, 2):
        assert grid.shape[axis] * grid.voxel_mm[axis] >= shape[axis] * mm * (1 - 1e-6)


def ramp(grid: Grid) -> np.ndarray:
    """Return 3 x - 2 y + 10 z in mm, which means and linear interpolation reproduce."""
    z, y, x = (grid.coordinates(axis) for axis in range(3))
    return (10 * z[:, None, None] - 2 * y[:, None] + 3 * x).astype(np.float32)


@pytest.mark.parametrize(("mm", "solved"), [(3.0, 1.5), (4.0, 1.9), (0.5, 1.5)])
def test_a_volume_is_resampled_in_place(mm, solved):
    asked = Grid((2, 12, 14), (2.0, mm, mm), (1.0, -3.0, 5.0))
    counts = [int(np.ceil(n * mm / solved)) for n in asked.shape[1:]]
    grid = Grid((2, *counts), (2.0, solved, solved), asked.centre_mm)
    frame = np.diag([-1.0, 1.0, 1.0, 1.0])
    values = resampled(Volume(ramp(grid), frame @ grid_affine(grid), "1/mm", grid=grid), asked)
    # The outermost pixels have no neighbour to interpolate with, and a smoothing reaches over the end.
    inner = (slice(None), slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(values[inner], ramp(asked)[inner], atol=1e-3)
    assert np.isfinite(values).all()


def discs(grid: Grid) -> np.ndarray:
    """Return the area each voxel shares with a body and four rods, times their attenuation."""
    fine = Grid((1, 8 * grid.shape[1], 8 * grid.shape[2]), (1.0, *(mm / 8 for mm in grid.voxel_mm[1:])))
    y, x = fine.coordinates(1)[:, None], fine.coordinates(2)
    inside = 0.02 * (x**2 + y**2 < 33**2).astype(np.float64)
    for row, column in ((12, 10), (-14, 8), (4, -16), (-9, -9)):
        inside += 0.01 * ((x - column) ** 2 + (y - row) ** 2 < 5**2)
    means = inside.reshape(grid.shape[1], 8, grid.shape[2], 8).mean((1, 3))
    return np.repeat(means[None], grid.shape[0], 0).astype(np.float32)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    """A scan of the discs on rays much finer than the grid, 24 x 24 pixels of 3 mm."""
    fine, asked = Grid((2, 192, 192), (2.0, 0.375, 0.375)), Grid((2, 24, 24), (2.0, 3.0, 3.0))
    geometry = Parallel(views=24).fit(Grid((2, 64, 64), (2.0, 1.125, 1.125))).geometry()
    sinogram = tc.Projector(geometry, fine)(discs(fine))
    noise = 0.01 * np.random.default_rng(0).standard_normal(sinogram.shape)
    path = tmp_path_factory.mktemp("scan") / "scan.h5"
    weights = np.full(sinogram.shape, 1e4, np.float32)
    write_scan(path, tc.Scan((sinogram + noise).astype(np.float32), geometry, grid=asked, weights=weights))
    return path, asked


FAST = ("--method", "nerd-fast", "method.fast.levels=3", "method.warm_start=fbp")


def test_on_the_command_line(scan, tmp_path):
    path, asked = scan
    plain = inside("reconstruct", path, *FAST, "--out", tmp_path / "plain")
    assert "prior_grid=true" in plain.stderr
    done = inside("reconstruct", path, *FAST, "--prior-grid", "--out", tmp_path / "prior")
    assert "note: reconstructed on 48 x 48 pixels of 1.5 mm" in done.stderr
    assert "averaged to 24 x 24 of 3 mm" in done.stderr
    assert "trained on 1.08" not in done.stderr
    inside("reconstruct", path, *FAST, "--grid", 48, "--out", tmp_path / "fine")
    images = {name: nibabel.load(tmp_path / name / "volume.nii.gz") for name in ("plain", "prior", "fine")}
    values = {name: np.asarray(image.dataobj).T for name, image in images.items()}
    # The volume is the mean of 2 x 2 pixels of the same reconstruction, in the same place.
    means = values["fine"].reshape(2, 24, 2, 24, 2).mean((2, 4))
    np.testing.assert_allclose(values["prior"], means, atol=1e-2)
    np.testing.assert_allclose(images["prior"].affine, images["plain"].affine)
    metrics = {name: json.loads((tmp_path / name / "metrics.json").read_text()) for name in values}
    assert metrics["prior"]["chi2_per_ray"] == metrics["fine"]["chi2_per_ray"]
    assert metrics["prior"]["grid"] == [2, 24, 24]
    assert metrics["prior"]["reconstructed_on"] == {"grid": [2, 48, 48], "voxel_mm": [2.0, 1.5, 1.5]}
    assert "reconstructed_on" not in metrics["plain"]
    assert "48 x 48" in (tmp_path / "prior" / "report.html").read_text()
    truth = (discs(asked) / 0.0193 - 1) * 1000
    errors = {name: float(np.sqrt(((values[name] - truth) ** 2).mean())) for name in ("plain", "prior")}
    assert errors["prior"] < errors["plain"]
    inside("reconstruct", path, *FAST, "--prior-grid", "slab=1", "overlap=1", "--out", tmp_path / "slabs")
    slabs = np.asarray(nibabel.load(next((tmp_path / "slabs").glob("volume.nii*"))).dataobj).T
    # Both slabs hold both slices, but noise of their own order: they are the same to a few HU.
    assert np.sqrt(((slabs - values["prior"]) ** 2).mean()) < 20
    plan = json.loads(inside("reconstruct", path, *FAST, "--prior-grid", "--plan", "--json", "-").stdout)
    assert plan["bytes"]["volume buffers"] == 9 * 4 * 2 * 48 * 48
    assert plan["bytes"]["resampled volume"] == 4 * 2 * 24 * 24


def test_intervals_are_not_resampled(scan, tmp_path):
    line = mistake("reconstruct", scan[0], *FAST, "--prior-grid", "--draws", 2, "--out", tmp_path / "r")
    assert "prior_grid" in line
    assert "cannot be resampled" in line
