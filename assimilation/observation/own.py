"""Observation operators and observations of one's own: H as functions, y as arrays.

A linear H given as NumPy functions with its adjoint is differentiated by calling them: the gradient of <w, H x> is
H^T w, and that of <v, H^T w> with respect to w is H v. An H written in torch, linear or not, is differentiated by
torch. States are in physical units, with axes (k, y, x).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from assimilation.fields.grid import Grid, Variable
from assimilation.observation.base import Observation, ObservationOperator, ObservationStream
from priors.runtime.errors import InputError

Function = Callable[[np.ndarray], np.ndarray]
# Largest relative difference of <H x, y> and <x, H^T y>: functions may compute in single precision.
ADJOINT_TOLERANCE = 1e-3


@dataclass(frozen=True)
class LinearFunctions(ObservationOperator):
    """A linear H as NumPy functions of one state.

    Attributes:
        forward: (k, y, x) -> (n,).
        adjoint: (n,) -> (k, y, x), its exact transpose.
        shape: (k, y, x) of a state.

    Raises:
        InputError: the two are not adjoint, or their shapes do not fit.
    """

    forward: Function
    adjoint: Function
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        """Compare <H x, y> with <x, H^T y> for a random state and random observations."""
        generator = np.random.default_rng(0)
        x = generator.standard_normal(self.shape)
        seen = np.asarray(self.forward(x))
        if seen.ndim != 1:
            raise InputError(f"operator: forward returns the shape {seen.shape}, expected one axis (n,)")
        y = generator.standard_normal(seen.shape)
        back = np.asarray(self.adjoint(y))
        if back.shape != self.shape:
            raise InputError(f"operator: adjoint returns the shape {back.shape}, expected {self.shape}")
        size = float(np.linalg.norm(seen) * np.linalg.norm(y)) or 1.0
        difference = abs(float(seen @ y) - float((x * back).sum())) / size
        if not difference <= ADJOINT_TOLERANCE:
            raise InputError(
                f"operator: <H x, y> and <x, H^T y> differ by {difference:.2g} of |H x| |y|, expected the adjoint of a "
                "linear operator"
            )

    def __call__(self, state: Float[Tensor, "*b k y x"]) -> Float[Tensor, "*b n"]:
        """Return H of each state."""
        flat = state.reshape(-1, *self.shape)
        seen: Tensor = _Applied.apply(flat, self.forward, self.adjoint)  # type: ignore[no-untyped-call]
        return seen.reshape(*state.shape[:-3], -1)


class _Applied(torch.autograd.Function):
    """Rows of ``forward``; its gradient is the same with the two functions exchanged, so it can be repeated."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, forward: Function, adjoint: Function) -> Tensor:
        ctx.functions = forward, adjoint
        images = [np.asarray(forward(row)) for row in rows.detach().cpu().numpy()]
        return torch.from_numpy(np.stack(images)).to(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        forward, adjoint = ctx.functions
        pulled: Tensor = _Applied.apply(gradients[0], adjoint, forward)  # type: ignore[no-untyped-call]
        return pulled, None, None


@dataclass(frozen=True)
class TorchFunction(ObservationOperator):
    """Any H that torch differentiates twice.

    Attributes:
        function: (b, k, y, x) -> (b, n); samples of the batch do not interact.
    """

    function: Callable[[Tensor], Tensor]

    def __call__(self, state: Float[Tensor, "*b k y x"]) -> Float[Tensor, "*b n"]:
        """Return H of each state.

        Raises:
            InputError: the function returns another number of samples or axes.
        """
        rows = state.reshape(-1, *state.shape[-3:])
        seen = self.function(rows)
        if seen.ndim != 2 or len(seen) != len(rows):
            raise InputError(
                f"operator: {len(rows)} states gave the shape {tuple(seen.shape)}, expected ({len(rows)}, n)"
            )
        return seen.reshape(*state.shape[:-3], -1)


class GivenObservations(ObservationStream):
    """Observations in memory, one entry per time.

    Args:
        times: ascending, datetime64.
        observations: of one trajectory, None where a time has none.
        variables: of the state H expects.
        grid: of that state.

    Raises:
        InputError: not one entry per time.
    """

    def __init__(
        self,
        times: np.ndarray,
        observations: Sequence[Observation | None],
        *,
        variables: tuple[Variable, ...],
        grid: Grid,
    ) -> None:
        if len(times) != len(observations):
            raise InputError(f"observations: found {len(observations)} entries for {len(times)} times")
        self.times, self.variables, self.grid = np.asarray(times, "datetime64[ns]"), variables, grid
        self.trajectories, self._observations = 1, tuple(observations)

    def at(self, trajectory: int, index: int) -> Observation | None:
        """Return the observations of one time, None where there are none."""
        return self._observations[index]
