"""A prior by name, by folder, loaded or as a bare denoiser, and operators of one's own: against closed forms."""

import numpy as np
import pytest
import torch

import tomocast as tc
from assimilation.systems.base import simulate
from assimilation.systems.linear_gaussian import LinearGaussian
from priors.card import EMBEDDED, card_of_prior, open_prior
from priors.diffusion.denoiser import GaussianDenoiser
from priors.diffusion.guidance import Likelihood, Mmps
from priors.diffusion.samplers.sampler import clean_estimate
from priors.diffusion.schedule import EDM
from priors.runtime.errors import InputError
from tests.support.recon import small_diffusion
from tests.support.recon.small_diffusion import CODEC, SIDE, SLICES, gaussian_denoiser, small_projector

SYSTEM = LinearGaussian(size=3)
FRAMES, SEEN, SIGMA = 4, 2, 0.3
STATE = {"name": "state", "unit": "1", "offset": 0.0, "scale": 1.0, "low": -10.0, "high": 10.0}
DETAILS = {
    "trajectory": {
        "frames": FRAMES,
        "step_s": 1.0,
        "spacing": (1.0, 1.0),
        "spacing_unit": "1",
        "periodic": (False, True),
    },
    "shape": (1, 3),
}
H = torch.tensor([[1.0, 0.5, -0.2], [0.0, 2.0, 1.0]], dtype=torch.float64)


class Stated(GaussianDenoiser):
    """A denoiser that says what its values mean."""

    codec = CODEC


def stated() -> Stated:
    plain = gaussian_denoiser()
    return Stated(plain.mean, plain.covariance, schedule=plain.schedule)


@pytest.fixture(scope="module")
def matrix() -> np.ndarray:
    """The small projector as a matrix."""
    projector = small_projector()
    eye = np.eye(int(np.prod(projector.domain)), dtype=np.float32)
    columns = [projector(column.reshape(projector.domain)).ravel() for column in eye]
    return np.stack(columns, axis=1).astype(np.float64)


@pytest.fixture(scope="module")
def own(matrix) -> tc.LinearOperator:
    """The same numbers as two functions of NumPy."""
    projector = small_projector()
    return tc.LinearOperator(
        lambda x: (matrix @ x.ravel().astype(np.float64)).reshape(projector.range),
        lambda y: (matrix.T @ y.ravel().astype(np.float64)).reshape(projector.domain),
        grid=projector.grid,
        range=projector.range,
    )


@pytest.fixture(scope="module")
def measured():
    measurement, _ = small_diffusion.measured(small_projector())
    return measurement.sinogram.numpy(), measurement.weights.numpy()


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("nerd-fast", {"fast": {"levels": 2}}),
        ("nerd-admm", {"fast": {"levels": 1}, "refine": {"levels": 1}}),
    ],
)
def test_nerd_with_a_denoiser_and_an_operator_of_ones_own_is_nerd_with_the_projector(
    own, measured, method, options
):
    lines, weights = measured
    wrapped = tc.Prior(gaussian_denoiser(), codec=CODEC)
    volumes = [
        tc.reconstruct_with(operator, lines, method, weights=weights, prior=prior, **options).values
        for operator, prior in (
            (small_projector(), wrapped),
            (own, wrapped),
            (own, stated()),
            (own, wrapped.denoiser),
        )
    ]
    # Another order of sums in float32, through a few dozen iterations: of values of hundreds of HU.
    np.testing.assert_allclose(volumes[1], volumes[0], atol=0.5)
    np.testing.assert_array_equal(volumes[2], volumes[1])
    np.testing.assert_array_equal(volumes[3], volumes[1])


