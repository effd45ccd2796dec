"""Observations at places of the grid or between them.

Selection reads entries of the flattened state: H(x) = x[i]; masks, swaths and missing values are selections.
Point sampling is bilinear: with fractional indices (p, q), a = p - floor p and b = q - floor q,

    H(x) = (1-a)(1-b) x[p0, q0] + (1-a) b x[p0, q1] + a (1-b) x[p1, q0] + a b x[p1, q1],

where p1 = p0 + 1, wrapped on a periodic axis. Both are linear.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from assimilation.observation.base import ObservationOperator


@dataclass(frozen=True)
class Identity(ObservationOperator):
    """Every value of the state, in the order (k, y, x)."""

    def __call__(self, state: Float[Tensor, "*b k y x"]) -> Float[Tensor, "*b n"]:
        """Return the flattened state."""
        return state.flatten(-3)


@dataclass(frozen=True, eq=False)
class Selection(ObservationOperator):
    """Some of the observations of another operator, in a given order.

    Attributes:
        operator: what is selected from.
        index: positions in its output.
    """

    operator: ObservationOperator
    index: Int64[Tensor, "n"]

    def __call__(self, state: Float[Tensor, "*b k y x"]) -> Float[Tensor, "*b n"]:
        """Return the selected observations."""
        return self.operator(state).index_select(-1, self.index.to(state.device))


@dataclass(frozen=True)
class Channels(ObservationOperator):
    """Some variables of the state, everywhere.

    Attributes:
        channels: positions on the axis of variables.
    """

    channels: tuple[int, ...]

    def __call__(self, state: Float[Tensor, "*b k y x"]) -> Float[Tensor, "*b n"]:
        """Return the chosen variables, flattened."""
        index = torch.tensor(self.channels, device=state.device)
        return state.index_select(-3, index).flatten(-3)


@dataclass(frozen=True, eq=False)
class PointSampling(ObservationOperator):
    """Bilinear values at points.

    Attributes:
        y_index, x_index: fractional indices, ``Grid.fractional_index`` of the positions.
        channel: which variable each point observes.
        periodic: whether the (y, x) axes close on themselves.
    """

    y_index: Float[Tensor, "n"]
    x_index: Float[Tensor, "n"]
    channel: Int64[Tensor, "n"]
    periodic: tuple[bool, bool] = (False, False)

    def __call__(self, state: Float[Tensor, "*b k y x"]) -> Float[Tensor, "*b n"]:
        """Return the interpolated values."""
        rows, columns = state.shape[-2:]
        y0, y1, a = _neighbours(self.y_index.to(state.device), rows, self.periodic[0])
        x0, x1, b = _neighbours(self.x_index.to(state.device), columns, self.periodic[1])
        a, b, flat = a.to(state.dtype), b.to(state.dtype), state.flatten(-3)
        start = self.channel.to(state.device) * rows * columns

        def corner(row: Tensor, column: Tensor) -> Tensor:
            return flat.index_select(-1, start + row * columns + column)

        upper = (1 - b) * corner(y0, x0) + b * corner(y0, x1)
        lower = (1 - b) * corner(y1, x0) + b * corner(y1, x1)
        return (1 - a) * upper + a * lower


def _neighbours(
    index: Float[Tensor, "n"], size: int, periodic: bool
) -> tuple[Int64[Tensor, "n"], Int64[Tensor, "n"], Float[Tensor, "n"]]:
    """Return the two grid indices around each fractional one and the weight of the second."""
    first = index.floor()
    if not periodic:
        # The last grid line belongs to the last cell, so that its second neighbour exists.
        first = first.clamp(0, max(size - 2, 0))
    weight, low = index - first, first.long()
    return low % size, (low + 1) % size, weight
