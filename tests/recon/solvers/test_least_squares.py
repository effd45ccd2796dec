"""CGLS and SIRT against dense least squares and cvxpy; stopping at the noise; subsets; bad pixels."""

import cvxpy
import numpy as np
import pytest
import torch

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.orbits import FanFlat, Parallel
from recon.operators.projector import Projector
from recon.reconstructors import CGLS, SIRT
from recon.reconstructors.base import Measurement, Reconstructor, RunContext, StepRecord
from recon.solvers.base import Stop, iterate
from recon.solvers.cgls import Cgls
from recon.solvers.functionals import Box, NonNegative
from recon.solvers.least_squares import LeastSquares
from recon.solvers.sirt import Sirt, SirtProblem, Subset, visiting_order
from tests.recon.reconstructors.test_variational import phantom, scanned
from tests.recon.solvers.test_methods import Matrix

SHAPE = (2, 3, 4)


def system(rays: int = 60, decades: float = 3) -> LeastSquares:
    """Return a random non-negative system with weights over some decades."""
    draw = np.random.default_rng(3)
    matrix = torch.from_numpy(draw.uniform(0, 1, (rays, 24)) * (draw.uniform(size=(rays, 24)) < 0.4))
    y = matrix @ torch.from_numpy(draw.uniform(-0.3, 1, 24)) + 0.2 * torch.from_numpy(draw.normal(size=rays))
    return LeastSquares(Matrix(matrix, SHAPE), y, torch.from_numpy(10 ** draw.uniform(0, decades, rays)))


def dense(task: LeastSquares) -> torch.Tensor:
    """Return the minimiser by a dense solver."""
    assert isinstance(task.operator, Matrix)
    root = task.weights.sqrt()
    answer = torch.linalg.lstsq(root[:, None] * task.operator.matrix, (root * task.target)[:, None])
    return answer.solution.reshape(SHAPE)


def test_cgls_is_exact_after_as_many_iterations_as_unknowns() -> None:
    task = system()
    found = iterate(Cgls(), task, start=torch.zeros(SHAPE).double(), stop=Stop(iterations=40))
    # Conjugacy holds to round-off times the condition number, some 1e3 here.
    torch.testing.assert_close(found.x, dense(task), rtol=1e-9, atol=1e-9)


def test_cgls_reports_the_residual_of_its_iterate() -> None:
    task = system()
    found = iterate(Cgls(), task, start=torch.ones(SHAPE).double(), stop=Stop(iterations=9))
    residual = task.target - task.operator(found.x)
    expected = float((task.weights * residual**2).sum()) / 60
    assert found.figures["chi2"] == pytest.approx(expected, rel=1e-10)


def test_cgls_stays_at_the_minimum() -> None:
    task = system()
    zero = LeastSquares(task.operator, torch.zeros_like(task.target), task.weights)
    found = iterate(Cgls(), zero, start=torch.zeros(SHAPE).double(), stop=Stop(iterations=20))
    assert not found.x.any()
    assert found.figures == {"chi2": 0.0, "change": 0.0}


@pytest.mark.parametrize("statistical", [False, True])
def test_sirt_reaches_its_weighted_minimum(statistical: bool) -> None:
    subset = Subset.of(system(decades=0.5), statistical=statistical)
    task = SirtProblem((subset,), Box())
    found = iterate(Sirt(relaxation=1.8), task, start=torch.zeros(SHAPE).double(), stop=Stop(iterations=2000))
    expected = dense(LeastSquares(subset.term.operator, subset.term.target, subset.metric))
    torch.testing.assert_close(found.x, expected, rtol=1e-5, atol=1e-5)


