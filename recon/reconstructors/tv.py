r"""Penalised weighted least squares with 3-D total variation, by PDHG.

    min over x >= 0   1/2 ||W^(1/2) (A x - y)||^2  +  lambda sum_j sqrt( sum_a k_a^2 (D_a x)_j^2 )

W holds the inverse variances of y, D_a are forward differences (not periodic), k_a = pixel / spacing_a, so
a step between slices counts like the same slope in the plane.

**The weight.** At the true image the data term's gradient is A.T W (noise), with standard deviation
sqrt(sum_i a_ij^2 w_i) at voxel j, about sqrt(pixel (A.T w)_j). Total variation removes structure whose
gradient is below lambda, so lambda is measured in that deviation, averaged over the object (rays weighted by
what they cross):

    lambda = weight * sqrt(pixel * w_mean * mean_j (A.T 1)_j),      w_mean = sum_i w_i y_i / sum_i y_i

``weight`` has no unit, and one value serves all doses, numbers of views and pixel sizes (docs/guides/tv.md).

**The steps.** W spans three orders of magnitude, so steps are diagonal (Pock and Chambolle 2011), with the
rows of A scaled by r_i ~ sqrt(w_i w_mean) and those of D by h ~ lambda / contrast:

    S_i = r_i / (A 1)_i,      S_D = h / (2 max_a k_a),      T_j = 1 / (sum_i r_i a_ij + 2 h sum_a k_a)

which bounds || S^(1/2) K T^(1/2) || by 1 without any iteration, since A has no negative weights. Both scales
are set from the data: how far an iteration moves data duals and edges, relative to their size.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from priors.runtime.system.memory import MemoryPlan
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry
from recon.operators.base import LinearOperator, grid_of
from recon.operators.differences import Differences
from recon.reconstructors.base import (
    Measurement,
    Reconstructor,
    RunContext,
    empty_volume,
    ray_table_bytes,
)
from recon.reconstructors.iterative import run_iterations
from recon.reconstructors.object_mean import ObjectSums
from recon.solvers.base import Stop
from recon.solvers.functionals import L21, NonNegative, SquaredL2
from recon.solvers.fused_variation import VariationTerm
from recon.solvers.least_squares import LeastSquares
from recon.solvers.pdhg import Pdhg, PdhgState, SaddleProblem, Term

# How far an iteration moves the data duals, as a fraction of what cancels a residual at once, and the
# contrast of edges relative to the mean attenuation. Both change only the speed (docs/guides/tv.md).
DATA_SCALE = 0.06
EDGE_SCALE = 0.6
LEAST_RAY = 1e-2
OVERLAP = 8


class TV(Reconstructor):
    """PWLS with 3-D total variation and non-negativity.

    Attributes:
        weight: of total variation, in units of the noise of the data term's gradient.
        slice_coupling: factor on differences between slices; 0 reconstructs every slice alone.
        iterations: largest number.
        tolerance: stop when one iteration changes the volume by less than this fraction and the duals, and
            with them the residual, by less than ten times this fraction.
    """

    name: Literal["tv"] = "tv"
    weight: float = Field(0.4, gt=0)
    slice_coupling: float = Field(1.5, ge=0)
    iterations: int = Field(400, ge=1)
    tolerance: float = Field(1e-4, ge=0)

    def __call__(
        self, measurement: Measurement, projector: LinearOperator, context: RunContext
    ) -> Float[Tensor, "z y x"]:
        """Return the attenuation in 1/mm.

        Raises:
            InputError: every ray has zero weight, or the iteration met a NaN.
        """
        with torch.no_grad():
            problem = self.problem(measurement, projector)
        method = Pdhg()
        fit = LeastSquares(projector, measurement.sinogram, measurement.weights)

        def chi2(state: PdhgState) -> dict[str, float]:
            return {"chi2": fit.chi2(fit.residual(method.estimate(problem, state)))}

        below = {"change": self.tolerance, "dual_change": 10 * self.tolerance}
        return run_iterations(
            method,
            problem,
            stop=Stop(iterations=self.iterations, below=below),
            context=context,
            mark=self.mark(measurement, projector, context),
            start=empty_volume(measurement, projector),
            figures=chi2,
        )

    def problem(self, measurement: Measurement, projector: LinearOperator) -> SaddleProblem:
        """Return the problem above with its diagonal steps.

        Raises:
            InputError: every ray has zero weight, or the operator does not state its grid.
        """
        grid = grid_of(projector, "tv")
        y, weights = measurement.sinogram, measurement.weights
        mean_weight, mass = (measurement.object_sums or ObjectSums.of(y, weights)).means()
        differences = self._differences(grid)
        length = projector(y.new_ones(projector.domain))
        views = projector.adjoint(torch.ones_like(y)).mean()
        pixel = min(grid.voxel_mm[1:])
        strength = self.weight * float((pixel * mean_weight * views) ** 0.5)
        rows = DATA_SCALE * length.mean() * (weights * mean_weight).sqrt().clamp(min=LEAST_RAY * mean_weight)
        edges = 2 * strength / (EDGE_SCALE * mass / float(length.mean()))
        taxed = projector.adjoint(rows) + edges * 2 * sum(differences.weights)
        data = Term(
            projector, SquaredL2(y, weights), rows / length.clamp(min=LEAST_RAY * float(length.max()))
        )
        variation = VariationTerm(differences, L21(strength), edges / (2 * max(differences.weights)))
        return SaddleProblem((data, variation), NonNegative(), 1 / taxed, bound=1.0)

    def plan(self, grid: Grid, geometry: ScanGeometry) -> MemoryPlan:
        """Return the memory needed beyond the measurement, in bytes."""
        one, rays = 4 * int(np.prod(grid.shape)), 4 * geometry.views * geometry.shape[0] * geometry.shape[1]
        axes = 3 if self.slice_coupling > 0 else 2
        return MemoryPlan(
            {
                "volumes (iterate, steps, gradients)": 7 * one,
                "duals of total variation": 3 * axes * one,
                "sinograms (dual, steps, residuals)": 7 * rays,
                "ray table": ray_table_bytes(geometry),
            }
        )

    def overlap(self) -> int:
        """See `Reconstructor`: differences between slices reach across; how far was measured (docs/guides/scale.md)."""
        return OVERLAP if self.slice_coupling > 0 else 0

    @property
    def needs_object_sums(self) -> bool:
        """See `Reconstructor`: the strength and the steps rest on them."""
        return True

    def _differences(self, grid: Grid) -> Differences:
        pixel = min(grid.voxel_mm[1:])
        dz, dy, dx = grid.voxel_mm
        if self.slice_coupling == 0:
            return Differences(grid.shape, axes=(1, 2), weights=(pixel / dy, pixel / dx))
        weights = (self.slice_coupling * pixel / dz, pixel / dy, pixel / dx)
        return Differences(grid.shape, weights=weights)
