"""Linear operators A with their exact adjoint: <A x, y> = <x, A.T y> for every x and y.

The norm is the largest singular value, found by power iteration x <- A.T A x / |A.T A x|. The start is
positive and uneven: a projector's leading singular vector is positive (Perron-Frobenius), so it converges
in a few steps, and an operator that cancels constants (a difference) still sees something.
"""

import math
from abc import ABC, abstractmethod
from typing import overload

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priors.linalg import power_norm
from priors.runtime.errors import InputError
from recon.geometry.grid import Grid

Array = Tensor | np.ndarray


class LinearOperator(ABC):
    """A linear map between arrays of fixed shapes. Both directions return fresh memory: callers change it in place.

    Attributes:
        domain: shape of x in ``A(x)``.
        range: shape of ``A(x)``.
        grid: the voxels of x, where x is a volume; None where nobody says. Methods that compare neighbouring voxels
            (``tv``, NERD) need the voxel sizes, others do not.
    """

    domain: tuple[int, ...]
    range: tuple[int, ...]
    grid: Grid | None = None
    _norm: float | None = None

    @abstractmethod
    def __call__(self, x: Float[Tensor, "*domain"]) -> Float[Tensor, "*range"]:
        """Return A x."""

    @abstractmethod
    def adjoint(self, y: Float[Tensor, "*range"]) -> Float[Tensor, "*domain"]:
        """Return A.T y."""

    def normal(
        self,
        x: Float[Tensor, "*domain"],
        y: Float[Tensor, "*range"] | None = None,
        weights: Float[Tensor, "*range"] | float | None = None,
    ) -> Float[Tensor, "*domain"]:
        """Return A.T W (A x - y), the gradient of 1/2 |W^(1/2) (A x - y)|^2 at x.

        Without gradients to track, y and W are applied to A x in place: nothing of the size of the range is allocated
        beyond it.

        Args:
            x: where.
            y: subtracted from A x; None for 0.
            weights: the diagonal of W, or one number; None for 1.
        """
        image = self(x)
        if any(isinstance(array, Tensor) and array.requires_grad for array in (image, y, weights)):
            image = image if y is None else image - y
            return self.adjoint(image if weights is None else weights * image)
        if y is not None:
            image.sub_(y)
        if weights is not None:
            image.mul_(weights)
        return self.adjoint(image)

    @property
    def T(self) -> "LinearOperator":  # noqa: N802
        """The adjoint as an operator; its own ``T`` is this operator."""
        return Adjoint(self)

    def norm(self, *, tolerance: float = 1e-4, iterations: int = 100) -> float:
        """Return the largest singular value, computed once.

        Args:
            tolerance: stop when the estimate changes by less than this fraction.
            iterations: stop after this many applications of A.T A.
        """
        if self._norm is None:
            start = torch.rand(self.domain, generator=torch.Generator().manual_seed(0)) + 0.5
            with torch.no_grad():
                squared = power_norm(self.normal, start, iterations=iterations, tolerance=tolerance)
            self._norm = math.sqrt(squared)
        return self._norm


def grid_of(operator: LinearOperator, method: str) -> Grid:
    """Return the grid of an operator's volumes.

    Raises:
        InputError: it states none, or one of another shape; ``method`` is who asks.
    """
    if operator.grid is None:
        raise InputError(
            f"{method}: the operator does not state the grid of its volumes, expected its attribute grid (a Grid, with "
            "the voxel sizes)"
        )
    if operator.grid.shape != operator.domain:
        raise InputError(
            f"{method}: the operator's grid has the shape {operator.grid.shape}, its domain {operator.domain}"
        )
    return operator.grid


class Adjoint(LinearOperator):
    """The operator y -> A.T y."""

    def __init__(self, operator: LinearOperator) -> None:
        self.operator = operator
        self.domain, self.range = operator.range, operator.domain

    def __repr__(self) -> str:
        return f"Adjoint({self.operator!r})"

    @overload
    def __call__(self, x: Float[Tensor, "*domain"]) -> Float[Tensor, "*range"]: ...
    @overload
    def __call__(self, x: Float[np.ndarray, "*domain"]) -> Float[np.ndarray, "*range"]: ...

    def __call__(self, x: Array) -> Array:
        """Return A.T x, as an array of NumPy where ``operator`` takes those and x is one."""
        return self.operator.adjoint(x)  # type: ignore[arg-type]

    @overload
    def adjoint(self, y: Float[Tensor, "*range"]) -> Float[Tensor, "*domain"]: ...
    @overload
    def adjoint(self, y: Float[np.ndarray, "*range"]) -> Float[np.ndarray, "*domain"]: ...

    def adjoint(self, y: Array) -> Array:
        """Return A y."""
        return self.operator(y)  # type: ignore[arg-type]

    @property
    def T(self) -> LinearOperator:  # noqa: N802
        """The operator itself."""
        return self.operator

    def norm(self, *, tolerance: float = 1e-4, iterations: int = 100) -> float:
        """Return the largest singular value, which A and A.T share."""
        return self.operator.norm(tolerance=tolerance, iterations=iterations)


def as_tensor(array: np.ndarray) -> Tensor:
    """Return an array of NumPy as a tensor, sharing its memory unless it is read-only or runs backwards."""
    usable = array.flags.writeable and all(step >= 0 for step in array.strides)
    return torch.from_numpy(array if usable else array.copy())
