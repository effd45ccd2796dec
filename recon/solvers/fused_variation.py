"""Total variation as one term of PDHG, its dual update in a single pass over memory.

    p <- (1 - r) p + r P(p + s D x),      P shortens every group to at most lambda

Composed from Differences and L21 this takes a dozen passes over three volumes and is most of the time of a
reconstruction from few views. The compiled loop reads x and p once and writes the new p once. Arrays on
another device than the CPU, or in another layout than slice-last, take the composed way.
"""

import inspect
from dataclasses import dataclass

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon.operators.differences import Differences
from recon.solvers.functionals import L21
from recon.solvers.pdhg import Term


@dataclass(frozen=True, eq=False)
class VariationTerm(Term):
    """weight * sum_j |(D x)_j| over three axes, with one dual step for all."""

    operator: Differences
    functional: L21
    scale: float = 1.0

    def advance(
        self, dual: Float[Tensor, "a z y x"], point: Float[Tensor, "z y x"], *, step: float, relaxation: float
    ) -> Float[Tensor, "a z y x"]:
        """Return the relaxed dual step."""
        old, x = dual.permute(0, 2, 3, 1), point.permute(1, 2, 0)
        plain = self.operator.axes == (0, 1, 2) and old.is_contiguous() and x.is_contiguous()
        if not plain or x.device.type != "cpu":
            return super().advance(dual, point, step=step, relaxation=relaxation)
        new = torch.empty_like(old)
        slopes = np.array(self.operator.weights) * (step * self.scale)
        numbers = np.array([*slopes, self.functional.weight, relaxation]).astype(x.numpy().dtype)
        _advance(old.numpy(), x.numpy(), new.numpy(), numbers)
        return new.permute(0, 3, 1, 2)


def _loop(old, x, new, numbers):  # type: ignore[no-untyped-def]
    """Write the new dual; arrays are (axis, y, x, z) and (y, x, z), axes in the order z, y, x."""
    height, width, slices = x.shape
    kz, ky, kx, most, relaxation = numbers
    for i in range(height):
        for j in range(width):
            here, below, right = x[i, j], x[min(i + 1, height - 1), j], x[i, min(j + 1, width - 1)]
            for k in range(slices):
                a = old[0, i, j, k] + kz * (here[min(k + 1, slices - 1)] - here[k])
                b = old[1, i, j, k] + ky * (below[k] - here[k])
                c = old[2, i, j, k] + kx * (right[k] - here[k])
                shrink = relaxation * most / max(np.sqrt(a * a + b * b + c * c), most)
                keep = 1 - relaxation
                new[0, i, j, k] = keep * old[0, i, j, k] + shrink * a
                new[1, i, j, k] = keep * old[1, i, j, k] + shrink * b
                new[2, i, j, k] = keep * old[2, i, j, k] + shrink * c


# A run-time type checker may have wrapped the loop, which numba cannot see through.
_advance = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})(
    inspect.unwrap(_loop)
)