def test_guidance_with_an_operator_of_ones_own_is_the_dense_posterior_mean(own, matrix):
    """Everything is Gaussian: E[x | u, y] solves (C^-1 + 1/s^2 + A^T A / r^2) x = C^-1 m + u / s^2 + A^T y / r^2."""
    slices = gaussian_denoiser()
    covariance = torch.kron(torch.eye(SLICES, dtype=torch.float64), slices.covariance.double())
    mean = torch.full((SLICES, SIDE, SIDE), -0.5, dtype=torch.float64)
    denoiser = GaussianDenoiser(mean, covariance, schedule=EDM())
    generator = torch.Generator().manual_seed(0)
    u = mean + torch.randn(2, *mean.shape, generator=generator, dtype=torch.float64)
    y = torch.randn(2, len(matrix), generator=generator, dtype=torch.float64)
    s, r = 0.7, 2.0
    likelihood = Likelihood(
        y,
        torch.full((1, len(matrix)), r**2, dtype=torch.float64),
        lambda volumes: torch.stack([own(volume).flatten() for volume in volumes]),
    )
    found = clean_estimate(Mmps(solver="cg", iterations=80).posterior(denoiser, likelihood), u, s)
    A, precision = torch.from_numpy(matrix), torch.linalg.inv(covariance)
    system = precision + torch.eye(len(precision), dtype=torch.float64) / s**2 + A.T @ A / r**2
    right = precision @ mean.flatten() + u.flatten(1) / s**2 + y @ A / r**2
    expected = torch.linalg.solve(system, right.T).T.reshape(u.shape)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_a_name_a_folder_and_a_loaded_prior_are_one_prior():
    loaded = tc.load_prior("ct-chest-256")
    folder = EMBEDDED / "ct-chest-256"
    cards = [card_of_prior(prior) for prior in ("ct-chest-256", folder, str(folder), loaded, loaded.denoiser)]
    assert all(card == cards[0] for card in cards)
    assert open_prior(loaded.denoiser).denoiser is loaded.denoiser


def joint() -> GaussianDenoiser:
    """All frames of the chain as one Gaussian."""
    mean, covariance = SYSTEM.chain(FRAMES).covariance()
    return GaussianDenoiser(mean.reshape(FRAMES, 1, 1, 3), covariance, schedule=EDM())


def stream(operator, y: np.ndarray, sigma: float = SIGMA) -> tc.GivenObservations:
    times = np.datetime64("2000-01-01T00:00:00", "ns") + np.arange(FRAMES) * np.timedelta64(10**9, "ns")
    entries = [tc.Observation.of(row, operator, sigma=sigma) for row in y]
    return tc.GivenObservations(times, entries, variables=SYSTEM.variables, grid=SYSTEM.grid)


def assimilated(observations, prior, members: int) -> np.ndarray:
    settings = {
        "lag": "inf",
        "gross_error": None,
        "sampler": {"name": "multistep", "steps": 16},
        "guidance": {"name": "mmps", "iterations": 6},
    }
    return tc.assimilate(observations, prior, members=members, seed=1, settings=settings).members[
        0, :, :, 0, 0
    ]


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_an_assimilation_with_a_denoiser_and_an_operator_of_ones_own_is_the_kalman_smoother(kind):
    matrix = H.numpy()
    operator = (
        tc.LinearFunctions(lambda x: matrix @ x.ravel(), lambda y: (matrix.T @ y).reshape(1, 1, 3), (1, 1, 3))
        if kind == "numpy"
        else tc.TorchFunction(lambda x: x.flatten(1) @ H.T.to(x))
    )
    y = np.random.default_rng(3).normal(size=(FRAMES, SEEN))
    members = assimilated(
        stream(operator, y), tc.Prior(joint(), codec={"variables": [STATE]}, **DETAILS), 200
    )
    error = SIGMA**2 * torch.eye(SEEN, dtype=torch.float64)
    exact = SYSTEM.chain(FRAMES).rts_smoother(torch.from_numpy(y), H, error)
    deviation = exact.covariances.diagonal(dim1=1, dim2=2).sqrt().numpy()
    # 200 members know a mean to 7 % of a deviation, twelve of them at once up to three times that.
    assert np.abs((members.mean(0) - exact.means.numpy()) / deviation).max() < 0.22
    # One deviation is known to 5 %; that of all twelve pooled, which are correlated, to about half of it.
    assert np.sqrt(((members.std(0) / deviation) ** 2).mean()) == pytest.approx(1, abs=0.1)


