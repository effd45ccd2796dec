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
from priors.runtime.errors import InputError

STARTS = "forecast_starts"
"""Attribute of forecasts from several starts: their times, ISO 8601, in the order of the trajectories."""
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

    @property
    def starts(self) -> np.ndarray | None:
        """Return the start of every trajectory, where they are forecasts from several starts by several leads.

        ``times`` are then those of the first start.
        """
        text = self.attributes.get(STARTS)
        return None if text is None else np.array(text.split(), "datetime64[ns]")

    def valid_times(self) -> np.ndarray:
        """Return the times (trajectory, time) at which the frames hold; one row where all trajectories share them."""
        if self.starts is None:
            return self.times[None]
        return np.asarray(self.times[None] + (self.starts - self.starts[0])[:, None])

    def at_lead(self, lead: np.timedelta64, source: str) -> "FieldStream":
        """Return the frames of one lead of several starts: single fields at their valid times.

        Raises:
            InputError: there are no several starts, or none has such a lead.
        """
        starts = self.starts
        if starts is None:
            raise InputError(f"{source}: lead: found one start, expected several starts by several leads")
        leads = (self.times - starts[0]) / np.timedelta64(1, "s")
        wanted = float(lead / np.timedelta64(1, "s"))
        places = np.flatnonzero(np.abs(leads - wanted) < 1)
        if places.size == 0:
            known = ", ".join(f"{value / 3600:g}" for value in leads[:8])
            raise InputError(f"{source}: lead: found {wanted / 3600:g} h, expected one of {known} h")
        place = int(places[0])
        return replace(
            self,
            trajectories=1,
            times=starts + lead.astype("timedelta64[ns]"),
            read=lambda _, time: self.read(time, place),
            attributes={key: text for key, text in self.attributes.items() if key != STARTS},
        )

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
