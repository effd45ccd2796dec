"""From a problem to a volume and its figures: no file is read or written here, and nothing is printed.

The quality of fit is chi2 per ray over the rays that count,

    chi2 / m = (1 / m) sum_i w_i ((A x)_i - y_i)^2,      m = number of rays with w_i > 0,

which is 1 when the residual is what the noise explains. Where only some views were used, the same figure on
the views left out says whether the volume predicts measurements it has not seen. Both are of the volume as it was
reconstructed, before it is resampled to another grid (`recon.run.problem.prior_grid`).
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from priors.runtime.errors import InputError
from recon.data.scan import Scan
from recon.data.volume import Volume
from recon.io.volumes.nifti.slabs import NiftiSlabs
from recon.operators.projector import Projector
from recon.reconstructors.base import RunContext
from recon.reconstructors.checkpoint import Spent
from recon.reconstructors.object_mean import ObjectSums
from recon.run.problem.pose import Problem
from recon.run.trust import against
from recon.run.trust.draws import solve_draws, with_intervals
from recon.run.trust.familiarity import judged
from recon.solvers.least_squares import LeastSquares


@dataclass(frozen=True)
class SlabContext:
    """What a slab is told about the whole; the default is that of a whole volume.

    Attributes:
        own: its own slices among those that are computed; None are all.
        first_slice: number of the first slice computed, see `recon.reconstructors.base.RunContext`.
        sums: of the whole scan, where the method needs them.
        steps_before: steps of the slabs before it: curves go on.
        label: which slab it is, for the progress display.
    """

    own: slice | None = None
    first_slice: int | None = None
    sums: ObjectSums | None = None
    steps_before: int = 0
    label: str = ""


WHOLE = SlabContext()


@dataclass(frozen=True, eq=False)
class Outcome:
    """A finished reconstruction.

    Attributes:
        volume: the result.
        metrics: its figures by their names in ``metrics.json``.
        fits: sums of the rays used and of those held out, None where there are none.
        shown: what a report shows of it; None shows all.
        other: the result with another prior, where the settings name one.
        slabs: the file that holds the volume already, slab by slab; ``volume`` is then some of its slices.
    """

    volume: Volume
    metrics: dict[str, Any]
    fits: "tuple[Fit, Fit | None] | None" = None
    shown: Volume | None = None
    other: Volume | None = None
    slabs: NiftiSlabs | None = None


@dataclass(frozen=True)
class Fit:
    """Sums over rays that count, additive over slabs.

    Attributes:
        chi2: of weighted squared residuals.
        residual2: of squared residuals.
        target2: of squared line integrals.
        rays: how many.
    """

    chi2: float
    residual2: float
    target2: float
    rays: int

    def __add__(self, other: "Fit") -> "Fit":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Fit(*(one + more for one, more in pairs))

    def figures(self) -> dict[str, float]:
        """Return chi2 per ray and the relative residual; a slab that saw nothing leaves nothing unexplained."""
        return {
            "chi2_per_ray": self.chi2 / max(self.rays, 1),
            "relative_residual": (self.residual2 / self.target2) ** 0.5 if self.target2 else 0.0,
            "rays": self.rays,
        }


def solve(problem: Problem, context: RunContext, slab: SlabContext = WHOLE) -> Outcome:
    """Run the method.

    Args:
        problem: what is reconstructed.
        context: how.
        slab: where the problem is a slab; the figures are those of its own slices, the volume holds all of them.

    Raises:
        InputError: the method cannot work with this scan.
    """
    method = problem.settings.method
    measurement, projector = replace(problem.measurement(), object_sums=slab.sums), problem.projector()
    begin = Spent.now()
    drawn, pair = None, None
    if problem.settings.draws > 1:
        drawn = solve_draws(problem, measurement, projector, context)
        attenuation = drawn.mean
    elif problem.settings.against is not None:
        pair = against.solve_pair(problem, measurement, projector, context)
        attenuation = pair.first
    else:
        attenuation = method(measurement, projector, context)
    earlier = Spent() if context.checkpoint is None else context.checkpoint.earlier
    spent = earlier + (Spent.now() - begin)
    seconds = {"seconds": spent.wall, "cpu_seconds": spent.cpu}
    if not bool(torch.isfinite(attenuation).all()):
        raise InputError(f"{method.name}: the result is not finite; check the scan's values and weights")
    own, attenuated, seen = problem, attenuation, projector
    if slab.own is not None:
        ends = slab.own.start, slab.own.stop
        own, attenuated, seen = problem.rows(*ends), attenuation[slab.own], projector.slices(*ends)
    used = fits(own, attenuated, seen)
    figures = {**describe(problem), **fit_figures(problem, *used), **seconds}
    figures |= judged(own, attenuated, chi2=figures["chi2_per_ray"])
    volume = problem.volume(attenuation)
    if drawn is not None:
        figures |= drawn.figures
        volume = with_intervals(problem, volume, drawn.intervals, figures)
    if pair is not None:
        figures["against"] = against.figures(problem, pair, measurement, projector)
    return Outcome(volume, figures, used, other=None if pair is None else problem.volume(pair.second))


def fits(
    problem: Problem, attenuation: Float[Tensor, "z y x"], projector: Projector
) -> tuple[Fit, Fit | None]:
    """Return the sums of a volume on the rays used and on those held out, None where there are none."""
    used = _fit(problem.scan, attenuation, projector)
    if problem.held_out is None:
        return used, None
    unused = Projector(problem.held_out.geometry, problem.grid, backend=problem.settings.backend)
    return used, _fit(problem.held_out, attenuation, unused)


def fit_figures(problem: Problem, used: Fit, unused: Fit | None) -> dict[str, Any]:
    """Return the figures of a fit as in ``metrics.json``."""
    figures: dict[str, Any] = used.figures()
    if unused is not None and problem.held_out is not None:
        figures["held_out"] = {**unused.figures(), "views": problem.held_out.geometry.views}
    return figures


def describe(problem: Problem) -> dict[str, Any]:
    """Return what was reconstructed from what."""
    geometry, grid = problem.scan.geometry, problem.grid
    solved = {"grid": [problem.slices, *grid.shape[1:]], "voxel_mm": list(grid.voxel_mm)}
    return {
        "method": problem.settings.method.name,
        "seed": problem.settings.seed,
        "beam": geometry.beam,
        "views": geometry.views,
        "detector": [problem.slices if geometry.sliced else geometry.shape[0], geometry.shape[1]],
        "grid": [problem.slices, *problem.written.shape[1:]],
        "voxel_mm": list(problem.written.voxel_mm),
        "unit": problem.scan.unit,
        **({} if problem.asked is None else {"reconstructed_on": solved}),
        **({"chosen": dict(problem.chosen)} if problem.chosen else {}),
    }


def _fit(scan: Scan, attenuation: Float[Tensor, "z y x"], projector: Projector) -> Fit:
    """Return the sums of a volume's residual."""
    sinogram, weights = torch.from_numpy(scan.sinogram), torch.from_numpy(scan.weights)
    term = LeastSquares(projector, sinogram.to(attenuation.device), weights.to(attenuation.device))
    with torch.no_grad():
        residual = term.residual(attenuation)
    counted = term.weights > 0
    rays = term.rays()
    squares, norms = (
        # View by view: in float64 a whole sinogram would be twice as large.
        sum(float(view[good].double().square().sum()) for view, good in zip(array, counted, strict=True))
        for array in (residual, term.target)
    )
    return Fit(term.squared(residual), squares, norms, rays)