def test_non_negative_sirt_reaches_cvxpys_minimum() -> None:
    subset = Subset.of(system(decades=0.5), statistical=True)
    assert isinstance(subset.term.operator, Matrix)
    task = SirtProblem((subset,), NonNegative())
    found = iterate(Sirt(), task, start=torch.zeros(SHAPE).double(), stop=Stop(iterations=2000))
    x, root = cvxpy.Variable(24, nonneg=True), subset.metric.sqrt().numpy()
    residual = subset.term.operator.matrix.numpy() @ x - subset.term.target.numpy()
    cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(cvxpy.multiply(root, residual)))).solve(cvxpy.CLARABEL)
    assert (np.asarray(x.value) < 1e-6).any()
    # Clarabel's duality gap of 1e-8 leaves its square root in the minimiser.
    torch.testing.assert_close(found.x.reshape(-1), torch.from_numpy(x.value), rtol=1e-4, atol=1e-4)


def test_the_classical_step_is_one_over_the_column_sums() -> None:
    subset = Subset.of(system(), statistical=False)
    assert isinstance(subset.term.operator, Matrix)
    torch.testing.assert_close(subset.steps.reshape(-1), 1 / subset.term.operator.matrix.sum(0))


def test_subsets_are_visited_far_apart_and_all_of_them() -> None:
    assert visiting_order(8) == [0, 4, 2, 6, 1, 5, 3, 7]
    for count in (1, 2, 3, 10, 37):
        assert sorted(visiting_order(count)) == list(range(count))


def test_subsets_reach_in_one_pass_what_the_plain_method_needs_several_for() -> None:
    volume = Grid((2, 32, 32), (2.0, 1.0, 1.0))
    projector = Projector(FanFlat(views=60, sod_mm=80, sdd_mm=120).fit(volume).geometry(), volume)
    y = projector(phantom(volume))
    exact = Measurement(y, torch.ones_like(y))

    def misfit(subsets: int, iterations: int) -> float:
        method = SIRT(subsets=subsets, iterations=iterations, chi2=0.0)
        return float((projector(method(exact, projector, RunContext())) - y).norm() / y.norm())

    assert misfit(10, 3) < misfit(1, 24)
    assert misfit(10, 3) < 0.2 * misfit(1, 3)


@pytest.mark.parametrize("method", [CGLS(iterations=60), SIRT(iterations=400, subsets=4)], ids=repr)
def test_it_stops_at_the_noise_level(method: Reconstructor) -> None:
    volume = Grid((3, 24, 24), (2.0, 1.3, 1.3))
    projector, measurement = scanned(volume, views=40)
    records: list[StepRecord] = []
    x = method(measurement, projector, RunContext(on_step=records.append))
    assert 1 < records[-1].iteration < method.iterations
    assert records[-1].total == records[-1].iteration
    assert all(record.figures["chi2"] >= 1 for record in records[:-1])
    chi2 = float((measurement.weights * (projector(x) - measurement.sinogram) ** 2).mean())
    assert chi2 < 1
    assert float((x - phantom(volume)).norm() / phantom(volume).norm()) < 0.3


@pytest.mark.parametrize("method", [CGLS(), SIRT(), SIRT(weights="statistical", subsets=2)], ids=repr)
def test_a_ray_without_weight_has_no_say(method: Reconstructor) -> None:
    volume = Grid((1, 12, 12), (1.0, 1.0, 1.0))
    projector, measurement = scanned(volume, views=20)
    weights = measurement.weights.clone()
    weights[:, :, 9] = 0
    broken = measurement.sinogram.clone()
    broken[:, :, 9] = 1e3
    found, other = (
        method(Measurement(y, weights), projector, RunContext()) for y in (measurement.sinogram, broken)
    )
    torch.testing.assert_close(found, other, rtol=1e-5, atol=1e-8)


def test_mistakes_are_told() -> None:
    volume = Grid((1, 8, 8), (1.0, 1.0, 1.0))
    projector = Projector(Parallel(views=4).fit(volume).geometry(), volume)
    y = projector(phantom(volume))
    with pytest.raises(InputError, match="subsets: found 5, expected at most the 4 views"):
        SIRT(subsets=5)(Measurement(y, torch.ones_like(y)), projector, RunContext())
    for method in (CGLS(), SIRT()):
        with pytest.raises(InputError, match="every ray has zero weight"):
            method(Measurement(y, torch.zeros_like(y)), projector, RunContext())
        assert method.plan(volume, projector.geometry).total > 0
