"""Gross errors: observations that a background, or all that a prior was trained on, makes impossible.

    |y - H(b)| > limit sqrt(sigma^2 + s^2)

with a background b, or the middle of what the prior was trained on, and s what the state may differ from it.

Rejected observations are left out, and how many they are is told. (Lorenc and Hammon 1988.)
"""

import numpy as np
import torch
from jaxtyping import Float32

from assimilation.observation.base import Observation, ObservationStream
from assimilation.observation.point import Selection
from priors.runtime.errors import InputError, warn


class CheckedStream(ObservationStream):
    """The observations of another stream without those that lie too far from a state.

    Attributes:
        rejected, count: how many were left out, of how many.
    """

    def __init__(
        self,
        stream: ObservationStream,
        state: Float32[np.ndarray, "k y x"],
        deviation: Float32[np.ndarray, "k y x"],
        *,
        limit: float,
        source: str = "observations",
    ) -> None:
        """Look at every observation once.

        Args:
            stream: observations.
            state: what is expected of the state, physical.
            deviation: of the state from it, physical.
            limit: in standard deviations.
            source: what messages call the observations.

        Raises:
            InputError: none would be left.
        """
        self._stream, self._limit = stream, limit
        self._state, self._deviation = torch.from_numpy(state), torch.from_numpy(deviation)
        self.times, self.variables = stream.times, stream.variables
        self.grid, self.trajectories = stream.grid, stream.trajectories
        self.rejected, self.count, worst = 0, 0, (0.0, 0.0, 0.0)
        for trajectory, index in np.ndindex(stream.trajectories, stream.times.size):
            observation = stream.at(trajectory, index)
            if observation is None:
                continue
            departures, good = self._check(observation)
            self.count += good.numel()
            self.rejected += int((~good).sum())
            if not bool(good.all()):
                largest = int(torch.argmax(departures))
                worst = max(
                    worst, (float(departures[largest]), float(observation.values[largest]), float(trajectory))
                )
        if self.rejected == self.count and self.count:
            raise InputError(
                f"{source}: all of {self.count} observations differ from the background by gross errors"
            )
        if self.rejected:
            warn(
                f"{source}: {self.rejected} of {self.count} observations rejected as gross errors (the worst is "
                f"{worst[1]:.6g}, {worst[0]:.3g} standard deviations from the background)"
            )

    def at(self, trajectory: int, index: int) -> Observation | None:
        """Return the observations of one frame that are no gross errors, None where there are none."""
        observation = self._stream.at(trajectory, index)
        if observation is None:
            return None
        _, good = self._check(observation)
        if bool(good.all()):
            return observation
        kept = torch.nonzero(good)[:, 0]
        if kept.numel() == 0:
            return None
        return Observation(
            observation.values[kept], observation.variance[kept], Selection(observation.operator, kept)
        )

    def _check(self, observation: Observation) -> tuple[torch.Tensor, torch.Tensor]:
        """Return departures in standard deviations, and which are small enough."""
        state, deviation = (each.to(observation.values.dtype) for each in (self._state, self._deviation))
        expected = observation.operator(state)
        # A bound for any operator: what it makes of a state a deviation away.
        spread = (observation.operator(state + deviation) - expected).abs()
        departures = (observation.values - expected).abs() / torch.sqrt(observation.variance + spread**2)
        # Where the background says nothing, nothing speaks against an observation.
        return departures.nan_to_num(0.0), ~(departures > self._limit)
