"""Fields over time, single or as an ensemble, as arrays that know their times, variables and grid.

    Fields    values  [n time k y x]      n independent trajectories
    Ensemble  members [n m time k y x]    m members per trajectory

with time ascending, k the variables in the order of ``variables``, y and x the grid. Values are physical; NaN
is a missing value. Mean and spread of an ensemble are over m, the spread with divisor m - 1.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import xarray as xr
from jaxtyping import Float

from assimilation.fields import cf
from assimilation.fields.grid import Grid, Variable
from priors.runtime.errors import InputError

__all__ = ["Ensemble", "Fields", "Grid", "Variable"]


class _Described:
    """What knows its times, variables, grid and attributes, and can be a dataset."""

    times: np.ndarray
    variables: tuple[Variable, ...]
    grid: Grid
    attributes: dict[str, str]

    def to_dataset(self) -> xr.Dataset:
        """Return the CF dataset; ``trajectory`` is a dimension where there is more than one."""
        values, leading = self._leading()
        return cf.build(cf.Parsed(values, self.times, self.variables, self.grid, self.attributes, leading))

    def to_xarray(self) -> xr.Dataset:
        """Return `to_dataset`, by the name the public face has for it."""
        return self.to_dataset()

    def _leading(self) -> tuple[Float[np.ndarray, "n m time k y x"], tuple[str, ...]]:
        """Return the values, and the names of the axes before time that a dataset has."""
        raise NotImplementedError

    def _check_sizes(self, shape: tuple[int, ...]) -> None:
        """Refuse an array whose (time, k, y, x) differ from its description."""
        names = [variable.name for variable in self.variables]
        taken = {"time", "trajectory", "member", cf.MAPPING, *self.grid.names} & {*names}
        if taken or len({*names}) < len(names):
            raise InputError(
                f"fields: found the variables {', '.join(names)}, expected names unlike each other's "
                "and unlike a dimension's"
            )
        expected = (self.times.size, len(self.variables), *self.grid.shape)
        if shape != expected:
            raise InputError(f"fields: found (time, k, y, x) = {shape}, expected {expected}")


@dataclass(frozen=True, eq=False)
class Fields(_Described):
    """Trajectories of states.

    Attributes:
        values: physical values, NaN where missing.
        times: datetime64[ns], ascending.
        variables: what the entries along k are.
        grid: where the points along y and x lie.
        attributes: text that travels with the fields into files.

    Raises:
        InputError: sizes do not agree.
    """

    values: Float[np.ndarray, "n time k y x"]
    times: np.ndarray
    variables: tuple[Variable, ...]
    grid: Grid
    attributes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", np.asarray(self.values, np.float32))
        self._check_sizes(self.values.shape[1:])

    def _leading(self) -> tuple[Float[np.ndarray, "n m time k y x"], tuple[str, ...]]:
        return self.values[:, None], ("trajectory",) if self.values.shape[0] > 1 else ()

    @staticmethod
    def from_dataset(dataset: xr.Dataset, source: str = "dataset") -> "Fields":
        """Return the fields in a CF dataset; see ``assimilation.fields.cf`` for what is accepted.

        Raises:
            InputError: it holds an ensemble, or dimensions, times, units or coordinates cannot be used.
        """
        parsed = cf.parse(dataset, source)
        if "member" in parsed.leading:
            raise InputError(
                f"{source}: found the dimension member ({parsed.values.shape[1]}), expected single fields"
            )
        return Fields(parsed.values[:, 0], parsed.times, parsed.variables, parsed.grid, parsed.attributes)

    def select(self, *, times: slice | np.ndarray | None = None, trajectory: int | None = None) -> "Fields":
        """Return some times, or one trajectory.

        Args:
            times: indices along time as a slice or integers, or datetime64 values that must occur.
            trajectory: the one to keep.

        Raises:
            InputError: a time or the trajectory does not occur.
        """
        index = _indices(self.times, times)
        count = self.values.shape[0]
        if trajectory is not None and not 0 <= trajectory < count:
            raise InputError(f"trajectory: found {trajectory}, expected 0 to {count - 1}")
        rows = slice(None) if trajectory is None else slice(trajectory, trajectory + 1)
        return replace(self, values=self.values[rows][:, index], times=self.times[index])


@dataclass(frozen=True, eq=False)
class Ensemble(_Described):
    """Members of every trajectory; what is not said here is as in `Fields`.

    Attributes:
        members: physical values, NaN where missing.
        times, variables, grid, attributes: of all members.

    Raises:
        InputError: sizes do not agree.
    """

    members: Float[np.ndarray, "n m time k y x"]
    times: np.ndarray
    variables: tuple[Variable, ...]
    grid: Grid
    attributes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", np.asarray(self.members, np.float32))
        self._check_sizes(self.members.shape[2:])

    def mean(self) -> Fields:
        """Return the mean over the members."""
        return self._statistic(lambda members: members.mean(axis=1))

    def spread(self) -> Fields:
        """Return the standard deviation over the members, divisor m - 1; 0 for a single member."""
        if self.members.shape[1] == 1:
            return self._fields(np.where(np.isnan(self.members[:, 0]), np.nan, 0.0))
        return self._statistic(lambda members: members.std(axis=1, ddof=1))

    def member(self, number: int) -> Fields:
        """Return one member."""
        return self._fields(self.members[:, number])

    def __repr__(self) -> str:
        n, m, frames, _, y, x = self.members.shape
        names = ", ".join(f"{one.name} [{one.unit}]" for one in self.variables)
        span = f"{self.times[0].astype('datetime64[s]')} to {self.times[-1].astype('datetime64[s]')}"
        some = "" if n == 1 else f"{n} trajectories, "
        return f"Ensemble({some}{m} members, {frames} times from {span}, {names} on {y} x {x})"

    def _leading(self) -> tuple[Float[np.ndarray, "n m time k y x"], tuple[str, ...]]:
        return self.members, ("trajectory", "member") if self.members.shape[0] > 1 else ("member",)

    @staticmethod
    def from_dataset(dataset: xr.Dataset, source: str = "dataset") -> "Ensemble":
        """Return the ensemble in a CF dataset; single fields are an ensemble of one member.

        Raises:
            InputError: dimensions, times, units or coordinates cannot be used.
        """
        parsed = cf.parse(dataset, source)
        return Ensemble(parsed.values, parsed.times, parsed.variables, parsed.grid, parsed.attributes)

    def _statistic(self, of: Callable[[np.ndarray], np.ndarray]) -> Fields:
        """Apply a function of (n, m, k, y, x) in double precision, one time after the other to save memory."""
        statistics = [
            of(self.members[:, :, time].astype(np.float64)).astype(np.float32)
            for time in range(self.times.size)
        ]
        return self._fields(np.stack(statistics, axis=1))

    def _fields(self, values: np.ndarray) -> Fields:
        return Fields(values.astype(np.float32), self.times, self.variables, self.grid, self.attributes)


def _indices(held: np.ndarray, times: slice | np.ndarray | None) -> slice | np.ndarray:
    """Return the index of the wanted times."""
    if times is None:
        return slice(None)
    if isinstance(times, slice) or times.dtype.kind in "iu":
        return times
    wanted = times.astype("datetime64[ns]")
    missing = ~np.isin(wanted, held)
    if missing.any():
        raise InputError(
            f"time: found {wanted[missing][0]}, expected one of {held[0]} to {held[-1]} ({held.size} times)"
        )
    return np.searchsorted(held, wanted)
