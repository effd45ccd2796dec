r"""Weighted least squares, the data term that iterative methods share.

    f(x) = 1/2 || W^(1/2) (A x - y) ||^2,      chi2 / m = (1 / m) sum_i w_i ((A x)_i - y_i)^2

m is the number of rays with w_i > 0. With W the inverse variances of y, chi2 / m is 1 where the residual is what
the noise explains: an iteration that is stopped there (the discrepancy principle) has not yet fitted the noise.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from priors.runtime.errors import InputError
from recon.operators.base import LinearOperator


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """A, y and the diagonal of W.

    Attributes:
        operator: A.
        target: y.
        weights: w, at least 0, of the shape of y.
    """

    operator: LinearOperator
    target: Float[Tensor, "*range"]
    weights: Float[Tensor, "*range"]

    def residual(self, x: Float[Tensor, "*domain"]) -> Float[Tensor, "*range"]:
        """Return y - A x."""
        return self.target - self.operator(x)

    def pull(self, residual: Float[Tensor, "*range"]) -> Float[Tensor, "*domain"]:
        """Return A.T W r, the direction of steepest descent of f where r is the residual."""
        return self.operator.adjoint(self.weights * residual)

    def squared(self, residual: Float[Tensor, "*range"]) -> float:
        """Return sum_i w_i r_i^2."""
        return float((self.weights * residual**2).sum(dtype=torch.float64))

    def chi2(self, residual: Float[Tensor, "*range"]) -> float:
        """Return chi2 / m, the weighted squared residual per ray that counts.

        Raises:
            InputError: no ray counts.
        """
        return self.squared(residual) / self.rays()

    def rays(self) -> int:
        """Return m, the number of rays that count.

        Raises:
            InputError: there is none.
        """
        count = int((self.weights > 0).sum())
        if count == 0:
            raise InputError(
                "weights: every ray has zero weight, expected inverse variances of a measurement"
            )
        return count
