"""An operator of one's own works where a projector does, from NumPy or torch."""

import numpy as np
import pytest
import torch

import tomocast as tc
from priors.runtime.errors import InputError


@pytest.fixture(scope="module")
def projector():
    orbit = tc.orbits.Parallel(views=24, columns=48, column_mm=1.5, rows=2, row_mm=1.5)
    return tc.Projector(orbit.geometry(), orbit.grid())


@pytest.fixture(scope="module")
def truth(projector):
    z, y, x = np.meshgrid(*(projector.grid.coordinates(axis) for axis in range(3)), indexing="ij")
    return np.where(x**2 + y**2 < 25**2, 0.02, 0.0) + 0 * z


def own(projector, library="numpy"):
    """The projector again, as two functions nobody knows."""
    transpose = projector.T
    return tc.LinearOperator(
        lambda x: projector(x),
        lambda y: transpose(y),
        grid=projector.grid,
        range=projector.range,
        library=library,
    )


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_it_gives_what_its_functions_give_with_gradients(projector, truth, library):
    operator = own(projector, library)
    np.testing.assert_array_equal(operator(truth), projector(truth))
    np.testing.assert_array_equal(operator.T(operator(truth)), projector.T(projector(truth)))
    x = torch.from_numpy(truth).requires_grad_(True)
    operator(x).square().sum().backward()
    expected = 2 * projector.T(projector(truth))
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-10)


def test_a_wrong_adjoint_is_refused(projector):
    with pytest.raises(InputError, match="not the transpose"):
        tc.LinearOperator(
            projector, lambda y: 1.01 * projector.T(y), grid=projector.grid, range=projector.range
        )
    with pytest.raises(InputError, match="adjoint returned the shape"):
        tc.LinearOperator(projector, lambda y: y, grid=projector.grid, range=projector.range)


@pytest.mark.parametrize(
    ("method", "options"), [("tv", {"iterations": 20}), ("nerd-fast", {"fast": {"levels": 2}})]
)
def test_methods_take_it(projector, truth, method, options):
    lines = projector(truth)
    weights = np.full(lines.shape, 1e4)
    volume = tc.reconstruct_with(own(projector), lines, method, weights=weights, **options)
    scan = tc.Scan(lines, projector.geometry, projector.grid, weights.astype(np.float32))
    same = tc.reconstruct(scan, method, **options)
    # The same numbers in another order of memory: rounding, and what a few steps make of it.
    assert np.abs(volume.values - same.values).max() < 1
    assert volume.grid == projector.grid


def test_methods_that_need_views_say_so(projector, truth):
    with pytest.raises(InputError):
        tc.reconstruct_with(own(projector), projector(truth), "fbp")


def test_a_loaded_prior_is_the_named_one(projector, truth):
    scan = tc.Scan(projector(truth), projector.geometry)
    few = {"fast": {"levels": 1}}
    named, loaded = (
        tc.reconstruct(scan, "nerd-fast", prior=prior, **few)
        for prior in ("ct-chest-256", tc.load_prior("ct-chest-256"))
    )
    np.testing.assert_array_equal(named.values, loaded.values)
