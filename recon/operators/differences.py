"""Forward differences along chosen axes of a volume, and their exact adjoint.

    (D_a x)_i = k_a (x_{i+1} - x_i),   i = 0 .. n_a - 2

Nothing wraps around: an axis of n voxels has n - 1 differences. ||D_a||^2 = 4 k_a^2 cos^2(pi / (2 n_a)),
below 4 k_a^2. One axis alone keeps the shape of its differences, (z - 1, y, x) along z. Several axes are
stacked in front, (axis, z, y, x), as the groups of total variation need, with a zero after the last
difference.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from recon.operators.base import LinearOperator


class Differences(LinearOperator):
    """Forward differences.

    Args:
        shape: of the volume (z, y, x).
        axes: which axes, 0 z, 1 y, 2 x.
        weights: factor k of each axis, 1 by default.

    Raises:
        ValueError: no axis, an unknown one, or not one weight per axis.
    """

    def __init__(
        self, shape: tuple[int, int, int], *, axes: Sequence[int] = (0, 1, 2), weights: Sequence[float] = ()
    ) -> None:
        self.axes = tuple(axes)
        self.weights = tuple(float(w) for w in weights) or (1.0,) * len(self.axes)
        if not self.axes or len(set(self.axes)) != len(self.axes) or not set(self.axes) <= {0, 1, 2}:
            raise ValueError(f"axes: found {self.axes}, expected different axes out of 0, 1 and 2")
        if len(self.weights) != len(self.axes):
            raise ValueError(f"weights: found {len(self.weights)}, expected one for each of {self.axes}")
        self.domain = tuple(shape)
        self.range = (len(self.axes), *shape) if len(self.axes) > 1 else self._shortened(self.axes[0])

    def __repr__(self) -> str:
        return f"Differences({self.domain}, axes={self.axes}, weights={self.weights})"

    def __call__(self, x: Float[Tensor, "z y x"]) -> Float[Tensor, "*range"]:
        """Return D x: (n - 1 on the axis) for one axis, (axis, z, y, x) for several."""
        if len(self.axes) == 1:
            return self._along(x, 0)
        z, y, c = self.domain
        result = x.new_empty((len(self.axes), y, c, z)).permute(0, 3, 1, 2)
        for group in range(len(self.axes)):
            slope, axis, count = result[group], self.axes[group], self.domain[self.axes[group]]
            self._along(x, group, out=slope.narrow(axis, 0, count - 1))
            slope.select(axis, count - 1).zero_()
        return result

    def adjoint(self, y: Float[Tensor, "*range"]) -> Float[Tensor, "z y x"]:
        """Return D.T y, a volume in slice-last memory."""
        z, height, width = self.domain
        result = y.new_zeros((height, width, z)).permute(2, 0, 1)
        for group, (axis, weight) in enumerate(zip(self.axes, self.weights, strict=True)):
            count = self.domain[axis] - 1
            slope = y[group].narrow(axis, 0, count) if len(self.axes) > 1 else y
            result.narrow(axis, 1, count).add_(slope, alpha=weight)
            result.narrow(axis, 0, count).sub_(slope, alpha=weight)
        return result

    def norm_bound(self) -> float:
        """Return 2 sqrt(sum of k^2), an upper bound of the norm that needs no iteration."""
        return 2 * math.hypot(*self.weights)

    def _shortened(self, axis: int) -> tuple[int, ...]:
        return tuple(n - 1 if a == axis else n for a, n in enumerate(self.domain))

    def _along(self, x: Tensor, group: int, out: Tensor | None = None) -> Tensor:
        axis, count = self.axes[group], self.domain[self.axes[group]] - 1
        after, before = x.narrow(axis, 1, count), x.narrow(axis, 0, count)
        difference = torch.sub(after, before, out=out) if out is not None else after - before
        return difference.mul_(self.weights[group]) if self.weights[group] != 1 else difference
