r"""CGLS: weighted least squares by conjugate gradients, stopped when the noise level is reached.

    min over x   1/2 ||W^(1/2) (A x - y)||^2

No penalty, no sign constraint: the number of iterations is the regularisation (``recon.solvers.cgls``). On few views
it is a baseline, not a competitor; on many it is filtered backprojection for any geometry, with statistical weights.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from priors.runtime.system.memory import MemoryPlan
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry
from recon.operators.base import LinearOperator
from recon.reconstructors.base import (
    Measurement,
    Reconstructor,
    RunContext,
    empty_volume,
    ray_table_bytes,
)
from recon.reconstructors.iterative import run_iterations
from recon.solvers.base import Stop
from recon.solvers.cgls import Cgls
from recon.solvers.least_squares import LeastSquares


class CGLS(Reconstructor):
    """Weighted least squares, regularised by stopping early.

    Attributes:
        iterations: largest number.
        chi2: stop once chi2 per ray is below this; 0 runs all iterations.
    """

    name: Literal["cgls"] = "cgls"
    iterations: int = Field(30, ge=1)
    chi2: float = Field(1.0, ge=0)

    def __call__(
        self, measurement: Measurement, projector: LinearOperator, context: RunContext
    ) -> Float[Tensor, "z y x"]:
        """Return the attenuation in 1/mm.

        Raises:
            InputError: every ray has zero weight, or the iteration met a NaN.
        """
        problem = LeastSquares(projector, measurement.sinogram, measurement.weights)
        return run_iterations(
            Cgls(),
            problem,
            stop=Stop(iterations=self.iterations, below={"chi2": self.chi2}, every=1),
            context=context,
            mark=self.mark(measurement, projector, context),
            start=empty_volume(measurement, projector),
        )

    def plan(self, grid: Grid, geometry: ScanGeometry) -> MemoryPlan:
        """Return the memory needed beyond the measurement, in bytes."""
        one, rays = 4 * int(np.prod(grid.shape)), 4 * geometry.views * geometry.shape[0] * geometry.shape[1]
        return MemoryPlan(
            {
                "volumes (iterate, direction, gradient)": 6 * one,
                "sinograms (residual, image)": 5 * rays,
                "ray table": ray_table_bytes(geometry),
            }
        )
