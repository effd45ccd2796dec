"""The procedural thorax: repeatable, plausible in HU, surrounded by air, continuous along z."""

import numpy as np
import pytest

from recon.simulate.phantom.drawing import Canvas, add_capsule, superellipse
from recon.simulate.phantom.thorax import thorax

SHAPE, VOXEL = (6, 96, 96), (2.5, 3.6, 3.6)
SEEDS = range(6)


@pytest.fixture(scope="module")
def chests() -> dict[int, np.ndarray]:
    return {seed: thorax(seed, shape=SHAPE, voxel_mm=VOXEL) for seed in SEEDS}


def test_a_seed_gives_one_person_and_another_seed_another(chests: dict[int, np.ndarray]) -> None:
    assert np.array_equal(thorax(0, shape=SHAPE, voxel_mm=VOXEL), chests[0])
    for seed in SEEDS[1:]:
        assert np.abs(chests[seed] - chests[0]).mean() > 50


@pytest.mark.parametrize("seed", SEEDS)
def test_values_are_those_of_a_chest(chests: dict[int, np.ndarray], seed: int) -> None:
    hu = chests[seed]
    assert hu.dtype == np.float32
    assert hu.shape == SHAPE
    assert np.isfinite(hu).all()
    assert hu.min() == -1000
    assert 300 < hu.max() < 2000
    share = {
        "air": (hu < -970).mean(),
        "fat": ((hu > -150) & (hu < -60)).mean(),
        "soft tissue": ((hu > -20) & (hu < 130)).mean(),
        "bone": (hu > 250).mean(),
    }
    least = {"air": 0.2, "fat": 0.02, "soft tissue": 0.04, "bone": 0.004}
    assert all(share[name] > least[name] for name in least), share


def test_most_chests_show_lungs(chests: dict[int, np.ndarray]) -> None:
    aerated = [((hu > -960) & (hu < -650)).mean() for hu in chests.values()]
    assert np.mean(np.array(aerated) > 0.03) >= 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_the_border_is_air(chests: dict[int, np.ndarray], seed: int) -> None:
    hu = chests[seed]
    border = [hu[:, :2], hu[:, -2:], hu[:, :, :2], hu[:, :, -2:]]
    assert all((edge == -1000).all() for edge in border)


@pytest.mark.parametrize("seed", SEEDS)
def test_structures_continue_from_slice_to_slice(chests: dict[int, np.ndarray], seed: int) -> None:
    hu, stranger = chests[seed], chests[(seed + 1) % len(SEEDS)]
    near = np.abs(np.diff(hu, axis=0)).mean()
    assert near < np.abs(hu[-1] - hu[0]).mean()
    # Another person in the same place is what no coherence would look like.
    assert near < 0.25 * np.abs(hu - stranger).mean()


def test_thin_slices_differ_less_than_thick_ones() -> None:
    change = []
    for thickness in (0.5, 2.0, 8.0):
        hu = thorax(3, shape=(4, 96, 96), voxel_mm=(thickness, 3.6, 3.6))
        change.append(np.abs(np.diff(hu, axis=0)).mean())
    assert change[0] < change[1] < change[2]


def test_edges_are_partial_volumes() -> None:
    step = np.float32(0.5)
    axis = ((np.arange(80) - 39.5) * step).astype(np.float32)
    grid = Canvas(axis[None, None], axis[None, :, None], np.zeros((1, 1, 1), np.float32), 0.5, 0.5)
    disc = grid.cover(superellipse(grid.x, grid.y, half=(11.0, 7.0), power=2.0) + 0 * grid.z)
    # The area of an ellipse; the distance is exact only along rays from the centre, hence 2 percent.
    assert disc.sum() * step**2 == pytest.approx(np.pi * 77, rel=0.02)
    assert ((disc > 0.05) & (disc < 0.95)).sum() > 50


def test_a_capsule_has_its_volume_and_stays_in_its_box() -> None:
    axis = ((np.arange(60) - 29.5) * 0.5).astype(np.float32)
    grid = Canvas(axis[None, None], axis[None, :, None], axis[:, None, None], 0.5, 0.5)
    cover = np.zeros(grid.shape, np.float32)
    ends = (np.array([-6, -4, 2], np.float32), np.array([5, 6, -3], np.float32))
    add_capsule(cover, grid, ends=ends, radii=(3.0, 3.0))
    length = float(np.linalg.norm(ends[1] - ends[0]))
    expected = np.pi * 9 * length + 4 / 3 * np.pi * 27
    # Coverage is linear in the distance: second order in voxel over radius.
    assert cover.sum() * 0.125 == pytest.approx(expected, rel=0.02)
    whole = cover.copy()
    add_capsule(cover, grid, ends=(ends[0] + 100, ends[1] + 100), radii=(3.0, 3.0))
    assert np.array_equal(cover, whole)
