"""Observations: y = H(x) + e, e ~ N(0, R), of one frame of one trajectory.

H, the observation operator, is any differentiable function of a state x with axes (k, y, x); leading axes are a
batch and never interact. R is diagonal: one variance per observation, instrument and representativeness together.
Everything is in physical units; missing values are left out before a frame becomes an `Observation`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priors.runtime.errors import InputError

if TYPE_CHECKING:
    from assimilation.fields.fields import Grid, Variable


Numbers = np.ndarray | Sequence[float]


class ObservationOperator(ABC):
    """H: a map from states to what an instrument would report of them."""

    @abstractmethod
    def __call__(self, state: Float[Tensor, "*b k y x"]) -> Float[Tensor, "*b n"]:
        """Return the observations of each state, differentiable with torch, in physical units."""


@dataclass(frozen=True, eq=False)
class Observation:
    """The valid observations of one frame.

    Attributes:
        values: y, physical units.
        variance: the diagonal of R, positive, squared units.
        operator: H, whose output matches ``values``.
    """

    values: Float[Tensor, "n"]
    variance: Float[Tensor, "n"]
    operator: ObservationOperator

    def __post_init__(self) -> None:
        """Refuse what no likelihood can use."""
        if not bool(torch.isfinite(self.values).all()):
            raise InputError("observation: a value is NaN or infinite, expected missing values left out")
        if not bool((torch.isfinite(self.variance) & (self.variance > 0)).all()):
            raise InputError("observation: found a variance that is not positive and finite")

    @classmethod
    def of(cls, values: Numbers, operator: ObservationOperator, *, sigma: Numbers | float) -> "Observation":
        """Return observations from arrays of NumPy.

        Args:
            values: y (n), physical units.
            operator: H.
            sigma: deviation of the errors in that unit, one for all or one each.

        Raises:
            InputError: a value is missing, or sigma is of another shape or not positive.
        """
        y = np.asarray(values, np.float32)
        try:
            deviation = np.broadcast_to(np.asarray(sigma, np.float32), y.shape)
        except ValueError:
            raise InputError(
                f"observation: sigma: found shape {np.shape(sigma)}, expected one or {y.shape}"
            ) from None
        if not (deviation > 0).all():
            raise InputError("observation: sigma: found one that is not positive")
        return cls(torch.from_numpy(y.copy()), torch.from_numpy(deviation**2), operator)

    def innovation(self, state: Float[Tensor, "*b k y x"]) -> Float[Tensor, "*b n"]:
        """Return y - H(x)."""
        return self.values - self.operator(state)


class ObservationStream(ABC):
    """Observations of whole trajectories, frame after frame; nothing is read before it is asked for.

    Attributes:
        times: analysis times.
        variables: the variables of the state the operators expect, in order.
        grid: the grid of that state.
        trajectories: number of independent trajectories.
    """

    times: np.ndarray
    variables: "tuple[Variable, ...]"
    grid: "Grid"
    trajectories: int

    @abstractmethod
    def at(self, trajectory: int, index: int) -> Observation | None:
        """Return the observations at ``times[index]``, None where there are none."""
