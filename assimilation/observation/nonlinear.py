"""Nonlinear observations: the speed of the wind, H(x) = sqrt(u^2 + v^2 + e^2) - e.

The floor e keeps the gradient finite in calm air, where that of a plain norm is undefined; with e = 1e-3 m/s the
speed is wrong by less than any anemometer could tell.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from assimilation.observation.base import ObservationOperator

FLOOR = 1e-3


@dataclass(frozen=True)
class WindSpeed(ObservationOperator):
    """Speed of the wind everywhere, from its two components.

    Attributes:
        eastward, northward: positions of u and v on the axis of variables.
    """

    eastward: int
    northward: int

    def __call__(self, state: Float[Tensor, "*b k y x"]) -> Float[Tensor, "*b n"]:
        """Return the speed in the components' unit, flattened (y, x)."""
        u, v = state[..., self.eastward, :, :], state[..., self.northward, :, :]
        return ((u.square() + v.square() + FLOOR**2).sqrt() - FLOOR).flatten(-2)
