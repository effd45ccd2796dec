r"""Mean and squared deviations of volumes that come one after the other (Welford 1962).

    d = x_k - m_(k-1),     m_k = m_(k-1) + d / k,     S_k = S_(k-1) + d (x_k - m_k),     variance = S_M / (M - 1)

Two volumes are kept however many are drawn, and no difference of large sums is formed.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Volumes = Float[Tensor, "z y x"]


@dataclass(frozen=True)
class Moments:
    """Of the volumes added so far.

    Attributes:
        count: how many.
        mean: of them.
        squares: S, the sum of squared deviations from the mean.
    """

    count: int
    mean: Volumes
    squares: Volumes

    @classmethod
    def empty(cls, like: Volumes) -> "Moments":
        """Return the moments of no volume, in the memory layout of ``like``."""
        return cls(0, torch.zeros_like(like), torch.zeros_like(like))

    def add(self, x: Volumes) -> "Moments":
        """Return the moments with one volume more."""
        change = x - self.mean
        mean = self.mean + change / (self.count + 1)
        return Moments(self.count + 1, mean, self.squares + change * (x - mean))

    def variance(self) -> Volumes:
        """Return the unbiased variance; zero of fewer than two volumes."""
        return self.squares / max(1, self.count - 1)
