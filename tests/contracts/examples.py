"""One tiny instance of every final class, by family; a class without one fails ``test_every_class``."""

from dataclasses import dataclass

import torch
from torch import Tensor

from assimilation.inference.trajectory import ConditionedDenoiser
from assimilation.observation.base import ObservationOperator
from assimilation.systems.base import System
from priors.codec import Codec
from priors.diffusion import schedule
from priors.diffusion.denoiser import Denoiser, GaussianDenoiser, NetworkDenoiser
from priors.diffusion.fitted import Averaged, FittedDenoiser, SliceFit
from priors.diffusion.guidance import Likelihood, Mmps, Sda
from priors.diffusion.guidance.classifier_free import ClassifierFree
from priors.diffusion.guidance.mmps import MmpsDenoiser
from priors.diffusion.guidance.sda import SdaDenoiser
from priors.diffusion.parametrisation import (
    Clean,
    Flow,
    Noise,
    Parametrisation,
    Preconditioned,
    Score,
    Velocity,
)
from priors.diffusion.samplers.few_step import Jumps
from priors.diffusion.samplers.gaussian_start import Below, From
from priors.diffusion.samplers.sampler import DDIM, Heun, Multistep, Sampler
from priors.diffusion.samplers.second_order import VarianceOptimised
from priors.diffusion.schedule import (
    EDM,
    VP,
    Betas,
    Cosine,
    Discrete,
    Rectified,
    Schedule,
    Spaced,
)
from priors.networks.monai_unet import MonaiUNet
from priors.training.slices.gallery import Stack
from recon.geometry.grid import Grid
from recon.geometry.orbits import CircularCone, FanCurved, Parallel
from recon.geometry.scan import ScanGeometry
from recon.operators.base import Adjoint, LinearOperator
from recon.operators.differences import Differences
from recon.operators.projector import Projector
from recon.preprocess import BadPixels, BeamHardening, Centre, Metal, RingsSorting, RingsWavelet, Step
from recon.reconstructors import (
    CGLS,
    DDS,
    DDS3D,
    DPS,
    FBP,
    SIRT,
    SITCOM,
    TV,
    DiffPIR,
    DiffusionMBIR,
    Exact,
    NerdAdmm,
    NerdFast,
    NerdPdhg,
    NerdThorough,
    PnPADMM,
    PnPHQS,
    REDDiff,
)
from recon.reconstructors.base import Reconstructor
from recon.reconstructors.diffusion.ladder import Geometric
from recon.reconstructors.diffusion.nerd.nerd import CgStage, VjpStage
from recon.reconstructors.diffusion.nerd.refine import VjpRefinement
from recon.solvers.base import IterativeMethod
from recon.solvers.cgls import Cgls
from recon.solvers.functionals import L1, L21, Functional, NonNegative, SquaredL2
from recon.solvers.least_squares import LeastSquares
from recon.solvers.pdhg import Pdhg, SaddleProblem, Term
from recon.solvers.sirt import Sirt, SirtProblem, Subset
from tests.support.assimilation.observations import observation_operators
from tests.support.assimilation.small_systems import small_systems


@dataclass(frozen=True)
class Solve:
    """A method with a problem of its kind."""

    method: IterativeMethod
    problem: object
    start: Tensor


GRID = Grid((3, 16, 16), (2.0, 1.5, 1.5))


