"""Conjugate gradients and the power iteration against dense linear algebra."""

import itertools
import math

import numpy as np
import pytest
import torch

from priors.linalg import cg, cg_each, gmres_each, power_norm
from priors.runtime.errors import InputError


def spectrum_matrix(eigenvalues: list[float], seed: int = 0) -> torch.Tensor:
    """Return a symmetric matrix with these eigenvalues."""
    normal = np.random.default_rng(seed).standard_normal((len(eigenvalues), len(eigenvalues)))
    basis = torch.from_numpy(np.linalg.qr(normal)[0])
    return basis @ torch.diag(torch.tensor(eigenvalues, dtype=torch.float64)) @ basis.T


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_cg_solves_what_a_dense_solver_solves(generator: torch.Generator) -> None:
    matrix = spectrum_matrix(list(np.linspace(1, 50, 24)))
    b = torch.randn(24, generator=generator, dtype=torch.float64)
    expected = torch.linalg.solve(matrix, b)
    # 24 steps are exact in exact arithmetic; condition 50 leaves about 50 * 2^-53 of relative error.
    found = cg(lambda v: matrix @ v, b, iterations=24)
    assert float((found - expected).norm() / expected.norm()) < 1e-12


def test_cg_needs_one_step_per_distinct_eigenvalue(generator: torch.Generator) -> None:
    matrix = spectrum_matrix([1.0] * 10 + [7.0] * 8 + [30.0] * 6)
    b = torch.randn(24, generator=generator, dtype=torch.float64)
    expected = torch.linalg.solve(matrix, b)
    error = [float((cg(lambda v: matrix @ v, b, iterations=k) - expected).norm()) for k in (2, 3)]
    assert error[0] > 1e-3 * float(expected.norm())
    assert error[1] < 1e-12 * float(expected.norm())


def test_cg_from_a_guess_keeps_shape_layout_and_arguments(generator: torch.Generator) -> None:
    scale = torch.rand(2, 3, 4, generator=generator, dtype=torch.float64) + 1
    b = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    guess = (b / scale).permute(1, 2, 0).contiguous().permute(2, 0, 1) + 0.1
    before = guess.clone()
    found = cg(lambda v: scale * v, b, guess, iterations=24)
    torch.testing.assert_close(found, b / scale, rtol=1e-12, atol=1e-12)
    assert torch.equal(guess, before)


