"""Ensemble Kalman filters: the true model propagates an ensemble, whose covariances weigh model and observations.

Forecast members x_i = M(x_i, noise); mean m, perturbations X' (inflated by a factor), equivalents z_i = H(x_i).

EnKF, perturbed observations (Burgers et al. 1998), e_i ~ N(0, R):

    x_i <- x_i + (rho_xz o C_xz) (rho_zz o C_zz + R)^{-1} (y + e_i - z_i)      C: sample covariances, divisor M - 1

LETKF (Hunt et al. 2007), at each grid point with the observations nearby, R^{-1} multiplied by the taper rho:

    P = ((M - 1) I + Z'^T rho R^{-1} Z')^{-1}      w = P Z'^T rho R^{-1} (y - z mean)      W = sqrt((M - 1) P)
    x_i <- m + X' (w + W_i)

whose weights vary slowly, so they may be computed at every second point and interpolated (Yang et al. 2009). rho is
Gaspari and Cohn's function. Relaxation blends the analysis' spread with the forecast's (Whitaker and Hamill 2012).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat
from torch import Tensor

from assimilation.baselines.localisation import Places, gaspari_cohn, jacobian
from assimilation.fields.fields import Grid
from assimilation.observation.base import Observation, ObservationStream

Members = Float[Tensor, "m k y x"]
Model = Callable[[Members, torch.Generator], Members]


class EnsembleFilter(BaseModel, ABC):
    """An update of members by the observations of one time.

    Attributes:
        half_width: c of the taper in the grid's unit; observations beyond 2 c have no effect.
        inflation: factor of the forecast perturbations.
        relaxation: 0 keeps the analysis' spread, 1 restores the forecast's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    half_width: PositiveFloat = 1.0
    inflation: float = Field(1.0, ge=1)
    relaxation: float = Field(0.0, ge=0, le=1)

    @abstractmethod
    def analyse(
        self, members: Members, observation: Observation, grid: Grid, generator: torch.Generator
    ) -> Members:
        """Return the members after the observations, from inflated ones."""

    def update(
        self, members: Members, observation: Observation | None, grid: Grid, generator: torch.Generator
    ) -> Members:
        """Return the members after the observations of one time; without observations they stay."""
        if observation is None:
            return members
        mean = members.mean(dim=0)
        analysis = self.analyse(mean + self.inflation * (members - mean), observation, grid, generator)
        if self.relaxation == 0:
            return analysis
        before, after = members.std(dim=0), analysis.std(dim=0).clamp(min=1e-12)
        factor = 1 + self.relaxation * (before - after) / after
        centre = analysis.mean(dim=0)
        return centre + factor * (analysis - centre)


class EnKF(EnsembleFilter):
    """Ensemble Kalman filter with perturbed observations and tapered covariances."""

    name: Literal["enkf"] = "enkf"

    def analyse(
        self, members: Members, observation: Observation, grid: Grid, generator: torch.Generator
    ) -> Members:
        """Return the members after the observations."""
        count = members.shape[0]
        equivalent = observation.operator(members)
        x = (members - members.mean(dim=0)).flatten(1)
        z = equivalent - equivalent.mean(dim=0)
        positions = _places(observation, members, grid)
        taper = gaspari_cohn(Places.every(grid).distance(positions, grid), self.half_width).to(x.dtype)
        taper = taper.repeat(members.shape[1], 1)  # one block of rows per variable
        inner = gaspari_cohn(positions.distance(positions, grid), self.half_width).to(x.dtype)
        covariance = inner * (z.T @ z) / (count - 1) + torch.diag(observation.variance)
        noise = torch.randn(z.shape, generator=generator, dtype=x.dtype)
        innovation = observation.values + noise * observation.variance.sqrt() - equivalent
        solved = torch.linalg.solve(covariance, innovation.T)
        gain = taper * (x.T @ z) / (count - 1)
        moved: Members = members + (gain @ solved).T.reshape(members.shape)
        return moved


