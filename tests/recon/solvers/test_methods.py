"""PDHG against cvxpy and closed forms; the loop's stopping rule, continuation and NaN check."""

import cvxpy
import numpy as np
import pytest
import torch
from torch import Tensor

from priors.runtime.errors import InputError
from recon.operators.base import LinearOperator
from recon.operators.differences import Differences
from recon.solvers.base import Stop, iterate
from recon.solvers.functionals import L1, L21, Box, NonNegative, SquaredL2
from recon.solvers.fused_variation import VariationTerm
from recon.solvers.pdhg import Pdhg, PdhgState, SaddleProblem, Term


class Matrix(LinearOperator):
    """A dense matrix on flattened volumes."""

    def __init__(self, matrix: Tensor, domain: tuple[int, ...]) -> None:
        self.matrix, self.domain, self.range = matrix, domain, (matrix.shape[0],)

    def __call__(self, x: Tensor) -> Tensor:
        return self.matrix @ x.reshape(-1)

    def adjoint(self, y: Tensor) -> Tensor:
        return (self.matrix.T @ y).reshape(self.domain)


def problem(domain: tuple[int, int, int], rays: int, simple: Box, *, weight: float = 0.3) -> SaddleProblem:
    """Weighted least squares with isotropic total variation on a random non-negative system."""
    generator = np.random.default_rng(11)
    matrix = torch.from_numpy(generator.uniform(0, 1, (rays, int(np.prod(domain)))))
    y = torch.from_numpy(generator.uniform(0, 4, rays))
    weights = torch.from_numpy(10 ** generator.uniform(-2, 1, rays))
    data = Term(Matrix(matrix, domain), SquaredL2(y, weights))
    return SaddleProblem((data, Term(Differences(domain, weights=(0.5, 1.0, 1.0)), L21(weight))), simple)


def oracle(task: SaddleProblem) -> np.ndarray:
    """Return cvxpy's minimiser of ``problem``."""
    data, variation = task.terms
    assert isinstance(data.functional, SquaredL2)
    assert isinstance(variation.functional, L21)
    assert isinstance(task.simple, Box)
    assert isinstance(data.operator, Matrix)
    assert isinstance(variation.operator, Differences)
    domain = data.operator.domain
    x = cvxpy.Variable(int(np.prod(domain)))
    basis = torch.eye(int(np.prod(domain)), dtype=torch.float64).reshape(-1, *domain)
    groups = np.stack([variation.operator(unit).numpy() for unit in basis], axis=-1)
    lengths = cvxpy.norm(cvxpy.vstack([groups[a].reshape(-1, x.size) @ x for a in range(3)]), 2, axis=0)
    root = data.functional.weights.sqrt().numpy()
    fit = cvxpy.multiply(root, data.operator.matrix.numpy() @ x - data.functional.target.numpy())
    cost = 0.5 * cvxpy.sum_squares(fit) + variation.functional.weight * cvxpy.sum(lengths)
    limits = [x >= task.simple.low] + ([x <= task.simple.high] if task.simple.high < np.inf else [])
    cvxpy.Problem(cvxpy.Minimize(cost), limits).solve(solver=cvxpy.CLARABEL)
    return np.asarray(x.value).reshape(domain)


@pytest.mark.parametrize("simple", [NonNegative(), Box(0.1, 0.4)], ids=repr)
def test_pwls_tv_with_bounds_reaches_cvxpys_optimum(simple: Box) -> None:
    task = problem((2, 4, 3), 40, simple)
    start = torch.zeros(2, 4, 3, dtype=torch.float64)
    found = iterate(Pdhg(), task, start=start, stop=Stop(iterations=10000, below={"change": 1e-11}))
    exact = torch.from_numpy(oracle(task))
    assert found.converged
    # Clarabel's relative gap is 1e-8: objectives agree to that, minimisers to about its square root.
    assert task.objective(found.x) <= task.objective(simple.prox(exact, 1.0)) * (1 + 1e-8)
    assert float((found.x - exact).norm() / exact.norm()) < 1e-4


def test_underdetermined_tv_reaches_cvxpys_objective() -> None:
    task = problem((2, 4, 4), 12, NonNegative(), weight=0.05)
    start = torch.zeros(2, 4, 4, dtype=torch.float64)
    found = iterate(Pdhg(), task, start=start, stop=Stop(iterations=10000, below={"change": 1e-10}))
    exact = task.objective(torch.from_numpy(oracle(task)).clamp(min=0))
    assert task.objective(found.x) <= exact * (1 + 1e-6)


