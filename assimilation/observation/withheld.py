r"""Withheld observations: some places are kept from the assimilation, to verify it with.

A place is withheld at all times and for all its variables, since a station's other reports would tell about the one
withheld. What an operator makes of the rows and columns of a grid tells its places from one another; a place is
withheld where a hash of them and of the seed, uniform on [0, 1), is below the share.
"""

import numpy as np
import torch

from assimilation.observation.base import Observation, ObservationStream
from assimilation.observation.places import Places
from assimilation.observation.point import Selection
from priors.runtime.errors import InputError


class WithheldStream(ObservationStream):
    """The places of another stream that are used, or those that are withheld.

    Args:
        stream: observations.
        share: of the places to withhold, from 0 to 1.
        seed: of the choice.
        withheld: give those that are withheld instead of the others.
    """

    def __init__(self, stream: ObservationStream, share: float, *, seed: int, withheld: bool = False) -> None:
        self._stream, self._share, self._seed, self._withheld = stream, share, seed, withheld
        self.times, self.variables = stream.times, stream.variables
        self.grid, self.trajectories = stream.grid, stream.trajectories
        self._places = Places((len(stream.variables), *stream.grid.shape))

    def at(self, trajectory: int, index: int) -> Observation | None:
        """See `ObservationStream`."""
        found = self._stream.at(trajectory, index)
        if found is None:
            return None
        kept = torch.nonzero(torch.from_numpy(self._passive(found) == self._withheld))[:, 0]
        if kept.numel() == 0:
            return None
        return Observation(found.values[kept], found.variance[kept], Selection(found.operator, kept))

    def count(self) -> int:
        """Return the number of observations."""
        each = (self.at(*place) for place in np.ndindex(self.trajectories, self.times.size))
        return sum(found.values.numel() for found in each if found is not None)

    def _passive(self, found: Observation) -> np.ndarray:
        """Return which observations are at withheld places."""
        y, x = (each.astype(np.uint64) for each in self._places.keys(found.operator))
        mixed = _mixed(_mixed(y ^ np.uint64(self._seed)) ^ x)
        return np.asarray((mixed >> np.uint64(11)) * 2.0**-53 < self._share)


def withheld_parts(
    stream: ObservationStream, share: float, *, seed: int, source: str
) -> tuple[WithheldStream, WithheldStream]:
    """Return the observations that are used, and those that are withheld.

    Raises:
        InputError: one of the two is empty.
    """
    used, passive = (WithheldStream(stream, share, seed=seed, withheld=each) for each in (False, True))
    counts = used.count(), passive.count()
    if min(counts) == 0:
        raise InputError(
            f"{source}: withhold: found {counts[1]} observations to withhold and {counts[0]} to use, expected some of "
            "both: another share, or more places"
        )
    return used, passive


def _mixed(key: np.ndarray) -> np.ndarray:
    """Return 64 bits that look random (SplitMix64; Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):
        key = key + np.uint64(0x9E3779B97F4A7C15)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return np.asarray(key ^ (key >> np.uint64(31)))
