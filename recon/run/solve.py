"""From a problem to a volume and its figures: no file is read or written here, and nothing is printed.

The quality of fit is chi2 per ray over the rays that count,

    chi2 / m = (1 / m) sum_i w_i ((A x)_i - y_i)^2,      m = number of rays with w_i > 0,

which is 1 when the residual is what the noise explains. Where only some views were used, the same figure on
the views left out says whether the volume predicts measurements it has not seen.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from priors.runtime.errors import InputError
from recon.data.scan import Scan
from recon.data.volume import Volume
from recon.operators.projector import Projector
from recon.reconstructors.base import RunContext
from recon.reconstructors.checkpoint import Spent
from recon.run.draws import solve_draws, with_intervals
from recon.run.problem import Problem
from recon.solvers.least_squares import LeastSquares


@dataclass(frozen=True, eq=False)
class Outcome:
    """A finished reconstruction: the volume and its figures by their names in ``metrics.json``."""

    volume: Volume
    metrics: dict[str, Any]


def solve(problem: Problem, context: RunContext) -> Outcome:
    """Run the method.

    Raises:
        InputError: the method cannot work with this scan.
    """
    method = problem.settings.method
    measurement, projector = problem.measurement(), problem.projector()
    begin = Spent.now()
    drawn = None
    if problem.settings.draws > 1:
        drawn = solve_draws(problem, measurement, projector, context)
        attenuation = drawn.mean
    else:
        attenuation = method(measurement, projector, context)
    earlier = Spent() if context.checkpoint is None else context.checkpoint.earlier
    spent = earlier + (Spent.now() - begin)
    seconds = {"seconds": spent.wall, "cpu_seconds": spent.cpu}
    if not bool(torch.isfinite(attenuation).all()):
        raise InputError(f"{method.name}: the result is not finite; check the scan's values and weights")
    figures = {**describe(problem), **fit(problem, attenuation, projector), **seconds}
    volume = problem.volume(attenuation)
    if drawn is not None:
        figures |= drawn.figures
        volume = with_intervals(problem, volume, drawn.intervals, figures)
    return Outcome(volume, figures)


def fit(problem: Problem, attenuation: Float[Tensor, "z y x"], projector: Projector) -> dict[str, Any]:
    """Return the residual of a volume on the rays used and on those held out."""
    figures: dict[str, Any] = _fit(problem.scan, attenuation, projector)
    if problem.held_out is not None:
        unused = Projector(problem.held_out.geometry, problem.grid, backend=problem.settings.backend)
        held_out = _fit(problem.held_out, attenuation, unused)
        figures["held_out"] = {**held_out, "views": problem.held_out.geometry.views}
    return figures


def describe(problem: Problem) -> dict[str, Any]:
    """Return what was reconstructed from what."""
    geometry = problem.scan.geometry
    return {
        "method": problem.settings.method.name,
        "seed": problem.settings.seed,
        "beam": geometry.beam,
        "views": geometry.views,
        "detector": list(geometry.shape),
        "grid": list(problem.grid.shape),
        "voxel_mm": list(problem.grid.voxel_mm),
        "unit": problem.scan.unit,
    }


def _fit(scan: Scan, attenuation: Float[Tensor, "z y x"], projector: Projector) -> dict[str, float]:
    """Return chi2 per ray and the relative residual of a volume."""
    sinogram, weights = torch.from_numpy(scan.sinogram), torch.from_numpy(scan.weights)
    term = LeastSquares(projector, sinogram.to(attenuation.device), weights.to(attenuation.device))
    with torch.no_grad():
        residual = term.residual(attenuation)
    counted = term.weights > 0
    norm = float(term.target[counted].double().norm())
    return {
        "chi2_per_ray": term.chi2(residual),
        "relative_residual": float(residual[counted].double().norm()) / norm,
        "rays": term.rays(),
    }
