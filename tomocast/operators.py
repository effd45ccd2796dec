"""A linear operator of one's own, from two functions: A and its adjoint."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.operators import base
from recon.operators.base import Array, as_tensor

ADJOINT_ERROR = 1e-3
"""Largest mismatch of <A x, y> and <x, A.T y>, relative to |A x| |y|: what float32 leaves of sums over a whole scan."""


class LinearOperator(base.LinearOperator):
    """A scanner that tomocast does not know, wherever a projector is used.

    Args:
        forward: A, from an array (z, y, x) of attenuation in 1/mm to one of measured values.
        adjoint: A.T, back. It must be the exact transpose; a filtered or approximate inverse makes methods diverge.
        grid: of the volumes.
        range: shape of the measured values, (view, row, column); 1 for axes that do not exist.
        library: what the two functions take and return: arrays of ``numpy`` or tensors of ``torch``.

    Raises:
        InputError: the functions do not have these shapes, or are not each other's adjoint.
    """

    def __init__(
        self,
        forward: Callable[[Any], Any],
        adjoint: Callable[[Any], Any],
        *,
        grid: Grid,
        range: tuple[int, int, int],
        library: Literal["numpy", "torch"] = "numpy",
    ) -> None:
        if library not in ("numpy", "torch"):
            raise InputError(f"library: found {library!r}, expected 'numpy' or 'torch'")
        self.grid, self.domain, self.range = grid, grid.shape, tuple(range)
        self._functions, self._library = (forward, adjoint), library
        self._check_adjoint()

    def __repr__(self) -> str:
        return f"LinearOperator({self.grid!r}, range={self.range!r})"

    def __call__(self, x: Array) -> Any:
        """Return A x, as an array of NumPy for one, as a tensor with gradients for a tensor."""
        return self._applied(x, 0, self.domain)

    def adjoint(self, y: Array) -> Any:
        """Return A.T y, as an array of NumPy for one, as a tensor with gradients for a tensor."""
        return self._applied(y, 1, self.range)

    def _applied(self, array: Array, which: int, shape: tuple[int, ...]) -> Any:
        if tuple(array.shape) != shape:
            raise InputError(f"operator: found an array of shape {tuple(array.shape)}, expected {shape}")
        if isinstance(array, np.ndarray):
            return self._compute(as_tensor(array), which).numpy()
        return _Apply.apply(array, self, which)  # type: ignore[no-untyped-call]

    def _compute(self, array: Tensor, which: int) -> Tensor:
        """Return A or A.T of a tensor, in fresh memory, with its precision and on its device."""
        given: Any = array.detach()
        if self._library == "numpy":
            given = given.cpu().contiguous().numpy()
        result = self._functions[which](given)
        tensor = as_tensor(np.asarray(result)) if self._library == "numpy" else result.detach()
        expected = (self.range, self.domain)[which]
        if tuple(tensor.shape) != expected:
            name = ("forward", "adjoint")[which]
            raise InputError(
                f"operator: {name} returned the shape {tuple(tensor.shape)}, expected {expected}"
            )
        # Methods change results in place, and a function may return what it was given.
        return tensor.to(array.device, array.dtype, copy=True)

    def _check_adjoint(self) -> None:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(self.domain, generator=generator)
        image = self._compute(x, 0)
        # Of random y alone, the products are small against their norms and a wrong scale is hard to see.
        noise = torch.randn(self.range, generator=generator)
        y = image / image.norm().clamp(min=1e-30) + noise / noise.norm()
        back, image = self._compute(y, 1).double(), image.double()
        forward_product, adjoint_product = float((image * y).sum()), float((x * back).sum())
        scale = float(image.norm() * y.double().norm())
        if not abs(forward_product - adjoint_product) <= ADJOINT_ERROR * scale:
            raise InputError(
                f"operator: <A x, y> is {forward_product:.6g} and <x, A.T y> {adjoint_product:.6g} for random x "
                "and y, expected equal numbers: adjoint is not the transpose of forward"
            )


class _Apply(torch.autograd.Function):
    """One of the two functions; the other one is its derivative."""

    @staticmethod
    def forward(ctx: Any, array: Tensor, operator: LinearOperator, which: int) -> Tensor:
        ctx.operator, ctx.which = operator, which
        return operator._compute(array, which)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _Apply.apply(gradients[0], ctx.operator, 1 - ctx.which), None, None  # type: ignore[no-untyped-call]
