"""The parts of NERD against dense algebra, autograd and cvxpy, on a prior whose conditional mean is known exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from priors.diffusion.denoiser import GaussianDenoiser
from recon.data.units import attenuation_to_hu
from recon.reconstructors.diffusion.coupling import AdmmCoupling, Coupling, PdhgCoupling
from recon.reconstructors.diffusion.data_term import DataTerm, NetworkUnits
from recon.reconstructors.diffusion.nerd.refine import CgRefinement, VjpRefinement
from tests.support.recon.small_diffusion import (
    CODEC,
    SCHEDULE,
    SIDE,
    SLICES,
    dense,
    gaussian_denoiser,
    make_problem,
    measured,
    small_projector,
)


def test_units_fold_into_the_data() -> None:
    projector = small_projector()
    measurement, truth = measured(projector)
    units = NetworkUnits.of(CODEC, mu_water=measurement.mu_water)
    data = DataTerm(projector, measurement, units=units, model_error=0.0)
    x = units.network(truth)
    torch.testing.assert_close(
        CODEC.decode(x), attenuation_to_hu(truth, measurement.mu_water), rtol=1e-4, atol=0.05
    )
    expected = (measurement.weights * (projector(truth) - measurement.sinogram) ** 2).mean()
    # float32 projections of sums over a dozen voxels: relative 1e-4 on a squared residual is rounding.
    assert data.chi2(data.residual(x)) == pytest.approx(float(expected), rel=1e-3)


def test_model_error_caps_the_weights() -> None:
    projector = small_projector()
    measurement, _ = measured(projector)
    units = NetworkUnits.of(CODEC)
    data = DataTerm(projector, measurement, units=units, model_error=0.1)
    variance = 1 / measurement.weights + 0.1**2
    torch.testing.assert_close(data.weights, units.slope**2 / variance, rtol=1e-5, atol=0)


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_vjp_is_the_gradient_through_every_slice(chunk: int) -> None:
    problem = make_problem(gaussian_denoiser(), AdmmCoupling(), chunk=chunk)
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(problem.data.projector.domain, generator=generator)
    weight = torch.randn(problem.data.projector.domain, generator=generator)
    leaf = u.clone().requires_grad_(True)
    times = SCHEDULE.inverse(torch.full((SLICES,), 0.4, dtype=torch.float64))
    (gaussian_denoiser()(leaf[:, None], times)[:, 0] * weight).sum().backward()
    torch.testing.assert_close(problem.vjp(u, weight, 0.4), leaf.grad, rtol=1e-5, atol=1e-6)


def lopsided_denoiser() -> GaussianDenoiser:
    """Return a denoiser that treats left and right differently."""
    mean = torch.linspace(-1, 1, SIDE).expand(1, SIDE, SIDE)
    variances = torch.linspace(0.1, 1.0, SIDE).repeat(SIDE)
    return GaussianDenoiser(mean, torch.diag(variances), schedule=SCHEDULE)


def test_mirrored_estimate_and_vjp_are_those_of_the_mirror_image() -> None:
    problem = make_problem(lopsided_denoiser(), AdmmCoupling())
    mirrored = replace(problem, mirrored=True)
    generator = torch.Generator().manual_seed(3)
    u, weight = (torch.randn(problem.data.projector.domain, generator=generator) for _ in range(2))
    expected = problem.denoise(u.flip(-1), 0.4).flip(-1)
    torch.testing.assert_close(mirrored.denoise(u, 0.4), expected, rtol=1e-5, atol=1e-6)
    expected = problem.vjp(u.flip(-1), weight.flip(-1), 0.4).flip(-1)
    torch.testing.assert_close(mirrored.vjp(u, weight, 0.4), expected, rtol=1e-5, atol=1e-6)
    assert (problem.denoise(u, 0.4) - mirrored.denoise(u, 0.4)).abs().max() > 0.1


@pytest.mark.parametrize("coupling", [AdmmCoupling(rho=0.0), AdmmCoupling(rho=40.0)])
def test_cg_refinement_solves_the_normal_equations(coupling: Coupling) -> None:
    problem = make_problem(gaussian_denoiser(), coupling)
    estimate = torch.rand(problem.data.projector.domain, generator=torch.Generator().manual_seed(2)) - 1
    refine = CgRefinement(iterations=80, pull=2.0)
    duals = problem.start_duals(estimate)
    found = refine.solve(problem, estimate, duals, start=estimate, level=0.3)
    matrix, weights = dense(problem), problem.data.weights.double().numpy().ravel()
    pull = 2.0 / min(0.3**2, (refine.error_hu / 1000) ** 2)
    size = SIDE * SIDE
    difference = np.kron(np.eye(SLICES - 1, SLICES, 1) - np.eye(SLICES - 1, SLICES), np.eye(size))
    hessian = matrix.T @ (weights[:, None] * matrix) + pull * np.eye(matrix.shape[1])
    hessian += coupling.rho * difference.T @ difference
    right = matrix.T @ (weights * problem.data.y.double().numpy().ravel())
    right += pull * estimate.double().numpy().ravel()
    if problem.coupled:
        right += coupling.rho * difference.T @ (duals["z"] - duals["u"]).double().numpy().ravel()
    exact = np.linalg.solve(hessian, right).reshape(found.shape)
    # CG in float32 on a matrix of condition ~1e3: about 1e-7 * 1e3.
    np.testing.assert_allclose(found.numpy(), exact, atol=2e-3 * np.abs(exact).max())


@pytest.mark.parametrize("coupling", [AdmmCoupling(rho=30.0), PdhgCoupling(rho=5.0)])
def test_both_solvers_reach_the_convex_optimum(coupling: Coupling) -> None:
    """With a denoiser that always answers its mean, a level is a convex problem that cvxpy solves."""
    import cvxpy

    constant = GaussianDenoiser(
        torch.full((1, SIDE, SIDE), -0.5), torch.zeros(SIDE * SIDE, SIDE * SIDE), schedule=SCHEDULE
    )
    tau = 2.0
    problem = make_problem(constant, coupling, threshold=tau / coupling.rho)
    u = torch.zeros(problem.data.projector.domain)
    refine = CgRefinement(iterations=15, sweeps=120, pull=1.0)
    found = refine(problem, u, problem.start_duals(u), 0.3).x
    matrix, weights = dense(problem), problem.data.weights.double().numpy().ravel()
    x = cvxpy.Variable(matrix.shape[1])
    difference = np.kron(np.eye(SLICES - 1, SLICES, 1) - np.eye(SLICES - 1, SLICES), np.eye(SIDE * SIDE))
    residual = cvxpy.multiply(np.sqrt(weights), matrix @ x - problem.data.y.double().numpy().ravel())
    prior = refine.pull / (refine.error_hu / 1000) ** 2 / 2 * cvxpy.sum_squares(x + 0.5)
    objective = cvxpy.sum_squares(residual) / 2 + prior + tau * cvxpy.norm1(difference @ x)
    cvxpy.Problem(cvxpy.Minimize(objective)).solve(solver=cvxpy.CLARABEL)
    np.testing.assert_allclose(found.numpy().ravel(), x.value, atol=5e-3)
    assert (
        np.abs(difference @ x.value).max() > 0.01
    )  # the coupling is active but has not flattened everything


def test_vjp_refinement_reaches_the_optimum_over_network_inputs() -> None:
    """For a linear denoiser min_V of the data term plus lambda/2 ||V - u||^2 is a linear solve."""
    problem = make_problem(gaussian_denoiser(), AdmmCoupling(rho=0.0))
    level, weight = 0.5, 20.0
    u = -0.5 + 0.3 * torch.randn(problem.data.projector.domain, generator=torch.Generator().manual_seed(3))
    refine = VjpRefinement(
        iterations=300,
        learning_rate_hu=10.0,
        forward_weight=weight,
        kappa=1e-6,
        overestimate=1.0,
        polish=None,
    )
    found = refine(problem, u, {}, level)
    zero = problem.denoise(torch.zeros_like(u), level)
    count = u.numel()
    jacobian = (
        torch.stack(
            [
                (problem.denoise(torch.eye(count)[k].reshape(u.shape), level) - zero).flatten()
                for k in range(count)
            ],
            1,
        )
        .double()
        .numpy()
    )
    system = dense(problem) @ jacobian
    weights = problem.data.weights.double().numpy().ravel()
    right = problem.data.y.double().numpy().ravel() - dense(problem) @ zero.double().numpy().ravel()
    hessian = system.T @ (weights[:, None] * system) + weight * np.eye(count)
    best = np.linalg.solve(hessian, system.T @ (weights * right) + weight * u.double().numpy().ravel())
    exact = (jacobian @ best).reshape(u.shape) + zero.double().numpy()
    scale = np.abs(exact - zero.numpy()).max()
    np.testing.assert_allclose(found.x.numpy(), exact, atol=0.02 * scale)


def test_solvers_agree_on_the_same_level() -> None:
    """ADMM and PDHG solve the same strictly convex problem: run long at one level they give the same volume."""
    results = []
    for coupling in (AdmmCoupling(rho=20.0), PdhgCoupling(rho=20.0)):
        problem = make_problem(gaussian_denoiser(), coupling, threshold=0.05)
        u = -0.5 + 0.5 * torch.randn(
            problem.data.projector.domain, generator=torch.Generator().manual_seed(5)
        )
        refine = VjpRefinement(
            iterations=400,
            step="condat",
            forward_weight=20.0,
            kappa=1e-6,
            overestimate=1.0,
            polish=None,
            dual_tolerance=1e-9,
        )
        results.append(refine(problem, u, problem.start_duals(u), 0.5).x)
    spread = float((results[0] - results[1]).norm() / (results[0] + 0.5).norm())
    # 0.05 dB in amplitude is 0.6 %.
    assert spread < 0.006


def test_stopping_needs_data_and_duals() -> None:
    """A level stops early only when both residuals are small."""
    problem = make_problem(gaussian_denoiser(), AdmmCoupling(rho=20.0))
    u = torch.full(problem.data.projector.domain, -0.5)
    loose = VjpRefinement(iterations=5, kappa=1e6, dual_tolerance=1e6)
    assert loose(problem, u, problem.start_duals(u), 0.5).figures["inner_steps"] == 1
    strict = VjpRefinement(iterations=5, kappa=1e6, dual_tolerance=1e-12)
    rough = u + torch.randn(u.shape, generator=torch.Generator().manual_seed(4))
    duals = problem.start_duals(torch.zeros_like(u))
    assert strict(problem, rough, duals, 0.5).figures["inner_steps"] == 5