class LETKF(EnsembleFilter):
    """Local ensemble transform Kalman filter.

    Attributes:
        every: grid points from one set of weights to the next along both axes; between them weights are bilinear.
    """

    name: Literal["letkf"] = "letkf"
    every: int = Field(1, ge=1)

    def analyse(
        self, members: Members, observation: Observation, grid: Grid, generator: torch.Generator
    ) -> Members:
        """Return the members after the observations; no random numbers are drawn."""
        count = members.shape[0]
        equivalent = observation.operator(members)
        z = (equivalent - equivalent.mean(dim=0)).double()
        innovation = (observation.values - equivalent.mean(dim=0)).double()
        positions = _places(observation, members, grid)
        centres = Places.every(grid, self.every)
        precision = gaspari_cohn(centres.distance(positions, grid), self.half_width) / observation.variance
        near = int((precision > 0).sum(dim=1).max())
        if near == 0:
            return members
        weight, index = precision.topk(near, dim=1)
        local = z.T[index]  # point, observation, member
        scaled = weight[:, :, None] * local
        inverse = scaled.transpose(1, 2) @ local + (count - 1) * torch.eye(count, dtype=z.dtype)
        values, vectors = torch.linalg.eigh(inverse)
        pull = (scaled * innovation[index][:, :, None]).sum(dim=1, keepdim=True).transpose(1, 2)
        mean = vectors @ ((vectors.transpose(1, 2) @ pull) / values[:, :, None])
        root = vectors @ (((count - 1) / values).sqrt()[:, :, None] * vectors.transpose(1, 2))
        weights = self._spread(mean + root, grid).to(members.dtype)
        centre = members.mean(dim=0)
        return centre + torch.einsum("mkyx,mnyx->nkyx", members - centre, weights)

    def _spread(self, weights: Float[Tensor, "p m n"], grid: Grid) -> Float[Tensor, "m n y x"]:
        """Return the weights at every grid point, bilinear between the points they were computed at."""
        count = weights.shape[1]
        coarse = [len(range(0, size, self.every)) for size in grid.shape]
        fields = weights.permute(1, 2, 0).reshape(count, count, *coarse)
        for axis, (size, periodic) in enumerate(zip(grid.shape, grid.periodic, strict=True), start=2):
            position = torch.arange(size, dtype=torch.float64) / self.every
            low = position.floor().long()
            high = (low + 1) % coarse[axis - 2] if periodic else (low + 1).clamp(max=coarse[axis - 2] - 1)
            gap = (size - (coarse[axis - 2] - 1) * self.every) / self.every if periodic else 1.0
            share = (position - low) / torch.where(low == coarse[axis - 2] - 1, max(gap, 1e-9), 1.0)
            shape = [1] * 4
            shape[axis] = size
            share = share.reshape(shape)
            fields = (1 - share) * fields.index_select(axis, low) + share * fields.index_select(axis, high)
        return fields


AnyFilter = Annotated[EnKF | LETKF, Field(discriminator="name")]


def assimilate(
    method: EnsembleFilter,
    model: Model,
    initial: Members,
    stream: ObservationStream,
    *,
    trajectory: int,
    generator: torch.Generator,
) -> Iterator[tuple[np.datetime64, Members]]:
    """Yield the analysis at each time of the stream.

    Args:
        method: the filter.
        model: the state one frame later, with its random forcing.
        initial: background of the first time, a draw of the climate, physical units.
        stream: observations.
        trajectory: which of the stream's trajectories.
        generator: of every random draw.
    """
    members = initial
    for index, time in enumerate(stream.times):
        if index > 0:
            members = model(members, generator)
        members = method.update(members, stream.at(trajectory, index), stream.grid, generator)
        yield time, members


def _places(observation: Observation, members: Members, grid: Grid) -> Places:
    """Return where the observations lie, by the operator's derivative at the ensemble mean."""
    rows = jacobian(observation.operator, members.mean(dim=0), observation.values.shape[0])
    return Places.of(rows, grid)
