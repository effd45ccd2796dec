r"""SIRT with ordered subsets: small careful steps towards the data, never below zero.

One iteration passes the views once, in ``subsets`` interleaved groups (``recon.solvers.sirt`` has the formula). With
``weights: rows`` every ray counts by the inverse of its length in the grid, which is the classical method; with
``statistical`` by its inverse variance.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from priors.runtime.errors import InputError
from priors.runtime.system.memory import MemoryPlan
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry
from recon.operators.base import LinearOperator
from recon.operators.projector import Projector
from recon.reconstructors.base import (
    Measurement,
    Reconstructor,
    RunContext,
    empty_volume,
    ray_table_bytes,
)
from recon.reconstructors.iterative import run_iterations
from recon.solvers.base import Stop
from recon.solvers.functionals import Box, NonNegative
from recon.solvers.least_squares import LeastSquares
from recon.solvers.sirt import Sirt, SirtProblem, Subset, visiting_order


class SIRT(Reconstructor):
    """Simultaneous iterative reconstruction, with ordered subsets of views.

    Attributes:
        iterations: largest number of passes over all views.
        subsets: groups of views that each make a step of their own; 1 is the plain method.
        weights: how much a ray counts, by its length or by its statistics.
        nonnegative: whether attenuation is kept at or above zero.
        relaxation: factor on the steps.
        chi2: stop once chi2 per ray is below this; 0 runs all iterations.
    """

    name: Literal["sirt"] = "sirt"
    iterations: int = Field(100, ge=1)
    subsets: int = Field(1, ge=1)
    weights: Literal["rows", "statistical"] = "rows"
    nonnegative: bool = True
    relaxation: float = Field(1.0, gt=0, lt=2)
    chi2: float = Field(1.0, ge=0)

    def __call__(
        self, measurement: Measurement, projector: LinearOperator, context: RunContext
    ) -> Float[Tensor, "z y x"]:
        """Return the attenuation in 1/mm.

        Raises:
            InputError: more subsets than views, every ray has zero weight, or the iteration met a NaN.
        """
        LeastSquares(projector, measurement.sinogram, measurement.weights).rays()
        with torch.no_grad():
            problem = self.problem(measurement, projector)
        return run_iterations(
            Sirt(relaxation=self.relaxation),
            problem,
            stop=Stop(iterations=self.iterations, below={"chi2": self.chi2}, every=1),
            context=context,
            mark=self.mark(measurement, projector, context),
            start=empty_volume(measurement, projector),
        )

    def problem(self, measurement: Measurement, projector: LinearOperator) -> SirtProblem:
        """Return the subsets with their steps.

        Raises:
            InputError: more subsets than views, or subsets of an operator that has no views to select.
        """
        subsets = []
        for first in visiting_order(self.subsets):
            views = slice(first, None, self.subsets)
            operator = projector if self.subsets == 1 else self._some_views(projector, views)
            term = LeastSquares(operator, measurement.sinogram[views], measurement.weights[views])
            subsets.append(Subset.of(term, statistical=self.weights == "statistical"))
        return SirtProblem(tuple(subsets), NonNegative() if self.nonnegative else Box())

    def _some_views(self, projector: LinearOperator, views: slice) -> Projector:
        if not isinstance(projector, Projector):
            raise InputError(
                f"sirt.subsets: found {self.subsets}, expected 1 with an operator of one's own, whose views cannot be "
                "selected"
            )
        if self.subsets > projector.geometry.views:
            raise InputError(
                f"sirt.subsets: found {self.subsets}, expected at most the {projector.geometry.views} views"
            )
        return projector[views]

    def plan(self, grid: Grid, geometry: ScanGeometry) -> MemoryPlan:
        """Return the memory needed beyond the measurement, in bytes."""
        one, rays = 4 * int(np.prod(grid.shape)), 4 * geometry.views * geometry.shape[0] * geometry.shape[1]
        return MemoryPlan(
            {
                "volumes (iterate, update)": 4 * one,
                "steps of every subset": self.subsets * one,
                "sinograms (weights of rays, residuals)": (1 if self.subsets > 1 else 4) * rays
                + 4 * rays // self.subsets,
                "ray table": (2 if self.subsets > 1 else 1) * ray_table_bytes(geometry),
            }
        )
