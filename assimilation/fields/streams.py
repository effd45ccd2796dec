"""Fields and ensembles that are read one frame at a time, so that an archive may be larger than the memory.

    read(trajectory, time) -> members [m k y x]        physical, NaN where missing; single fields have m = 1

What else is known of them (times, variables, grid, attributes) is small and held.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float32

from assimilation.fields.fields import Ensemble, Fields
from assimilation.fields.grid import Grid, Variable

Read = Callable[[int, int], Float32[np.ndarray, "m k y x"]]


@dataclass(frozen=True, eq=False)
class FieldStream:
    """Frames of trajectories, single or as an ensemble.

    Attributes:
        trajectories: how many.
        members: of each; 1 for single fields.
        times: datetime64[ns], ascending.
        variables: what the entries along k are.
        grid: where the points along y and x lie.
        read: returns the members of one trajectory at one place in ``times``.
        attributes: text that travels with the fields.
    """

    trajectories: int
    members: int
    times: np.ndarray
    variables: tuple[Variable, ...]
    grid: Grid
    read: Read
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def frame_size(self) -> int:
        """Return how many values a frame has: members, variables, y and x."""
        return self.members * len(self.variables) * int(np.prod(self.grid.shape))

    @staticmethod
    def of(held: "Ensemble | Fields | FieldStream") -> "FieldStream":
        """Return the stream over what is held in memory; a stream stays as it is."""
        if isinstance(held, FieldStream):
            return held
        values = held.values[:, None] if isinstance(held, Fields) else held.members
        return FieldStream(
            values.shape[0],
            values.shape[1],
            held.times,
            held.variables,
            held.grid,
            lambda trajectory, time: values[trajectory, :, time],
            held.attributes,
        )

    def thinned(self, largest: int) -> "FieldStream":
        """Return evenly spaced times that together take at most ``largest`` bytes, the first and last among them."""
        size = 4 * self.trajectories * self.frame_size
        count = max(2, largest // size)
        if count >= self.times.size:
            return self
        places = np.unique(np.linspace(0, self.times.size - 1, count).round().astype(int))
        return replace(
            self,
            times=self.times[places],
            read=lambda trajectory, time: self.read(trajectory, int(places[time])),
            attributes={
                **self.attributes,
                "times_shown": f"{places.size} of {self.times.size}, evenly spaced",
            },
        )

    def ensemble(self) -> Ensemble:
        """Return everything, in memory."""
        shape = (self.trajectories, self.members, self.times.size, len(self.variables), *self.grid.shape)
        members = np.empty(shape, np.float32)
        for trajectory, time in np.ndindex(self.trajectories, self.times.size):
            members[trajectory, :, time] = self.read(trajectory, time)
        return Ensemble(members, self.times, self.variables, self.grid, dict(self.attributes))

    def fields(self) -> Fields:
        """Return everything of single fields, in memory."""
        whole = self.ensemble()
        return Fields(whole.members[:, 0], self.times, self.variables, self.grid, dict(self.attributes))
