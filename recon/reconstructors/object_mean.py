"""The mean line integral and the mean weight of the rays that crossed the object, of a scan or of its parts summed."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from priors.runtime.errors import InputError


@dataclass(frozen=True)
class ObjectSums:
    """Sums over good rays (weight above 0), additive over parts of a scan.

    Attributes:
        crossed: of line integrals, negative ones as 0.
        weighted: of these times their weights.
        weights: of weights.
        rays: how many.
    """

    crossed: float
    weighted: float
    weights: float
    rays: float

    @classmethod
    def of(cls, y: Float[Tensor, "v r c"], weights: Float[Tensor, "v r c"]) -> "ObjectSums":
        """Return the sums of some rays, added in float64."""
        good = (weights > 0).to(y.dtype)
        crossed = y.clamp(min=0) * good
        sums = (crossed, weights * crossed, weights, good)
        return cls(*(float(array.sum(dtype=torch.float64)) for array in sums))

    def __add__(self, other: "ObjectSums") -> "ObjectSums":
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return ObjectSums(*(one + more for one, more in pairs))

    def means(self) -> tuple[float, float]:
        """Return the mean weight of the rays that crossed the object, and the mean line integral of good rays.

        Raises:
            InputError: every ray has zero weight.
        """
        if self.rays == 0:
            raise InputError(
                "weights: every ray has zero weight, expected inverse variances of a measurement"
            )
        if self.crossed <= 0:
            return self.weights / self.rays, 1.0
        return self.weighted / self.crossed, self.crossed / self.rays