class Own(LinearOperator):
    """An operator as a user would write one, around another."""

    def __init__(self, inner: LinearOperator, grid: Grid | None) -> None:
        self.inner, self.grid = inner, grid
        self.domain, self.range = inner.domain, inner.range

    def __call__(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def adjoint(self, y: Tensor) -> Tensor:
        return self.inner.adjoint(y)


def geometry(views: int = 12) -> ScanGeometry:
    return Parallel(views=views).fit(GRID).geometry()


def fan() -> ScanGeometry:
    return FanCurved(views=7, sod_mm=60.0, sdd_mm=100.0).fit(GRID).geometry()


def operators() -> list[LinearOperator]:
    return [
        Projector(geometry(), GRID),
        Projector(fan(), GRID, backend="reference"),
        Projector(CircularCone(views=7, sod_mm=60.0, sdd_mm=100.0).fit(GRID).geometry(), GRID),
        Differences((4, 5, 6)),
        Differences((4, 5, 6), axes=(0,), weights=(0.5,)),
        Adjoint(Differences((4, 5, 6), axes=(2, 0))),
    ]


def functionals() -> list[Functional]:
    draw = torch.Generator().manual_seed(4)
    target, weights = (torch.rand(3, 4, generator=draw) for _ in range(2))
    return [L1(0.3), L21(0.7), SquaredL2(target, weights), NonNegative()]


def solves() -> list[Solve]:
    """Each method with a small strongly convex problem: 1/2 |A x - y|^2, for PDHG with x >= 0 and 1/10 |D x|_1."""
    draw = torch.Generator().manual_seed(5)
    volume = Grid((2, 4, 4), (1.0, 1.0, 1.0))
    projector = Projector(Parallel(views=20).fit(volume).geometry(), volume)
    y = projector(torch.rand(volume.shape, generator=draw))
    terms = (Term(projector, SquaredL2(y, torch.ones_like(y))), Term(Differences(volume.shape), L1(0.1)))
    data, start = LeastSquares(projector, y, torch.ones_like(y)), torch.zeros(volume.shape)
    return [
        Solve(Pdhg(), SaddleProblem(terms, NonNegative()), start),
        Solve(Cgls(), data, start),
        Solve(Sirt(), SirtProblem((Subset.of(data, statistical=False),), NonNegative()), start),
    ]


def reconstructors() -> list[Reconstructor]:
    few = CgStage(levels=2, start_hu=300.0, stop_hu=100.0)
    through = VjpStage(levels=1, start_hu=100.0, stop_hu=100.0, refine=VjpRefinement(iterations=2))
    return [
        FBP(filter="hann"),
        CGLS(iterations=10),
        SIRT(iterations=20, subsets=3),
        TV(iterations=20),
        Exact(),
        NerdFast(fast=few, warm_start="fbp"),
        NerdThorough(fast=few, warm_start="fbp"),
        NerdAdmm(fast=few, refine=through, warm_start="fbp"),
        NerdPdhg(fast=few, refine=through, warm_start="fbp"),
        DDS(ladder=Geometric(levels=2, start_hu=300.0, stop_hu=100.0)),
        DDS3D(ladder=Geometric(levels=2, start_hu=300.0, stop_hu=100.0)),
        DiffPIR(ladder=Geometric(levels=2, start_hu=300.0, stop_hu=100.0)),
        DiffusionMBIR(ladder=Geometric(levels=3, start_hu=300.0, stop_hu=30.0), iterations=5),
        DPS(ladder=Geometric(levels=4, start_hu=300.0, stop_hu=50.0), warm_start="fbp"),
        REDDiff(ladder=Geometric(levels=4, start_hu=300.0, stop_hu=50.0)),
        SITCOM(
            ladder=Geometric(levels=2, start_hu=300.0, stop_hu=100.0),
            warm_start="fbp",
            refine=VjpRefinement(iterations=4, overestimate=1.0, polish=None),
        ),
        PnPHQS(ladder=Geometric(levels=2, start_hu=300.0, stop_hu=100.0), warm_start="fbp"),
        PnPADMM(ladder=Geometric(levels=3, start_hu=300.0, stop_hu=100.0), warm_start="fbp"),
    ]


def schedules() -> list[Schedule]:
    betas = tuple(torch.linspace(1e-4, 2e-2, 50).tolist())
    return [
        VP(),
        Cosine(),
        EDM(),
        Spaced(),
        Rectified(),
        schedule.Geometric(),
        Discrete(betas=betas),
        *(Betas(kind=kind) for kind in ("linear", "scaled_linear", "cosine", "sigmoid", "laplace")),
        Betas(kind="linear", zero_terminal=True),
        Averaged(inner=EDM()),
        From(inner=EDM(), last=0.4),
    ]


def parametrisations() -> list[Parametrisation]:
    return [
        Noise(),
        Clean(),
        Velocity(),
        Score(),
        Flow(),
        Flow(sign=-1),
        Preconditioned(),
        Preconditioned(sign=-1),
    ]


def denoisers() -> list[Denoiser]:
    covariance = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(6)
        network = MonaiUNet(channels=(8, 8), norm_groups=4).build()
        classes = MonaiUNet(channels=(8, 8), norm_groups=4, classes=2).build()
        neighbours = MonaiUNet(channels=(8, 8), norm_groups=4, field_channels=3).build()
    preconditioned = {"schedule": EDM(), "parametrisation": Preconditioned(), "reduced": False}
    return [
        GaussianDenoiser(torch.tensor([1.0, -1.0], dtype=torch.float64), covariance, schedule=VP()),
        NetworkDenoiser(network, **preconditioned),
        FittedDenoiser(
            NetworkDenoiser(network, **preconditioned),
            SliceFit(size=(12, 20), stride=4, orientation="-x y"),
            air=-1.0,
        ),
        ClassifierFree(NetworkDenoiser(classes, **preconditioned), label=1, strength=0.5),
        Stack(NetworkDenoiser(neighbours, **preconditioned), 3),
        *conditioned(covariance),
    ]


def conditioned(covariance: Tensor) -> list[Denoiser]:
    """The denoisers around a denoiser: given observations of the first variable, or a finished frame."""
    prior = GaussianDenoiser(torch.tensor([1.0, -1.0], dtype=torch.float64), covariance, schedule=VP())
    two = torch.ones(1, 1, dtype=torch.float64)
    seen = Likelihood(0.5 * two, 0.2 * two, lambda x: x[:, :1])
    frames = GaussianDenoiser(torch.zeros(2, 1, 1, 1, dtype=torch.float64), covariance, schedule=VP())
    return [
        MmpsDenoiser(prior, seen, settings=Mmps()),
        MmpsDenoiser(prior, seen, settings=Mmps(backprop=False, solver="cg")),
        SdaDenoiser(prior, seen, settings=Sda()),
        SdaDenoiser(prior, seen, settings=Sda(backprop=False)),
        Below(prior, 2.0),
        ConditionedDenoiser(frames, torch.ones(3, 1, 1, 1, 1, dtype=torch.float64)),
    ]


def samplers() -> list[Sampler]:
    return [
        *(DDIM(steps=200), DDIM(steps=200, eta=1.0)),
        *(Heun(steps=40), Multistep(steps=60), VarianceOptimised(steps=60)),
    ]


def jumps() -> list[Sampler]:
    """Needs a prior that was trained to jump: ``tests/priors/training/test_few_step.py`` examines what it draws."""
    return [Jumps()]


def codecs() -> list[Codec]:
    return [Codec(offset=-200.0, scale=800.0, low=-1024.0, high=1500.0)]


def steps() -> list[Step]:
    """Steps that suit the projections of a small object, see ``test_contracts``."""
    return [
        # An object eight pixels wide is as narrow as what the step looks for.
        BadPixels(deviations=500),
        RingsSorting(columns=5),
        RingsWavelet(levels=2),
        BeamHardening(coefficients=(1.0, 0.1)),
        Metal(pixels=16, threshold_hu=1e5),
        Centre(column=11.0),
    ]


EXAMPLES = {
    LinearOperator: operators,
    Functional: functionals,
    IterativeMethod: lambda: [solve.method for solve in solves()],
    Reconstructor: reconstructors,
    Schedule: schedules,
    Parametrisation: parametrisations,
    Denoiser: denoisers,
    Sampler: lambda: [*samplers(), *jumps()],
    Codec: codecs,
    System: small_systems,
    ObservationOperator: observation_operators,
    Step: steps,
}