def test_cg_stops_at_the_tolerance(generator: torch.Generator) -> None:
    matrix = spectrum_matrix(list(np.geomspace(1e-3, 1, 40)))
    b = torch.randn(40, generator=generator, dtype=torch.float64)
    count = 0

    def product(v: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += 1
        return matrix @ v

    x = cg(product, b, iterations=400, tolerance=1e-2)
    # The recursive residual that stops the loop drifts from the true one by round-off only.
    assert float((b - matrix @ x).norm()) <= 1.0001e-2 * float(b.norm())
    used = count
    cg(product, b, iterations=400, tolerance=1e-8)
    assert used < count - used < 400


def test_cg_of_a_singular_operator_finds_the_least_norm_solution(generator: torch.Generator) -> None:
    matrix = spectrum_matrix([0.0] * 5 + [1.0, 2.0, 3.0, 4.0])
    b = matrix @ torch.randn(9, generator=generator, dtype=torch.float64)
    found = cg(lambda v: matrix @ v, b, iterations=4)
    torch.testing.assert_close(found, torch.linalg.pinv(matrix, rtol=1e-10) @ b, rtol=1e-10, atol=1e-10)
    assert torch.equal(cg(lambda v: matrix @ v, 0 * b, iterations=4), 0 * b)


def test_cg_refuses_nan_and_negative_curvature(generator: torch.Generator) -> None:
    b = torch.randn(6, generator=generator, dtype=torch.float64)
    with pytest.raises(InputError, match="NaN or infinite at iteration 1"):
        cg(lambda v: v * float("nan"), b, iterations=5)
    with pytest.raises(InputError, match="not positive semidefinite"):
        cg(lambda v: -v, b, iterations=5)


def test_power_norm_is_the_largest_eigenvalue(generator: torch.Generator) -> None:
    matrix = spectrum_matrix([0.5, 1.0, 3.0, 8.0])
    start = torch.rand(4, generator=generator, dtype=torch.float64) + 0.5
    # Error contracts by (3/8)^2 a step: 100 steps leave only round-off; the stop leaves about the tolerance.
    assert power_norm(lambda v: matrix @ v, start, tolerance=0.0) == pytest.approx(8.0, rel=1e-12)
    assert power_norm(lambda v: matrix @ v, start) == pytest.approx(8.0, rel=1e-4)
    assert power_norm(lambda v: 0 * v, start) == 0
    with pytest.raises(InputError, match="NaN"):
        power_norm(lambda v: v / 0, start)


def batch(n: int = 5, *, skewed: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return G = H L, L and right-hand sides for three samples."""
    draw = torch.Generator().manual_seed(9)
    H = torch.randn(3, n, 7, generator=draw, dtype=torch.float64)
    L = torch.randn(3, 7, n, generator=draw, dtype=torch.float64) if skewed else H.mT.clone()
    return H @ L, L, torch.randn(3, n, generator=draw, dtype=torch.float64)


@pytest.mark.parametrize(("solve", "skewed"), [(cg_each, False), (gmres_each, False), (gmres_each, True)])
def test_each_sample_is_solved_and_mapped_on_its_own(solve, skewed):
    G, L, b = batch(skewed=skewed)
    b[1] = 0

    def apply(d):
        return torch.einsum("bij,bj->bi", G, d), torch.einsum("bij,bj->bi", L, d)

    found = solve(apply, b, iterations=5)
    dense = torch.einsum(
        "bij,bj->bi", L, torch.linalg.solve(torch.eye(5, dtype=torch.float64) + G, b[..., None])[..., 0]
    )
    # Five directions span the space; orthogonality is lost with the condition number, about 1e3.
    torch.testing.assert_close(found, dense, rtol=1e-8, atol=1e-9)
    assert (found[1] == 0).all()


def test_gmres_lowers_the_residual_with_every_iteration():
    G, _, b = batch(skewed=True)
    system = torch.eye(5, dtype=torch.float64) + G
    errors = []
    for iterations in (1, 2, 3, 4):
        x = gmres_each(lambda d: (torch.einsum("bij,bj->bi", G, d), d), b, iterations=iterations)
        errors.append((b - torch.einsum("bij,bj->bi", system, x)).norm(dim=1))
    assert all((after <= before * (1 + 1e-12)).all() for before, after in itertools.pairwise(errors))


def test_gmres_refuses_a_product_that_is_not_finite():
    with pytest.raises(InputError, match="not finite"):
        gmres_each(lambda d: (d * math.inf, d), torch.ones(1, 3), iterations=2)


def test_cg_each_with_a_tolerance_solves_every_sample_as_if_it_were_alone():
    generator = torch.Generator().manual_seed(7)
    root = torch.randn(3, 12, 12, generator=generator, dtype=torch.float64)
    # Samples that need one, a few and many iterations.
    scale = torch.tensor([0.0, 0.1, 3.0], dtype=torch.float64)[:, None, None]
    matrices = scale * root @ root.mT
    b = torch.randn(3, 12, generator=generator, dtype=torch.float64)

    def solved(chosen: slice) -> torch.Tensor:
        part = matrices[chosen]
        return cg_each(lambda d: ((part @ d[..., None])[..., 0], d), b[chosen], iterations=30, tolerance=1e-3)

    together = solved(slice(0, 3))
    alone = torch.cat([solved(slice(n, n + 1)) for n in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)
    residual = b - together - (matrices @ together[..., None])[..., 0]
    assert bool((residual.norm(dim=1) <= 1e-3 * b.norm(dim=1)).all())
