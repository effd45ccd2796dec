"""The derivative of the projector is its adjoint, and the other way round, to any order."""

import pytest
import torch

from recon.geometry.grid import Grid
from recon.geometry.orbits import FanFlat, Parallel
from recon.operators.projector import Projector

VOLUME = Grid((2, 5, 6), (1.0, 1.0, 1.2))


@pytest.fixture(params=["numba", "reference"])
def A(request: pytest.FixtureRequest) -> Projector:  # noqa: N802
    orbit = FanFlat(views=3, sod_mm=9, sdd_mm=14).fit(VOLUME)
    return Projector(orbit.geometry(), VOLUME, backend=request.param)


def test_first_and_second_derivatives(A: Projector) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(A.domain, generator=generator, dtype=torch.float64).requires_grad_()
    y = torch.rand(A.range, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(A, x)
    assert torch.autograd.gradcheck(A.adjoint, y)
    # Squares make the gradient depend on the input, so that second derivatives are not zero.
    assert torch.autograd.gradgradcheck(lambda x: A(x) ** 2, x)
    assert torch.autograd.gradgradcheck(lambda y: A.adjoint(y) ** 2, y)


def test_gradient_of_a_data_term_is_the_adjoint_of_the_residual(A: Projector) -> None:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(A.domain, generator=generator).requires_grad_()
    y = torch.rand(A.range, generator=generator)
    (gradient,) = torch.autograd.grad(((A(x) - y) ** 2).sum() / 2, x)
    assert torch.equal(gradient, A.adjoint(A(x.detach()) - y))


def test_gradients_reach_a_non_contiguous_leaf() -> None:
    A = Projector(Parallel(views=4).fit(VOLUME).geometry(), VOLUME)
    leaf = torch.rand((6, 2, 5), generator=torch.Generator().manual_seed(2)).requires_grad_()
    A(leaf.permute(1, 2, 0)).sum().backward()
    assert leaf.grad is not None
    assert torch.equal(leaf.grad.permute(1, 2, 0), A.adjoint(torch.ones(A.range)))


def test_normal_is_the_weighted_gradient_with_and_without_autograd(A: Projector) -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(A.domain, generator=generator)
    y, weights = (torch.rand(A.range, generator=generator) for _ in range(2))
    expected = A.adjoint(weights * (A(x) - y))
    torch.testing.assert_close(A.normal(x, y, weights), expected)
    torch.testing.assert_close(A.normal(x, weights=2.0), 2 * A.adjoint(A(x)))
    torch.testing.assert_close(A.T.normal(y), A(A.adjoint(y)))
    assert torch.equal(A.normal(x.clone().requires_grad_(), y, weights), expected)
    x64 = torch.rand(A.domain, generator=generator, dtype=torch.float64).requires_grad_()
    y64 = y.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: A.normal(x, y, y**2), (x64, y64))
