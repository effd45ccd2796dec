"""Resampling against block means, itself and an analytic field."""

import numpy as np
import pytest

from priors.runtime.errors import InputError
from recon.data.resample import resample
from recon.data.volume import Volume


def image(shape: tuple[int, int, int], affine: np.ndarray, seed: int = 0) -> Volume:
    values = np.random.default_rng(seed).uniform(-1000, 1000, shape).astype(np.float32)
    return Volume(values, affine, "HU")


def blocks_of(fine: np.ndarray, factors: tuple[int, int, int]) -> np.ndarray:
    """Return the affine (x, y, z) of a grid whose voxels are blocks of the fine grid's."""
    scale = np.diag([*map(float, factors), 1.0])
    scale[:3, 3] = (np.array(factors) - 1) / 2
    return np.asarray(fine @ scale)


def oblique() -> np.ndarray:
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * [0.5, 0.7, 2.0], [10, -20, 300]
    return affine


def test_aligned_blocks_are_exact_means() -> None:
    source = image((4, 12, 10), oblique())
    target = Volume(np.zeros((4, 6, 5), np.float32), blocks_of(source.affine, (2, 2, 1)), "HU")
    expected = source.values.astype(np.float64).reshape(4, 6, 2, 5, 2).mean((2, 4))
    np.testing.assert_allclose(resample(source, target), expected, rtol=1e-6)


def test_flipped_and_permuted_axes_are_exact() -> None:
    source = image((3, 8, 6), np.diag([0.5, 0.5, 0.5, 1.0]))
    # Target axes (x, y, z) run along the source's -y, x and -z, blocks of two along the first.
    linear = np.zeros((4, 4))
    linear[1, 0], linear[0, 1], linear[2, 2], linear[3, 3] = -2, 1, -1, 1
    linear[:3, 3] = [0, 6.5, 2]
    target = Volume(np.zeros((3, 6, 4), np.float32), source.affine @ linear, "HU")
    expected = source.values[::-1, ::-1].reshape(3, 4, 2, 6).mean(2).transpose(0, 2, 1)
    np.testing.assert_allclose(resample(source, target), expected, rtol=1e-5)


def test_same_grid_is_the_identity_and_outside_is_nan() -> None:
    source = image((3, 4, 5), oblique())
    np.testing.assert_array_equal(resample(source, source), source.values)
    shifted = source.affine.copy()
    shifted[:3, 3] += shifted[:3, 0] * 2
    found = resample(source, Volume(np.zeros((3, 4, 5), np.float32), shifted, "HU"))
    np.testing.assert_array_equal(found[..., :3], source.values[..., 2:])
    assert np.isnan(found[..., 3:]).all()


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.7])
def test_a_linear_field_survives_interpolation(factor: float) -> None:
    """Linear interpolation and symmetric smoothing keep linear functions, away from the border."""
    shape, affine = (20, 24, 28), oblique()
    z, y, x = np.indices(shape)
    points = np.einsum("ij,jzyx->izyx", affine, np.stack([x, y, z, np.ones(shape)]))
    field = np.array([1.0, 2.0, -1.5])
    source = Volume(np.einsum("i,izyx->zyx", field, points[:3]).astype(np.float32), affine, "HU")
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]]
    target_affine = affine @ turn @ np.diag([factor, factor, factor, 1.0])
    target_affine[:3, 3] = (affine @ [12, 9, 8, 1])[:3]
    target = Volume(np.zeros((4, 5, 6), np.float32), target_affine, "HU")
    z, y, x = np.indices((4, 5, 6))
    at = np.einsum("ij,jzyx->izyx", target_affine, np.stack([x, y, z, np.ones((4, 5, 6))]))
    expected = np.einsum("i,izyx->zyx", field, at[:3])
    # Values near 700 in float32, and a Gaussian cut at four sigma near the border.
    np.testing.assert_allclose(resample(source, target), expected, atol=0.05)


def test_padding_does_not_bleed_into_the_mean() -> None:
    source = Volume(np.full((1, 2, 2), -3024, np.float32), np.eye(4), "HU")
    target = Volume(np.zeros((1, 1, 1), np.float32), blocks_of(np.eye(4), (2, 2, 1)), "HU")
    assert resample(source, target).item() == -1024


def test_volumes_apart_are_refused() -> None:
    away = np.eye(4)
    away[:3, 3] = 1e4
    with pytest.raises(InputError, match="do not overlap"):
        resample(image((2, 3, 4), np.eye(4)), image((2, 3, 4), away))