def test_l1_denoising_has_its_closed_form() -> None:
    v = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    identity = Matrix(torch.eye(12, dtype=torch.float64), (3, 2, 2))
    target = SquaredL2(v.reshape(-1), torch.ones(12, dtype=torch.float64))
    task = SaddleProblem((Term(identity, target), Term(identity, L1(0.4))), Box())
    found = iterate(Pdhg(), task, start=torch.zeros_like(v), stop=Stop(iterations=400))
    expected = torch.sign(v) * (v.abs() - 0.4).clamp(min=0)
    # Linear convergence for this strongly convex problem: 400 iterations leave round-off.
    torch.testing.assert_close(found.x, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("diagonal", [False, True])
def test_default_steps_stay_below_the_convergence_limit(diagonal: bool) -> None:
    task = problem((2, 4, 3), 40, NonNegative())
    if diagonal:
        generator = torch.Generator().manual_seed(5)
        scales = [torch.rand(t.operator.range, generator=generator).double() + 0.1 for t in task.terms]
        terms = tuple(Term(t.operator, t.functional, s) for t, s in zip(task.terms, scales, strict=True))
        primal = torch.rand(2, 4, 3, generator=generator).double() + 0.1
        task = SaddleProblem(terms, task.simple, primal)
    state = Pdhg().init(task, torch.zeros(2, 4, 3, dtype=torch.float64))
    columns = []
    for unit in torch.eye(24, dtype=torch.float64).reshape(-1, 2, 4, 3):
        image = [(t.scale**0.5 * t.operator(task.scale**0.5 * unit)).reshape(-1) for t in task.terms]
        columns.append(torch.cat(image))
    product = state.step**2 * float(torch.linalg.matrix_norm(torch.stack(columns, 1), 2)) ** 2
    assert 0.3 < product < 1


def test_a_continued_run_takes_the_same_steps() -> None:
    task = problem((2, 4, 3), 40, NonNegative())
    start = torch.zeros(2, 4, 3, dtype=torch.float64)
    whole = iterate(Pdhg(), task, start=start, stop=Stop(iterations=30))
    half = iterate(Pdhg(), task, start=start, stop=Stop(iterations=13))
    assert half.state.iteration == 13
    assert torch.equal(iterate(Pdhg(), task, start=half.state, stop=Stop(iterations=30)).x, whole.x)


def test_the_loop_stops_when_every_figure_is_below_its_bound() -> None:
    task = problem((2, 4, 3), 40, NonNegative())
    start = torch.zeros(2, 4, 3, dtype=torch.float64)
    seen: list[tuple[int, dict[str, float]]] = []

    def note(state: PdhgState, figures: dict[str, float]) -> None:
        seen.append((state.iteration, figures))

    bounds = {"change": 1e-4, "dual_change": 1e-3}
    result = iterate(
        Pdhg(), task, start=start, stop=Stop(iterations=5000, below=bounds, every=7), on_step=note
    )
    assert result.converged
    assert [k for k, _ in seen] == [7 * (i + 1) for i in range(len(seen))]
    assert all(result.figures[name] < bound for name, bound in bounds.items())
    assert not any(all(f[n] < b for n, b in bounds.items()) for _, f in seen[:-1])
    short = iterate(Pdhg(), task, start=start, stop=Stop(iterations=5, below=bounds))
    assert not short.converged
    assert short.state.iteration == 5


def test_a_nan_stops_the_run_with_a_clear_error() -> None:
    task = problem((2, 4, 3), 40, NonNegative())
    data = task.terms[0].functional
    assert isinstance(data, SquaredL2)
    target = data.target.clone()
    target[3] = float("nan")
    bad = SaddleProblem((Term(task.terms[0].operator, SquaredL2(target, data.weights)),), task.simple)
    with pytest.raises(
        InputError, match=r"the iterate.* became NaN or infinite by iteration 10; check the meas"
    ):
        iterate(Pdhg(), bad, start=torch.zeros(2, 4, 3, dtype=torch.float64), stop=Stop(iterations=500))


def test_the_loop_runs_without_autograd() -> None:
    task = problem((2, 4, 3), 40, NonNegative())
    start = torch.zeros(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert not iterate(Pdhg(), task, start=start, stop=Stop(iterations=3)).x.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(4, 6, 5), (1, 7, 3), (3, 1, 1)], ids=str)
def test_the_fused_variation_step_is_the_composed_one(
    shape: tuple[int, int, int], dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(9)
    z, y, x = shape
    operator = Differences(shape, weights=(0.6, 1.0, 1.2))
    point = torch.randn((y, x, z), generator=generator, dtype=dtype).permute(2, 0, 1)
    dual = 0.4 * torch.randn((3, y, x, z), generator=generator, dtype=dtype).permute(0, 3, 1, 2)
    fused, composed = (kind(operator, L21(0.7), 0.4) for kind in (VariationTerm, Term))
    expected = composed.advance(dual, point, step=0.9, relaxation=1.8)
    tight = 16 * torch.finfo(dtype).eps
    # The same few operations in another order: round-off of values of order one.
    for layout in (point, point.contiguous()):
        found = fused.advance(dual, layout, step=0.9, relaxation=1.8)
        torch.testing.assert_close(found, expected, rtol=tight, atol=tight)
        assert found.permute(0, 2, 3, 1).is_contiguous()
