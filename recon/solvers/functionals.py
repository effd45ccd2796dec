"""Convex functionals F with their proximal map, the building blocks of variational methods.

    prox(v, s)           = argmin_x  F(x) + 1/2 sum (x - v)^2 / s
    conjugate_prox(v, s) = argmin_p  F*(p) + 1/2 sum (p - v)^2 / s  =  v - s prox(v / s, 1 / s)     (Moreau)

The step s is a positive number or an array of one step per element; L21 needs one step per group.
Values are sums over all elements, accumulated in float64; infinity marks a violated constraint.
Source: Parikh and Boyd, Proximal Algorithms (2014).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Step = float | Tensor


class Functional(ABC):
    """Interface: value and proximal map; the conjugate's map follows."""

    @abstractmethod
    def __call__(self, x: Float[Tensor, "*shape"]) -> float:
        """Return F(x)."""

    @abstractmethod
    def prox(self, v: Float[Tensor, "*shape"], step: Step) -> Float[Tensor, "*shape"]:
        """Return argmin F(x) + 1/2 sum (x - v)^2 / step."""

    def conjugate_prox(self, v: Float[Tensor, "*shape"], step: Step) -> Float[Tensor, "*shape"]:
        """Return the proximal map of the convex conjugate, by Moreau's identity."""
        return v - step * self.prox(v / step, 1 / step)


@dataclass(frozen=True)
class L1(Functional):
    """F(x) = weight * sum |x|."""

    weight: float = 1.0

    def __call__(self, x: Float[Tensor, "*shape"]) -> float:
        """Return F(x)."""
        return self.weight * float(x.abs().sum(dtype=torch.float64))

    def prox(self, v: Float[Tensor, "*shape"], step: Step) -> Float[Tensor, "*shape"]:
        """Return soft thresholding at weight * step."""
        threshold = self.weight * step
        return v - v.clamp(-threshold, threshold) if isinstance(threshold, float) else _soft(v, threshold)


@dataclass(frozen=True)
class L21(Functional):
    """F(x) = weight * sum over positions of the Euclidean length along axis 0: isotropic groups."""

    weight: float = 1.0

    def __call__(self, x: Float[Tensor, "group *shape"]) -> float:
        """Return F(x)."""
        return self.weight * float(_length(x).sum(dtype=torch.float64))

    def prox(self, v: Float[Tensor, "group *shape"], step: Step) -> Float[Tensor, "group *shape"]:
        """Return each group shortened by weight * step, or zero."""
        length = _length(v)
        return v * (1 - self.weight * step / length.clamp_(min=torch.finfo(v.dtype).tiny)).clamp_(min=0)

    def conjugate_prox(self, v: Float[Tensor, "group *shape"], step: Step) -> Float[Tensor, "group *shape"]:
        """Return each group shortened to at most ``weight``: what Moreau gives, in half the operations."""
        return v * (self.weight / _length(v).clamp_(min=self.weight)) if self.weight > 0 else 0 * v


@dataclass(frozen=True, eq=False)
class SquaredL2(Functional):
    """F(x) = 1/2 sum w (x - target)^2 with weights w >= 0 (PWLS: inverse variances)."""

    target: Tensor
    weights: Tensor

    def __call__(self, x: Float[Tensor, "*shape"]) -> float:
        """Return F(x)."""
        return 0.5 * float((self.weights * (x - self.target) ** 2).sum(dtype=torch.float64))

    def prox(self, v: Float[Tensor, "*shape"], step: Step) -> Float[Tensor, "*shape"]:
        """Return the weighted mean of ``v`` and the target."""
        pull = step * self.weights
        return (v + pull * self.target) / (1 + pull)

    def conjugate_prox(self, v: Float[Tensor, "*shape"], step: Step) -> Float[Tensor, "*shape"]:
        """Return Moreau's answer without its cancellation, which costs all digits where w << step."""
        return self.weights * (v - step * self.target) / (self.weights + step)


@dataclass(frozen=True)
class Box(Functional):
    """F(x) = 0 where low <= x <= high, infinity elsewhere."""

    low: float = float("-inf")
    high: float = float("inf")

    def __call__(self, x: Float[Tensor, "*shape"]) -> float:
        """Return 0 or infinity."""
        return 0.0 if bool(((x >= self.low) & (x <= self.high)).all()) else float("inf")

    def prox(self, v: Float[Tensor, "*shape"], step: Step) -> Float[Tensor, "*shape"]:
        """Return the nearest point of the box, whatever the step."""
        return v.clamp(self.low, self.high)


class NonNegative(Box):
    """F(x) = 0 where x >= 0, infinity elsewhere."""

    def __init__(self) -> None:
        super().__init__(low=0.0)

    def __repr__(self) -> str:
        return "NonNegative()"


def _soft(v: Tensor, threshold: Tensor) -> Tensor:
    return torch.sign(v) * (v.abs() - threshold).clamp_(min=0)


def _length(x: Tensor) -> Tensor:
    """Return the Euclidean length along axis 0; slower, torch.linalg.norm reduces a strided axis."""
    squared = x[0] * x[0]
    for component in x[1:]:
        squared.addcmul_(component, component)
    return squared.sqrt_()
