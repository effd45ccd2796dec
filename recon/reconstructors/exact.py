r"""The minimum that ``tv`` approaches, by an interior-point solver: a reference for small problems.

    min over x >= 0   1/2 ||W^(1/2) (A x - y)||^2  +  lambda sum_j sqrt( sum_a k_a^2 (D_a x)_j^2 )

The objective is that of ``tv`` with the same ``weight`` and ``slice_coupling`` (see there), handed to cvxpy as a
quadratic and second-order cones, and solved to about eight digits. A is written down as a matrix, column by column, so
any linear operator will do, but only a small one: what takes ``tv`` a second takes this a minute. Use it to see how far
from the optimum a method's settings stop, or to test an operator of your own.
Source: Diamond and Boyd, CVXPY, Journal of Machine Learning Research 17 (2016).
"""

import math
from importlib import import_module
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from scipy import sparse
from torch import Tensor

from priors.runtime.errors import InputError
from priors.runtime.system.memory import MemoryPlan
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry
from recon.operators.base import LinearOperator
from recon.reconstructors.base import Measurement, Reconstructor, RunContext, StepRecord
from recon.reconstructors.tv import TV
from recon.solvers.functionals import L21, SquaredL2

MOST_VOXELS, MOST_RAYS = 10_000, 50_000
# The solver likes numbers of order one; attenuation is about 0.02 per mm.
UNIT = 0.01


class Exact(Reconstructor):
    """PWLS with 3-D total variation and non-negativity, solved exactly; for at most 10 000 voxels and 50 000 rays.

    Attributes:
        weight: as in ``TV``.
        slice_coupling: as in ``TV``.
    """

    name: Literal["exact"] = "exact"
    weight: float = Field(0.4, gt=0)
    slice_coupling: float = Field(1.5, ge=0)

    def __call__(
        self, measurement: Measurement, projector: LinearOperator, context: RunContext
    ) -> Float[Tensor, "z y x"]:
        """Return the attenuation in 1/mm. One step, of which no state is kept.

        Raises:
            InputError: the problem is too large, every ray has zero weight, or the solver does not reach the minimum.
        """
        voxels, rays = math.prod(projector.domain), math.prod(projector.range)
        _check_size(voxels, rays)
        with torch.no_grad():
            problem = self.objective().problem(measurement, projector)
            data, variation = problem.terms
            a, d = matrix_of(projector), matrix_of(variation.operator)
        fidelity, penalty = data.functional, variation.functional
        assert isinstance(fidelity, SquaredL2)
        assert isinstance(penalty, L21)
        target, weights = (_vector(array) for array in (fidelity.target, fidelity.weights))
        x, value = _minimise(a, d, target, weights, strength=penalty.weight)
        context.on_step(StepRecord(1, 1, {"objective": value}))
        return torch.from_numpy(x).to(measurement.sinogram).reshape(projector.domain)

    def objective(self) -> TV:
        """Return the method whose objective is minimised."""
        return TV(weight=self.weight, slice_coupling=self.slice_coupling)

    def plan(self, grid: Grid, geometry: ScanGeometry) -> MemoryPlan:
        """Return the memory needed beyond the measurement, in bytes.

        Raises:
            InputError: the problem is too large.
        """
        voxels, rays = math.prod(grid.shape), geometry.views * math.prod(geometry.shape)
        _check_size(voxels, rays)
        # A ray crosses up to about two pixels in every column or row; the factor of the KKT matrix fills up.
        entries = rays * 2 * max(grid.shape) + 8 * voxels
        return MemoryPlan({"matrices": 3 * 12 * entries, "factors of the solver": 16 * 16 * entries})


def matrix_of(operator: LinearOperator) -> sparse.csc_matrix:
    """Return an operator as a sparse matrix in float64, by what it makes of every unit vector."""
    columns = []
    unit = torch.zeros(math.prod(operator.domain))
    for k in range(unit.numel()):
        unit[k] = 1.0
        columns.append(sparse.csc_matrix(_vector(operator(unit.reshape(operator.domain)))[:, None]))
        unit[k] = 0.0
    return sparse.hstack(columns, format="csc")


def _check_size(voxels: int, rays: int) -> None:
    if voxels > MOST_VOXELS or rays > MOST_RAYS:
        raise InputError(
            f"exact: found {voxels} voxels and {rays} rays, expected at most {MOST_VOXELS} and {MOST_RAYS}; use tv"
        )


def _vector(array: Tensor) -> Float[np.ndarray, " n"]:
    return np.asarray(array.detach().cpu().reshape(-1).numpy(), np.float64)


def _minimise(
    a: sparse.csc_matrix,
    d: sparse.csc_matrix,
    target: Float[np.ndarray, " n"],
    weights: Float[np.ndarray, " n"],
    *,
    strength: float,
) -> tuple[Float[np.ndarray, " m"], float]:
    """Return the minimiser and the minimum; ``d`` holds the differences of all axes one below the other."""
    # Loaded here: importing it takes half a second, and only this method needs it. It exports names untyped.
    cvxpy: Any = import_module("cvxpy")
    count = a.shape[1]
    counted = weights > 0
    root = sparse.diags(np.sqrt(weights[counted]))
    x = cvxpy.Variable(count, nonneg=True)
    residual = UNIT * (root @ a[counted]) @ x - root @ target[counted]
    slopes = cvxpy.reshape((UNIT * d) @ x, (d.shape[0] // count, count), order="C")
    cost = cvxpy.sum_squares(residual) / 2 + strength * cvxpy.sum(cvxpy.norm(slopes, 2, axis=0))
    task = cvxpy.Problem(cvxpy.Minimize(cost))
    try:
        task.solve(solver=cvxpy.CLARABEL)
    except cvxpy.error.SolverError as error:
        raise InputError(f"exact: the solver failed ({error}); check the scan's weights") from error
    if task.status != cvxpy.OPTIMAL or x.value is None:
        raise InputError(f"exact: the solver stopped with {task.status!r}, expected a minimum")
    return UNIT * np.maximum(x.value, 0.0), float(task.value)
