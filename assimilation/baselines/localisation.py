"""Where observations lie, and how far from grid points: what localisation needs.

Row i of the Jacobian H of an observation operator says which points observation i sees; its place is their centre
of mass (on a periodic axis the circular mean). A covariance between two places at distance r is multiplied by the
compactly supported fifth-order function of Gaspari and Cohn (1999, eq. 4.10), zero from r = 2 c on:

    z = r / c:    1 - 5/3 z^2 + 5/8 z^3 + 1/2 z^4 - 1/4 z^5                           for z <= 1
                  4 - 5 z + 5/3 z^2 + 5/8 z^3 - 1/2 z^4 + 1/12 z^5 - 2/(3 z)          for 1 < z < 2
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from assimilation.fields.fields import Grid
from assimilation.observation.base import ObservationOperator


def jacobian(
    operator: ObservationOperator, state: Float[Tensor, "k y x"], count: int
) -> Float[Tensor, "n k y x"]:
    """Return the rows of the observation operator at a state (H itself where it is linear).

    Args:
        operator: differentiable.
        state: where to differentiate.
        count: number n of observations.
    """
    with torch.enable_grad():
        copies = state.detach().expand(count, *state.shape).clone().requires_grad_()
        # Copy i contributes output i only: one backward pass gives every row.
        (rows,) = torch.autograd.grad(operator(copies).diagonal().sum(), copies)
    return rows


@dataclass(frozen=True, eq=False)
class Places:
    """Positions on a grid, as fractional indices."""

    y: Float[Tensor, "n"]
    x: Float[Tensor, "n"]

    @staticmethod
    def of(rows: Float[Tensor, "n k y x"], grid: Grid) -> "Places":
        """Return where the observations with these Jacobian rows lie."""
        weight = rows.abs().sum(dim=1).double()
        marginals = weight.sum(dim=2), weight.sum(dim=1)
        y, x = (
            _centre(weights, periodic) for weights, periodic in zip(marginals, grid.periodic, strict=True)
        )
        return Places(y, x)

    @staticmethod
    def every(grid: Grid, step: int = 1) -> "Places":
        """Return the grid's points, every ``step``-th along both axes."""
        y, x = torch.meshgrid(
            *(torch.arange(0, size, step, dtype=torch.float64) for size in grid.shape), indexing="ij"
        )
        return Places(y.flatten(), x.flatten())

    def distance(self, other: "Places", grid: Grid) -> Float[Tensor, "n other"]:
        """Return distances in the unit of the grid's spacing; degrees of latitude on a sphere."""
        dy, dx = (abs(float(step)) for step in grid.spacing)
        if grid.kind == "sphere":
            dx *= float(np.cos(np.deg2rad(np.mean(grid.y))))
        gaps = []
        for mine, theirs, size, periodic in zip(
            (self.y, self.x), (other.y, other.x), grid.shape, grid.periodic, strict=True
        ):
            gap = (mine[:, None] - theirs[None, :]).abs()
            gaps.append(torch.minimum(gap, size - gap) if periodic else gap)
        return torch.hypot(gaps[0] * dy, gaps[1] * dx)


def gaspari_cohn(distance: Float[Tensor, "*b"], half_width: float) -> Float[Tensor, "*b"]:
    """Return the taper: 1 at distance 0, 0 from twice ``half_width`` on."""
    z = distance / half_width
    near = 1 - 5 / 3 * z**2 + 5 / 8 * z**3 + z**4 / 2 - z**5 / 4
    far = 4 - 5 * z + 5 / 3 * z**2 + 5 / 8 * z**3 - z**4 / 2 + z**5 / 12 - 2 / (3 * z.clamp(min=1e-9))
    return torch.where(z <= 1, near, torch.where(z < 2, far, torch.zeros_like(z))).clamp(min=0)


def _centre(weight: Float[Tensor, "n size"], periodic: bool) -> Float[Tensor, "n"]:
    """Return the centre of mass along one axis, as a fractional index."""
    size = weight.shape[1]
    index = torch.arange(size, dtype=weight.dtype)
    if not periodic:
        return (weight * index).sum(dim=1) / weight.sum(dim=1).clamp(min=1e-30)
    angle = 2 * torch.pi * index / size
    mean = torch.atan2((weight * angle.sin()).sum(dim=1), (weight * angle.cos()).sum(dim=1))
    return (mean * size / (2 * torch.pi)) % size
