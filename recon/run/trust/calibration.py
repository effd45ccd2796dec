"""Calibrating intervals: scans are simulated from a volume that is known, drawn, and compared with it.

Every number of views gives one row of the prior's card (`priors.card.trust.IntervalRow`). The volume must be of a
patient the prior has not seen: on its training data a prior errs less than on anyone else's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

from priors.card import Prior
from priors.card.trust import IntervalRow
from priors.runtime.config import load
from priors.runtime.errors import InputError
from recon.data.resample import resample
from recon.data.volume import Volume
from recon.ensembles.draws import draw
from recon.ensembles.fit import Fitted, fit_scale
from recon.ensembles.intervals import smoothed_variance
from recon.geometry.orbits import Orbit, Parallel
from recon.io.volumes.registry import read_volume
from recon.reconstructors.base import RunContext, StepRecord
from recon.reconstructors.diffusion.base import DiffusionReconstructor
from recon.run.problem.pose import Problem, pose
from recon.run.settings import ReconstructSettings
from recon.run.trust.draws import conditions
from recon.simulate.scan import simulate

OnStep = Callable[[str, StepRecord], None]


@dataclass(frozen=True)
class Request:
    """What is to be calibrated on what.

    Attributes:
        volume: file in HU.
        views: numbers of views, one row each.
        method: name of the diffusion method.
        i0: photons per ray.
        draws: M.
        slices: neighbouring slices in the middle of the volume.
        grid: pixels of the square slice.
        seed: of noise and draws.
        orbit: of the scans; its views are replaced.
    """

    volume: Path
    views: Sequence[int]
    method: str = "nerd-fast"
    i0: float = 1e5
    draws: int = 4
    slices: int = 8
    grid: int | None = 256
    seed: int = 0
    orbit: Orbit = field(default_factory=Parallel)


def interval_rows(prior: Prior, request: Request, on_step: OnStep) -> tuple[IntervalRow, ...]:
    """Return the rows that were measured.

    Raises:
        InputError: the volume cannot be used, or the method draws no noise.
    """
    if request.draws < 2:
        raise InputError(f"draws: found {request.draws}, expected at least 2: one has no deviation")
    volume = middle(read_volume(request.volume), request.slices)
    if volume.unit != "HU":
        raise InputError(f"{request.volume}: found a volume in {volume.unit}, expected HU")
    return tuple(_row(prior, request, volume, views, on_step) for views in request.views)


def merged(rows: Sequence[IntervalRow], new: Sequence[IntervalRow]) -> tuple[IntervalRow, ...]:
    """Return rows with new ones in the place of those of the same conditions."""

    def key(row: IntervalRow) -> tuple[object, ...]:
        return (row.method, row.settings, row.orbit, row.i0, row.views, row.columns)

    replaced = {key(row) for row in new}
    return (*(row for row in rows if key(row) not in replaced), *new)


def middle(volume: Volume, count: int) -> Volume:
    """Return neighbouring slices in the middle of a volume."""
    total = len(volume.values)
    start = max(0, (total - count) // 2)
    stop = min(total, start + count)
    affine = volume.affine.copy()
    affine[:3, 3] += start * affine[:3, 2]
    return Volume(volume.values[start:stop], affine, volume.unit)


def drawn_problem(prior: Prior, request: Request, volume: Volume, views: int) -> Problem:
    """Return the reconstruction of the scan that is simulated from ``volume``."""
    orbit = request.orbit.model_copy(update={"views": views})
    scan = simulate(volume, orbit, i0=request.i0, grid=request.grid, seed=request.seed)
    given = {"name": request.method, "prior": prior}
    settings = load(ReconstructSettings, [{"method": given, "seed": request.seed, "draws": request.draws}])
    return pose(scan, settings)


def _row(prior: Prior, request: Request, volume: Volume, views: int, on_step: OnStep) -> IntervalRow:
    problem = drawn_problem(prior, request, volume, views)
    problem.plan().require()
    fitted = fit_problem(
        problem, volume, RunContext(request.seed, on_step=lambda record: on_step(f"{views} views", record))
    )
    now = conditions(problem)
    return IntervalRow(
        method=now.method,
        settings=now.settings,
        views=views,
        columns=problem.scan.geometry.shape[1],
        i0=request.i0,
        orbit=now.orbit,
        draws=request.draws,
        a=_rounded(fitted.scale.a),
        relative=tuple(_rounded(value) for value in fitted.scale.relative),
        b_hu=fitted.scale.b_hu,
        coverage={name: round(share, 3) for name, share in fitted.coverage.items()},
        data=f"{request.volume.name}, {len(volume.values)} slices",
        version=version("tomocast"),
    )


def fit_problem(problem: Problem, truth: Volume, context: RunContext) -> Fitted:
    """Draw, and fit a and b to the error of the mean."""
    method = problem.settings.method
    assert isinstance(method, DiffusionReconstructor)
    draws = draw(method, problem.measurement(), problem.projector(), context, problem.settings.draws)
    mean = problem.volume(draws.moments.mean)
    reference = resample(truth, mean)
    per_hu = problem.scan.mu_water / 1000
    variance = smoothed_variance(draws.moments).contiguous().numpy() / np.float32(per_hu) ** 2
    return fit_scale(mean.values, variance, reference)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