def test_a_nonlinear_operator_of_ones_own_gives_the_posterior_of_a_quadrature():
    """One value x ~ N(0, 1) is seen as x + x^3 / 10 with the error 0.3: its posterior is an integral over a line."""
    system = LinearGaussian(size=3, deviation=1.0)
    cubic = tc.TorchFunction(lambda x: (x + x**3 / 10).flatten(1)[:, :1])
    y = 1.4
    times = np.array(["2000-01-01T00:00:00"], "datetime64[ns]")
    observations = tc.GivenObservations(
        times,
        [tc.Observation.of([y], cubic, sigma=SIGMA)],
        variables=system.variables,
        grid=system.grid,
    )
    mean, covariance = system.chain(1).covariance()
    prior = tc.Prior(
        GaussianDenoiser(mean.reshape(1, 1, 1, 3), covariance, schedule=EDM()),
        codec={"variables": [STATE]},
        **DETAILS,
    )
    first = assimilated(observations, prior, 400)[:, 0, 0]
    x = np.linspace(-6, 6, 4001)
    weight = np.exp(-(x**2) / 2 - (y - x - x**3 / 10) ** 2 / (2 * SIGMA**2))
    weight /= weight.sum()
    exact = float((weight * x).sum())
    deviation = float(np.sqrt((weight * (x - exact) ** 2).sum()))
    # 400 members know the mean to 5 % of a deviation, and a linearised likelihood is a little too wide. Without the
    # cubic term the mean would be 0.4 deviations and the deviation a third larger.
    assert abs(first.mean() - exact) < 0.2 * deviation
    assert first.std() == pytest.approx(deviation, rel=0.25)


def test_a_denoiser_is_told_what_it_lacks():
    bare, lines = gaussian_denoiser(), np.ones(small_projector().range, np.float32)
    with pytest.raises(
        InputError, match=r"GaussianDenoiser, whose values have no known unit; expected tc.Prior"
    ):
        tc.reconstruct_with(small_projector(), lines, "nerd-fast", prior=bare)
    observations = stream(tc.TorchFunction(lambda x: x.flatten(1)), np.zeros((FRAMES, 3)))
    with pytest.raises(InputError, match=r"no known unit; expected tc.Prior"):
        tc.assimilate(observations, joint())
    with pytest.raises(InputError, match="prior of slices, expected one of trajectories"):
        tc.assimilate(observations, stated())
    with pytest.raises(InputError, match="shape: found none"):
        tc.Prior(joint(), codec={"variables": [STATE]}, trajectory=DETAILS["trajectory"])
    with pytest.raises(InputError, match="schedule: found 'edm', expected none: Stated has its own"):
        tc.Prior(stated(), codec=CODEC, schedule="edm")
    with pytest.raises(InputError, match="expected a network to save or export"):
        tc.Prior(stated(), codec=CODEC).save("nowhere")
    with pytest.raises(InputError, match="schedule: found none, expected that of the module Conv2d"):
        tc.Prior(torch.nn.Conv2d(1, 1, 3), codec=CODEC, parametrisation="clean")


def test_a_denoiser_forecasts_the_next_frame_of_the_chain():
    prior = tc.Prior(joint(), codec={"variables": [STATE]}, **DETAILS)
    start = simulate(SYSTEM, trajectories=1, frames=2, seed=0)
    drawn = tc.forecast(start, prior, frames=1, members=200, seed=0, settings={"sampler": {"steps": 16}})
    members = drawn.members[0, :, 0, 0, 0]
    chain = SYSTEM.chain(2)
    deviation = chain.Q.diagonal().sqrt().numpy()
    expected = chain.A.numpy() @ start.values[0, -1, 0, 0].astype(np.float64)
    # 200 members know a mean to 7 % of a deviation and a deviation to 5 %.
    assert np.abs((members.mean(0) - expected) / deviation).max() < 0.21
    np.testing.assert_allclose(members.std(0), deviation, rtol=0.16)


def test_observations_are_refused_in_one_line():
    operator = tc.TorchFunction(lambda x: x.flatten(1))
    with pytest.raises(InputError, match="sigma: found shape"):
        tc.Observation.of([1.0, 2.0], operator, sigma=[1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="not positive"):
        tc.Observation.of([1.0], operator, sigma=0.0)
    with pytest.raises(InputError, match="NaN"):
        tc.Observation.of([np.nan], operator, sigma=1.0)
