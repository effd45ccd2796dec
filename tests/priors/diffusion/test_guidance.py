"""Guidance against the closed-form posterior of Gaussian trajectories, and sample by sample.

For x ~ N(m, C), u = x + S z and y = H x + e everything is Gaussian, so E[x | u, y] is a dense solve:

    E[x | u, y] = m + C G^T (G C G^T + blockdiag(S^2, R))^-1 ((u, y) - G m),    G = (I, H)
"""

import math

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

from priors.diffusion.denoiser import GaussianDenoiser
from priors.diffusion.guidance import AnyGuidance, Forcing, Guidance, Likelihood, Mmps, Sda
from priors.diffusion.guidance.likelihood import covariance_scale
from priors.diffusion.guidance.sda import cut_to_observations
from priors.diffusion.samplers.sampler import DDIM, Multistep, SamplerState, clean_estimate, normal
from priors.diffusion.schedule import EDM, Cosine

FRAMES, SHAPE = 3, (1, 1, 2)
N = FRAMES * 2
SIGMA = 0.2
EVERY = [Mmps(iterations=4), Mmps(solver="cg"), Mmps(backprop=False), Sda(), Sda(backprop=False)]
EVERY += [Forcing(zeta=0.1), Forcing(zeta=0.1, backprop=False)]
METHODS: list[Guidance] = list(EVERY)


def prior(schedule=None) -> GaussianDenoiser:
    draw = torch.Generator().manual_seed(0)
    factor = torch.randn(N, N, generator=draw, dtype=torch.float64) / math.sqrt(N)
    mean = torch.randn(FRAMES, *SHAPE, generator=draw, dtype=torch.float64)
    return GaussianDenoiser(mean, factor @ factor.T, schedule=schedule or Cosine())


H = torch.zeros(4, N, dtype=torch.float64)
H[0, 0], H[1, 2], H[2, 3], H[3, 5] = 1.0, 2.0, -1.0, 0.5


def seen(x: Tensor) -> Tensor:
    return x.flatten(1) @ H.T.to(x)


def likelihood(count: int, seed: int = 3) -> Likelihood:
    values = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Likelihood(values, torch.full((1, 4), SIGMA**2, dtype=torch.float64), seen)


def dense(denoiser: GaussianDenoiser, u: Tensor, s: Tensor, y: Tensor) -> Tensor:
    """Return E[x | u, y] for levels s (f), by one solve."""
    mean, C = denoiser.mean.flatten(), denoiser.covariance
    G = torch.cat([torch.eye(N, dtype=torch.float64), H])
    noise = torch.cat([s.repeat_interleave(2) ** 2, torch.full((4,), SIGMA**2, dtype=torch.float64)])
    innovation = torch.cat([u.flatten(1), y], 1) - mean @ G.T
    system = G @ C @ G.T + torch.diag(noise)
    return (mean + (C @ G.T @ torch.linalg.solve(system, innovation.T)).T).reshape(u.shape)


LEVELS = [
    torch.tensor(one, dtype=torch.float64) for one in ([0.5, 0.5, 0.5], [0.05, 0.6, 3.0], [9.0, 1.0, 0.02])
]


