"""Priors over neighbouring slices and over blocks of slices: what they answer is dense algebra, exactly."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

import tomocast as tc
from priors.diffusion.fitted import SliceFit
from priors.diffusion.slabs import blocks
from recon.reconstructors.diffusion.coupling import AdmmCoupling
from recon.reconstructors.diffusion.plug_and_play import PnPADMM
from tests.recon.reconstructors.test_diffusion_methods import iterated
from tests.support.priors.linear_networks import GaussianBlock, Mixing, slab_denoiser
from tests.support.recon.small_diffusion import SIDE, SLICES, dense, make_problem, small_projector

LEVEL = 0.4
# Float32 sums of a few dozen products.
EQUAL = 2e-6


def problem_of(module, fit, **more):
    return make_problem(slab_denoiser(module, fit), AdmmCoupling(rho=0), **more)


def matrix(answer) -> np.ndarray:
    """Return an answer about volumes as a matrix, by columns, without what it gives for zero."""
    shape, count = small_projector().domain, SLICES * SIDE * SIDE
    zero = answer(torch.zeros(shape)).flatten()
    columns = [answer(torch.eye(count)[k].reshape(shape)).flatten() - zero for k in range(count)]
    return torch.stack(columns, 1).double().numpy()


def mixed_neighbours(weight: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return every slice as a correlation of the slices around it, the first and last repeated."""
    reach, total = weight.shape[0] // 2, np.zeros_like(u)
    for z in range(len(u)):
        for k, kernel in enumerate(weight):
            total[z] += correlate(u[min(max(z + k - reach, 0), len(u) - 1)], kernel, mode="constant")
    return total


def mixed_blocks(weight: np.ndarray, u: np.ndarray, depth: int) -> np.ndarray:
    """Return the mean of the answers about all blocks, each weighted by sin^2 along z."""
    starts = sorted({round(n) for n in np.linspace(0, len(u) - depth, len(u) - depth + 1)})
    bell = np.sin(np.pi * (np.arange(depth) + 0.5) / depth) ** 2
    total, count = np.zeros_like(u), np.zeros(len(u))
    for start in starts:
        part = slice(start, start + depth)
        total[part] += bell[:, None, None] * correlate(u[part], weight, mode="constant")
        count[part] += bell
    return total / count[:, None, None]


def cases():
    """Yield (module, what the network expects, the same spelt out)."""
    for slices in (3, 5):
        module = Mixing(slices)
        kernel = module.weight[0].detach().double().numpy()
        yield (
            module,
            SliceFit(channels="neighbours", slices=slices),
            lambda u, w=kernel: mixed_neighbours(w, u),
        )
    joint = Mixing(3, outputs=3)
    middle = joint.weight[1].detach().double().numpy()
    yield joint, SliceFit(channels="neighbours", slices=3), lambda u: mixed_neighbours(middle, u)
    module = Mixing(2, block=True)
    kernel = module.weight[0, 0].detach().double().numpy()
    yield module, SliceFit(channels="block", slices=2), lambda u: mixed_blocks(kernel, u, 2)


@pytest.mark.parametrize("case", range(4), ids=["3 neighbours", "5 neighbours", "3 joint", "blocks of 2"])
def test_estimate_and_vjp_are_the_dense_matrix_and_its_transpose(case):
    module, fit, spelt_out = list(cases())[case]
    draw = torch.Generator().manual_seed(1)
    u, cotangent = (torch.randn(SLICES, SIDE, SIDE, generator=draw) for _ in range(2))
    whole = problem_of(module, fit, chunk=9)
    wanted = spelt_out(u.double().numpy())
    np.testing.assert_allclose(whole.denoise(u, LEVEL).numpy(), wanted, atol=EQUAL)
    transposed = (
        matrix(lambda v: torch.from_numpy(spelt_out(v.double().numpy()))).T
        @ cotangent.flatten().double().numpy()
    )
    np.testing.assert_allclose(whole.vjp(u, cotangent, LEVEL).flatten().numpy(), transposed, atol=EQUAL)
    for chunk in (1, 2):
        chunked = problem_of(module, fit, chunk=chunk)
        assert torch.allclose(chunked.denoise(u, LEVEL), whole.denoise(u, LEVEL), atol=EQUAL)
        assert torch.allclose(chunked.vjp(u, cotangent, LEVEL), whole.vjp(u, cotangent, LEVEL), atol=EQUAL)
    seen = problem_of(module, fit, chunk=2)
    seen.mirrored = True
    assert torch.allclose(seen.denoise(u, LEVEL), whole.denoise(u.flip(-1), LEVEL).flip(-1), atol=EQUAL)
    pulled = whole.vjp(u.flip(-1), cotangent.flip(-1), LEVEL).flip(-1)
    assert torch.allclose(seen.vjp(u, cotangent, LEVEL), pulled, atol=EQUAL)


