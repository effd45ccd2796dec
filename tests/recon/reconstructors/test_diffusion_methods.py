"""Diffusion methods against dense algebra, on a Gaussian prior whose conditional mean is linear and known."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from recon.reconstructors import DDS, DPS, SITCOM, DiffPIR, DiffusionMBIR, PnPADMM, PnPHQS, REDDiff
from recon.reconstructors.diffusion.base import NoiseLevel
from recon.reconstructors.diffusion.coupling import AdmmCoupling
from recon.reconstructors.diffusion.ladder import Geometric, LinearBetas
from recon.reconstructors.diffusion.noise import noise_like
from recon.reconstructors.diffusion.plug_and_play import filling_noise
from recon.reconstructors.diffusion.problem import NerdProblem, slice_last
from recon.reconstructors.diffusion.state import DiffusionState
from tests.support.recon.small_diffusion import SIDE, SLICES, dense, gaussian_denoiser, make_problem

LEVEL, AFTER = 0.4, 0.25
ENOUGH = 200  # conjugate-gradient steps that solve 108 unknowns to float32's rounding


@pytest.fixture
def problem() -> NerdProblem:
    return make_problem(gaussian_denoiser(), AdmmCoupling(rho=0))


def state_of(problem: NerdProblem, seed: int = 3) -> DiffusionState:
    generator = torch.Generator().manual_seed(seed)
    x = slice_last(-0.5 + 0.3 * torch.randn(SLICES, SIDE, SIDE, generator=generator))
    u = x + LEVEL * noise_like(x, generator)
    return DiffusionState(0, u, x, problem.start_duals(x), generator.get_state(), problem.chunk)


def solved(problem: NerdProblem, estimate: torch.Tensor, weight: float) -> np.ndarray:
    """The minimiser of 1/2 |W^(1/2) (A x - y)|^2 + weight/2 |x - estimate|^2 by a dense solve."""
    a, w = dense(problem), problem.data.weights.flatten().double().numpy()
    y = problem.data.y.flatten().double().numpy()
    left = a.T @ (w[:, None] * a) + weight * np.eye(a.shape[1])
    right = a.T @ (w * y) + weight * estimate.flatten().double().numpy()
    return np.linalg.solve(left, right).reshape(estimate.shape)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(9)


def test_dds_meets_the_data_around_the_estimate_and_steps_as_ddim(problem: NerdProblem) -> None:
    state, method = state_of(problem), DDS(iterations=ENOUGH, pull=50.0, eta=0.6)
    done = method.advance(problem, state, NoiseLevel(LEVEL, AFTER), generator())
    estimate = problem.denoise(state.u, LEVEL)
    # Float32 conjugate gradients on a system of condition 1e4.
    np.testing.assert_allclose(done.x.numpy(), solved(problem, estimate, 50.0), atol=2e-3)
    fresh = 0.6 * AFTER * np.sqrt(1 - (AFTER / LEVEL) ** 2)
    noise = (state.u - estimate) / LEVEL
    expected = done.x + np.sqrt(AFTER**2 - fresh**2) * noise + fresh * noise_like(state.u, generator())
    torch.testing.assert_close(done.u, expected, rtol=0, atol=1e-5)


def test_diffpir_reads_its_noise_off_the_solution(problem: NerdProblem) -> None:
    state, method = state_of(problem), DiffPIR(iterations=ENOUGH, weight=3.0, zeta=0.0)
    done = method.advance(problem, state, NoiseLevel(LEVEL, AFTER), generator())
    expected = solved(problem, problem.denoise(state.u, LEVEL), 3.0 / LEVEL**2)
    np.testing.assert_allclose(done.x.numpy(), expected, atol=2e-3)
    torch.testing.assert_close(done.u, done.x + AFTER / LEVEL * (state.u - done.x), rtol=0, atol=1e-5)


def iterated(method: PnPHQS | PnPADMM, problem: NerdProblem, count: int) -> torch.Tensor:
    state = state_of(problem)
    for _ in range(count):
        done = method.advance(problem, state, NoiseLevel(LEVEL, LEVEL), generator())
        state = replace(state, u=done.u, x=done.x, duals=done.duals)
    return state.x


def test_pnp_hqs_ends_at_its_fixed_point(problem: NerdProblem) -> None:
    x = iterated(PnPHQS(weight=1.0, iterations=30), problem, 40)
    expected = solved(problem, problem.denoise(x, LEVEL), 1.0 / LEVEL**2)
    np.testing.assert_allclose(x.numpy(), expected, atol=2e-3)


def test_pnp_admm_ends_at_the_posterior_mean(problem: NerdProblem) -> None:
    """With a Gaussian prior the denoiser is a proximal map, and lambda 1 makes the fixed point the posterior mean."""
    x = iterated(PnPADMM(weight=1.0, iterations=30, whiten=False), problem, 60)
    denoiser = gaussian_denoiser()
    precision = np.kron(np.eye(SLICES), np.linalg.inv(denoiser.covariance.double().numpy()))
    a, w = dense(problem), problem.data.weights.flatten().double().numpy()
    y = problem.data.y.flatten().double().numpy()
    mean = np.full(a.shape[1], -0.5)
    expected = np.linalg.solve(a.T @ (w[:, None] * a) + precision, a.T @ (w * y) + precision @ mean)
    np.testing.assert_allclose(x.flatten().numpy(), expected, atol=4e-3)


def test_dps_pulls_along_the_gradient_of_the_misfit(problem: NerdProblem) -> None:
    state, method = state_of(problem), DPS(step=1.0)
    done = method.advance(problem, state, NoiseLevel(LEVEL, AFTER), generator())
    fresh = AFTER * np.sqrt(1 - (AFTER / LEVEL) ** 2)
    estimate = problem.denoise(state.u, LEVEL)
    ancestral = estimate + np.sqrt(AFTER**2 - fresh**2) / LEVEL * (state.u - estimate)
    ancestral = ancestral + fresh * noise_like(state.u, generator())
    direction = noise_like(state.u, torch.Generator().manual_seed(1))

    def misfit(u: torch.Tensor) -> float:
        residual = problem.data.residual(problem.denoise(u, LEVEL)).double()
        return float((problem.data.weights.double() * residual**2).sum()) / 2

    # The misfit is quadratic in u, so that a central difference is exact up to float32.
    slope = (misfit(state.u + 0.05 * direction) - misfit(state.u - 0.05 * direction)) / 0.1
    pulled = float(((ancestral - done.u) * direction).sum()) * problem.data.curvature()
    assert pulled == pytest.approx(slope, rel=2e-3)


def test_red_diff_moves_by_adam_along_data_and_noise(problem: NerdProblem) -> None:
    state, method = state_of(problem), REDDiff(learning_rate_hu=10.0, weight=0.5)
    done = method.advance(problem, state, NoiseLevel(LEVEL, AFTER), generator())
    noise = noise_like(state.x, generator())
    u = state.x + LEVEL * noise
    gradient = problem.data.gradient(problem.data.residual(state.x)) / problem.data.curvature()
    gradient = gradient + 0.5 * LEVEL * ((u - problem.denoise(u, LEVEL)) / LEVEL - noise)
    # Adam's first step has one length in every direction.
    torch.testing.assert_close(done.x, state.x - 0.01 * gradient.sign(), rtol=0, atol=1e-5)


def test_sitcom_lowers_the_misfit_and_forgets_its_noise(problem: NerdProblem) -> None:
    state, method = state_of(problem), SITCOM()
    before = problem.data.chi2(problem.data.residual(problem.denoise(state.u, LEVEL)))
    done = method.advance(problem, state, NoiseLevel(LEVEL, AFTER), generator())
    # It stops where the noise explains the residual, at kappa^2 per ray.
    assert problem.data.chi2(problem.data.residual(done.x)) <= method.refine.kappa**2 < before
    torch.testing.assert_close(done.u, done.x + AFTER * noise_like(done.x, generator()), rtol=0, atol=1e-6)


def test_diffusion_mbir_predicts_then_meets_the_data(problem: NerdProblem) -> None:
    state, method = state_of(problem), DiffusionMBIR(snr=0.0, iterations=1, coupling=AdmmCoupling(rho=0))
    done = method.advance(problem, state, NoiseLevel(LEVEL, AFTER), generator())
    estimate, ratio = problem.denoise(state.u, LEVEL), AFTER / LEVEL
    u = state.u + (1 - ratio**2) * (estimate - state.u)
    u = u + AFTER * np.sqrt(1 - ratio**2) * noise_like(u, generator())
    gradient = problem.data.gradient(problem.data.residual(u))
    # One conjugate-gradient step is steepest descent with exact line search.
    step = float(gradient.square().sum() / (gradient * problem.data.normal(gradient)).sum())
    torch.testing.assert_close(done.x, u - step * gradient, rtol=1e-3, atol=1e-4)


def test_filling_noise_completes_a_spectrum_to_white() -> None:
    draw = torch.Generator().manual_seed(2)
    white = 0.3 * torch.randn(64, 32, 32, generator=draw)
    # A residual that is white already at the level gets next to nothing: what a periodogram of 64 slices scatters.
    assert float(filling_noise(white, 0.3, draw).std()) < 0.1
    # No residual at all gets the whole noise; a smooth one only what its spectrum lacks.
    assert float(filling_noise(torch.zeros_like(white), 0.3, draw).std()) == pytest.approx(0.3, rel=0.02)
    smooth = torch.fft.irfft2(torch.fft.rfft2(white) * (torch.fft.rfftfreq(32) < 0.1), s=(32, 32))
    total = smooth + filling_noise(smooth, 0.3, draw)
    assert float(total.std()) == pytest.approx(0.3, rel=0.05)


def test_ladders_stay_within_what_the_prior_knows() -> None:
    assert Geometric(levels=3, start_hu=4000.0, stop_hu=250.0).sequence(1.0, 1000.0) == pytest.approx(
        [1.0, 0.5, 0.25]
    )
    levels = LinearBetas(levels=50).sequence(80.0, 1000.0)
    assert max(levels) <= 80
    assert levels == sorted(levels, reverse=True)
    # DDPM's last step, t = 1000: alpha_bar 4.04e-5 (Ho et al. 2020), hence sigma / alpha = 157.
    assert LinearBetas(levels=50).sequence(1e3, 1000.0)[0] == pytest.approx(157.4, rel=2e-3)