@pytest.mark.parametrize("s", LEVELS, ids=["equal", "rising", "falling"])
@pytest.mark.parametrize(
    "method",
    [Mmps(iterations=4, solver="cg"), Mmps(iterations=4), Mmps(iterations=4, backprop=False)],
    ids=["cg", "gmres", "differences"],
)
def test_mmps_is_the_exact_posterior_mean_of_gaussians_at_every_mix_of_levels(method, s):
    # Four observations: four Krylov directions solve the system.
    denoiser, given = prior(), likelihood(5)
    u = torch.randn(5, FRAMES, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    u = denoiser.mean + u * (1 + s).reshape(-1, 1, 1, 1)
    answer = clean_estimate(method.posterior(denoiser, given), u, s.expand(5, -1))
    expected = dense(denoiser, u, s, given.values)
    # Krylov directions lose orthogonality with the condition number, here up to (s / SIGMA)^2 ~ 1e3.
    torch.testing.assert_close(answer, expected, rtol=1e-7, atol=1e-8)


def test_the_gaussian_oracle_is_the_dense_formula_at_levels_per_frame_and_in_mixed_batches():
    denoiser = prior()
    s = torch.stack(LEVELS)
    u = torch.randn(3, FRAMES, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    answer = clean_estimate(denoiser, u, s)
    C, mean = denoiser.covariance, denoiser.mean.flatten()
    for i in range(3):
        system = C + torch.diag(s[i].repeat_interleave(2) ** 2)
        direct = mean + C @ torch.linalg.solve(system, u[i].flatten() - mean)
        torch.testing.assert_close(answer[i].flatten(), direct, rtol=1e-9, atol=1e-9)
    same = clean_estimate(denoiser, u, torch.full((3, FRAMES), 0.7, dtype=torch.float64))
    torch.testing.assert_close(same, clean_estimate(denoiser, u, 0.7), rtol=1e-9, atol=1e-9)
    # The first frames alone: the marginal of a shorter trajectory.
    short = GaussianDenoiser(denoiser.mean[:2], C[:4, :4], schedule=denoiser.schedule)
    torch.testing.assert_close(
        clean_estimate(denoiser, u[:, :2], s[:, :2]), clean_estimate(short, u[:, :2], s[:, :2])
    )


def test_tweedies_covariance_is_the_gaussian_posterior_covariance():
    denoiser, s = prior(), LEVELS[1]
    precision = torch.linalg.inv(denoiser.covariance) + torch.diag(s.repeat_interleave(2) ** -2)
    t = denoiser.schedule.inverse(s)[None]
    x_t = torch.zeros(1, FRAMES, *SHAPE, dtype=torch.float64)
    scale, _ = covariance_scale(denoiser, x_t, t)
    jacobian = torch.autograd.functional.jacobian(lambda x: denoiser(x, t), x_t).reshape(N, N)
    covariance = scale.expand_as(x_t).flatten()[:, None] * jacobian.T
    torch.testing.assert_close(covariance, torch.linalg.inv(precision), rtol=1e-6, atol=1e-8)


def step(method: Guidance, u: Tensor, given: Likelihood) -> Tensor:
    """Return the state after a guided step."""
    denoiser = prior()
    count = len(u)
    s, r = LEVELS[1].expand(count, -1), 0.7 * LEVELS[1].expand(count, -1)
    guided = method.posterior(denoiser, given)
    before = SamplerState(u, s)
    after = DDIM().step(before, r, denoiser=guided, generator=torch.Generator())
    return method.correct(before, after, prior=denoiser, likelihood=given).u


@pytest.mark.parametrize("method", METHODS, ids=lambda one: f"{one.name}-{one.backprop}")
def test_samples_never_interact(method):
    u = torch.randn(5, FRAMES, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    given = likelihood(5)
    whole = step(method, u, given)
    order = torch.tensor([3, 0, 4, 2, 1])
    permuted = step(method, u[order], Likelihood(given.values[order], given.variance, seen))
    torch.testing.assert_close(permuted, whole[order], rtol=1e-12, atol=1e-12)
    for i in range(5):
        alone = step(method, u[i : i + 1], Likelihood(given.values[i : i + 1], given.variance, seen))
        # The same sums in batches of another shape: rounding only.
        torch.testing.assert_close(alone, whole[i : i + 1], rtol=1e-10, atol=1e-10)
    assert not torch.allclose(whole, step(method, u, likelihood(5, seed=4)))


def test_the_system_of_a_process_is_solved_where_many_observations_see_a_smooth_field():
    # 24 frames of 16 points, every one observed, errors of 3 % of the deviation: CG needs between 100 and 200
    # iterations. Sixty once ended it.
    count = 24 * 16
    time, place = (
        axis.flatten().double() for axis in torch.meshgrid(*map(torch.arange, (24, 16)), indexing="ij")
    )
    kernel = torch.exp(-(time[:, None] - time).abs() / 8 - 0.5 * ((place[:, None] - place) / 2) ** 2)

    class Known(GaussianDenoiser):
        """A denoiser that knows its own process, at every level the posterior covariance."""

        def gaussian_covariance(self, t, *, past=0):
            s = self.schedule.ratio(t).repeat_interleave(16)
            spread = self.covariance - self.covariance @ torch.linalg.solve(
                self.covariance + torch.diag(s**2), self.covariance
            )
            return lambda x: (x.flatten(1) @ spread).reshape(x.shape)

    denoiser = Known(torch.zeros(24, 1, 1, 16, dtype=torch.float64), kernel, schedule=Cosine())
    draw = torch.Generator().manual_seed(5)
    values = (
        torch.randn(1, count, generator=draw, dtype=torch.float64)
        @ torch.linalg.cholesky(kernel + 1e-9 * torch.eye(count, dtype=torch.float64)).T
    )
    sigma = 0.03
    given = Likelihood(values, torch.full((1, count), sigma**2, dtype=torch.float64), lambda x: x.flatten(1))
    u = 50.0 * torch.randn(1, 24, 1, 1, 16, generator=draw, dtype=torch.float64)
    s = torch.full((1, 24), 50.0, dtype=torch.float64)
    answer = clean_estimate(Mmps().posterior(denoiser, given), u, s).flatten()
    precision = torch.linalg.inv(kernel) + torch.eye(count) * (1 / 50.0**2 + 1 / sigma**2)
    exact = torch.linalg.solve(precision, u.flatten() / 50.0**2 + values[0] / sigma**2)
    # The residual that ends the solver is 0.3 % of the innovation.
    assert float((answer - exact).norm() / exact.norm()) < 0.01


def test_gmres_solves_where_the_jacobian_is_not_symmetric():
    class Skewed(GaussianDenoiser):
        """A denoiser whose Jacobian is no covariance, like a trained network's."""

        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            mean = super().forward(x_t, t)
            return mean + 0.2 * mean.roll(1, dims=1) - 0.1 * mean.roll(1, dims=-1)

    base = prior()
    skewed = Skewed(base.mean, base.covariance, schedule=base.schedule)
    s = LEVELS[0]
    u = torch.randn(2, FRAMES, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    given = likelihood(2)
    levels = s.expand(2, -1)
    answer = clean_estimate(Mmps(iterations=4, solver="gmres").posterior(skewed, given), u, levels)
    for i in range(2):
        one, level = u[i : i + 1], levels[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda v, level=level: clean_estimate(skewed, v, level), one
        ).reshape(N, N)
        V = torch.diag(s.repeat_interleave(2) ** 2) @ jacobian.T
        mean = clean_estimate(skewed, one, level).flatten()
        system = H @ V @ H.T + SIGMA**2 * torch.eye(4, dtype=torch.float64)
        direct = mean + V @ H.T @ torch.linalg.solve(system, given.values[i] - H @ mean)
        torch.testing.assert_close(answer[i].flatten(), direct, rtol=1e-7, atol=1e-8)


def test_nonlinear_operators_are_linearised_at_the_denoised_state():
    def speed(x: Tensor) -> Tensor:
        return x[:, :, 0, 0].square().sum(-1).sqrt()

    denoiser, s = prior(), LEVELS[0]
    u = torch.randn(2, FRAMES, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    variance = torch.full((1, FRAMES), 0.04, dtype=torch.float64)
    given = Likelihood(torch.ones(1, FRAMES, dtype=torch.float64), variance, speed)
    answer = clean_estimate(Mmps(iterations=3).posterior(denoiser, given), u, s.expand(2, -1))
    V = torch.linalg.inv(torch.linalg.inv(denoiser.covariance) + torch.diag(s.repeat_interleave(2) ** -2))
    for i in range(2):
        mean = clean_estimate(denoiser, u[i : i + 1], s[None])
        tangent = torch.autograd.functional.jacobian(speed, mean).reshape(FRAMES, N)
        system = tangent @ V @ tangent.T + torch.diag(variance[0])
        direct = mean.flatten() + V @ tangent.T @ torch.linalg.solve(system, (1 - speed(mean))[0])
        torch.testing.assert_close(answer[i].flatten(), direct, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(
    ("sampler", "mean_share"), [(Multistep(steps=24), 0.1), (DDIM(steps=200, eta=1.0), 0.1)]
)
def test_samplers_draw_the_posterior_with_its_spread(sampler, mean_share):
    # 3000 draws: a deviation is known to 1.3 %, a mean to 1.8 % of a deviation. First-order steps and the finite
    # first level leave at most a few percent more.
    count = 3000
    schedule = EDM(sigma_min=0.005, sigma_max=80)
    denoiser, draw = prior(schedule), torch.Generator().manual_seed(5)
    y = likelihood(1).values
    given = Likelihood(y.expand(count, -1), torch.full((1, 4), SIGMA**2, dtype=torch.float64), seen)
    x_1 = 80 * normal(torch.empty(count, FRAMES, *SHAPE, dtype=torch.float64), draw)
    found = sampler.sample(Mmps(iterations=4).posterior(denoiser, given), x_1, generator=draw).flatten(1)
    precision = torch.linalg.inv(denoiser.covariance) + H.T @ H / SIGMA**2
    covariance = torch.linalg.inv(precision)
    mean = denoiser.mean.flatten() + covariance @ H.T @ (y[0] - H @ denoiser.mean.flatten()) / SIGMA**2
    deviation = covariance.diagonal().sqrt()
    assert float(((found.mean(0) - mean) / deviation).abs().max()) < mean_share
    torch.testing.assert_close(found.std(0), deviation, rtol=0.08, atol=0)


def test_one_generator_per_sample_draws_the_same_in_every_batch():
    like = torch.empty(3, 2, dtype=torch.float64)
    whole = normal(like, [torch.Generator().manual_seed(i) for i in range(3)])
    part = normal(like[:2], [torch.Generator().manual_seed(i) for i in (2, 1)])
    assert torch.equal(part, whole[[2, 1]])


def test_a_frame_whose_level_stays_is_not_touched():
    denoiser = prior()
    u = torch.randn(2, FRAMES, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    s = LEVELS[1].expand(2, -1)
    r = s * torch.tensor([1.0, 0.5, 1.0], dtype=torch.float64)
    for sampler in (DDIM(eta=0.5), Multistep()):
        after = sampler.step(
            SamplerState(u, s), r, denoiser=denoiser, generator=torch.Generator().manual_seed(0)
        )
        assert torch.equal(after.u[:, [0, 2]], u[:, [0, 2]])
        assert not torch.allclose(after.u[:, 1], u[:, 1])


@pytest.mark.parametrize("method", METHODS, ids=lambda one: f"{one.name}-{one.backprop}")
def test_yaml_builds_it_again(method):
    assert TypeAdapter(AnyGuidance).validate_json(method.model_dump_json()) == method


@pytest.mark.parametrize("backprop", [True, False])
@pytest.mark.parametrize("copies", [1, 30])
def test_sda_stays_bounded_with_exact_and_with_repeated_observations(backprop, copies):
    # Exact observations, or thirty at one point: without a bound every step overshoots the last one's overshoot.
    denoiser, method = prior(EDM()), Sda(gamma=0.02, backprop=backprop)
    places = torch.arange(N).repeat(copies)
    values = denoiser.mean.flatten()[places] + 1.0
    given = Likelihood(
        values[None],
        torch.full((1, len(places)), 1e-8, dtype=torch.float64),
        lambda x: x.flatten(1)[:, places],
    )
    draw = torch.Generator().manual_seed(0)
    noise = 80.0 * torch.randn(3, FRAMES, *SHAPE, generator=draw, dtype=torch.float64)
    end = Multistep(steps=100).sample(method.posterior(denoiser, given), noise, generator=draw)
    # Everything is observed, at a value one from the mean.
    assert float((end - denoiser.mean - 1.0).abs().max()) < 0.05


@pytest.mark.parametrize("s", LEVELS, ids=["equal", "rising", "falling"])
def test_sda_never_makes_the_misfit_larger_and_leaves_small_steps_alone(s):
    denoiser = prior()
    u = torch.randn(5, FRAMES, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for gamma in (1e-4, 0.1, 10.0):
        given = likelihood(5)
        clean = clean_estimate(denoiser, u, s.expand(5, -1))
        answer = clean_estimate(Sda(gamma=gamma).posterior(denoiser, given), u, s.expand(5, -1))
        before, after = (given.innovation(seen(x)).norm(dim=1) for x in (clean, answer))
        assert (after <= before * (1 + 1e-9)).all()
    increment = answer - clean
    shorter = cut_to_observations(given, clean, 0.01 * increment, seen(clean))
    torch.testing.assert_close(shorter, 0.01 * increment)