def gaussian() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the covariance along z and of a slice: correlated from slice to slice and from pixel to pixel."""
    places = torch.arange(SIDE)
    grid = torch.cartesian_prod(places, places).double()
    across = (0.3 * 0.5 ** torch.cdist(grid, grid)).float()
    steps = torch.arange(SLICES)
    return 0.7 ** (steps[:, None] - steps).abs().float(), across


def test_a_block_prior_of_the_whole_volume_ends_at_the_posterior_mean():
    """Its denoiser is the proximal map of a Gaussian over the volume, so ADMM ends at that posterior's mean."""
    along, across = gaussian()
    problem = problem_of(GaussianBlock(along, across), SliceFit(channels="block", slices=SLICES))
    x = iterated(PnPADMM(weight=1.0, iterations=12, whiten=False), problem, 60)
    precision = np.linalg.inv(np.kron(along.double().numpy(), across.double().numpy()))
    a, w = dense(problem), problem.data.weights.flatten().double().numpy()
    y = problem.data.y.flatten().double().numpy()
    system = a.T @ (w[:, None] * a) + precision
    expected = np.linalg.solve(system, a.T @ (w * y) + precision @ np.full(a.shape[1], -0.5))
    # As for slices; slices on their own are further away than that.
    np.testing.assert_allclose(x.flatten().numpy(), expected, atol=4e-3)
    alone = np.linalg.inv(np.kron(np.eye(SLICES), across.double().numpy()))
    single = np.linalg.solve(
        a.T @ (w[:, None] * a) + alone, a.T @ (w * y) + alone @ np.full(a.shape[1], -0.5)
    )
    assert np.abs(single - expected).max() > 2e-2


def test_windows_of_a_prior_without_correlation_do_not_show():
    """Where voxels are independent every window answers the same: blends, ends and padding leave the exact mean."""
    module = Independent()
    u = torch.randn(SLICES, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    wanted = 0.64 / (0.64 + LEVEL**2) * u
    for fit in (
        SliceFit(channels="block", slices=2, size=(4, 4)),
        SliceFit(channels="block", slices=8, size=(8, 8)),
        SliceFit(channels="block", slices=2, stride=4),
        SliceFit(channels="neighbours", slices=5, size=(4, 4)),
        SliceFit(channels="neighbours", slices=3, size=(8, 8)),
    ):
        torch.testing.assert_close(problem_of(module, fit).denoise(u, LEVEL), wanted, rtol=1e-5, atol=1e-6)


class Independent(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, told):
        variance = torch.exp(2 * told).reshape(-1, *(1,) * (x.ndim - 1))
        return self.weight * 0.64 / (0.64 + variance) * x


def test_blocks_cover_every_slice_with_weights_that_add_up():
    for count, depth in ((1, 4), (3, 4), (4, 4), (9, 4), (40, 16)):
        slabs = blocks(count, depth)
        total = torch.zeros(count).index_add_(0, slabs.answered.flatten(), slabs.weight.flatten())
        torch.testing.assert_close(total, torch.ones(count))
        assert int(slabs.held[:, 0].diff().max() if len(slabs) > 1 else 0) <= 0.75 * depth


@pytest.mark.filterwarnings("ignore:prior")
@pytest.mark.parametrize("kind", ["neighbours", "block"])
@pytest.mark.parametrize("method", ["nerd-admm", "dds-3d", "dps"])
def test_every_method_takes_them(kind, method):
    """A prior of independent slices gives the same volume whether it is asked about slices or about several."""
    levels = {"ladder": {"name": "linear-betas", "levels": 3}, "warm_start": "fbp"}
    if method == "nerd-admm":
        levels = {"fast": {"levels": 2}, "refine": {"levels": 1}, "warm_start": "fbp"}
    scan, volumes = small_scan(), []
    for fit in ({}, {"channels": kind, "slices": 3}):
        prior = tc.Prior(
            Independent(), schedule="edm", parametrisation="clean", codec=(0.0, 1000.0), fit=fit,
            conditioning="log-ratio",
        )  # fmt: skip
        volumes.append(tc.reconstruct(scan, method, prior=prior, seed=0, **levels).values)
    np.testing.assert_allclose(volumes[1], volumes[0], atol=0.05)  # HU


def small_scan() -> "tc.Scan":
    projector = small_projector()
    truth = 0.02 * torch.rand(projector.domain, generator=torch.Generator().manual_seed(0))
    return tc.Scan(projector(truth).numpy(), projector.geometry, grid=projector.grid)
