"""Instruments: which observation operator a kind of observing has, on which lattice, and what it sees when.

    observed[time k' y' x'] = H(state[time k y x]),  seen[time y' x'] says where and when,

so that every gridded observation is an entry of H(state): H belongs to the instrument, the entries to the frame.
"""

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal

import numpy as np
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict, Field

from assimilation.fields.grid import Grid, Variable
from assimilation.observation.area import BlockAverage, check_tiles
from assimilation.observation.base import ObservationOperator
from assimilation.observation.nonlinear import WindSpeed
from assimilation.observation.point import Channels, Identity
from assimilation.observation.swath import strip
from priors.runtime.config import nearest
from priors.runtime.errors import InputError

Variables = tuple[Variable, ...]
Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class _Instrument(BaseModel, ABC):
    """Common to all: by default everything of every variable is seen on the state's own grid.

    Attributes:
        selects: whether H only selects values of the state, so that a mean of observations observes a mean state.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    selects: ClassVar[bool] = False

    @abstractmethod
    def operator(self, variables: Variables) -> ObservationOperator:
        """Return H for states of these variables."""

    def lattice(self, variables: Variables, grid: Grid) -> tuple[Variables, Grid]:
        """Return variables and grid of what is observed."""
        return variables, grid

    def seen(
        self, frames: int, shape: tuple[int, int], generator: np.random.Generator
    ) -> Bool[np.ndarray, "time y x"]:
        """Return what is seen of the lattice at each frame."""
        return np.ones((frames, *shape), dtype=bool)


class Everything(_Instrument):
    """The state itself, everywhere."""

    selects: ClassVar[bool] = True

    name: Literal["identity"] = "identity"

    def operator(self, variables: Variables) -> ObservationOperator:
        """Return the identity."""
        return Identity()


class Points(_Instrument):
    """Random cells of the grid, as stations would stand.

    Attributes:
        fraction: share of the cells.
        fixed: the same cells in all frames; otherwise drawn anew in each.
    """

    selects: ClassVar[bool] = True

    name: Literal["points"] = "points"
    fraction: Fraction = 0.1
    fixed: bool = False

    def operator(self, variables: Variables) -> ObservationOperator:
        """Return the identity, of which the points are a selection."""
        return Identity()

    def seen(
        self, frames: int, shape: tuple[int, int], generator: np.random.Generator
    ) -> Bool[np.ndarray, "time y x"]:
        """Return the drawn cells: exactly the rounded share of the grid, at least one."""
        return _scattered(frames, shape, generator, fraction=self.fraction, fixed=self.fixed)


class Coarse(_Instrument):
    """Means over blocks of cells.

    Attributes:
        factor: cells per block along each axis; it divides the grid.
    """

    name: Literal["coarse"] = "coarse"
    factor: int = Field(4, ge=1)

    def operator(self, variables: Variables) -> ObservationOperator:
        """Return the block average."""
        return BlockAverage(self.factor)

    def lattice(self, variables: Variables, grid: Grid) -> tuple[Variables, Grid]:
        """Return the grid of the blocks' centres."""
        check_tiles(grid.shape, self.factor)
        y, x = (axis.reshape(-1, self.factor).mean(axis=1) for axis in (grid.y, grid.x))
        return variables, Grid(y, x, grid.kind, grid.unit, grid.periodic, grid.projection)


class Swath(_Instrument):
    """A strip that moves over the grid.

    Attributes:
        fraction: share of the grid the strip covers.
        step: how far it moves from frame to frame, in fractions of the grid.
        inclination_deg: direction of its normal, 0 = along y, 90 = along x.
    """

    selects: ClassVar[bool] = True

    name: Literal["swath"] = "swath"
    fraction: Fraction = 0.1
    step: float = Field(0.2, allow_inf_nan=False)
    inclination_deg: float = Field(80.0, ge=-180, le=180)

    def operator(self, variables: Variables) -> ObservationOperator:
        """Return the identity, of which the strip is a selection."""
        return Identity()

    def seen(
        self, frames: int, shape: tuple[int, int], generator: np.random.Generator
    ) -> Bool[np.ndarray, "time y x"]:
        """Return the strip's cells; its place at the first frame is drawn."""
        phase = float(generator.uniform())
        look = {"width": self.fraction, "inclination_deg": self.inclination_deg, "phase": phase}
        return np.stack([strip(shape, shift=self.step * frame, **look) for frame in range(frames)])


class ChannelSubset(_Instrument):
    """Some variables, everywhere or at random cells.

    Attributes:
        variables: names of the observed variables.
        fraction: share of the cells.
        fixed: the same cells in all frames.
    """

    selects: ClassVar[bool] = True

    name: Literal["channels"] = "channels"
    variables: tuple[str, ...] = Field(min_length=1)
    fraction: Fraction = 1.0
    fixed: bool = False

    def operator(self, variables: Variables) -> ObservationOperator:
        """Return the choice of the variables."""
        return Channels(tuple(position(variables, name) for name in self.variables))

    def lattice(self, variables: Variables, grid: Grid) -> tuple[Variables, Grid]:
        """Return the chosen variables."""
        return tuple(variables[position(variables, name)] for name in self.variables), grid

    def seen(
        self, frames: int, shape: tuple[int, int], generator: np.random.Generator
    ) -> Bool[np.ndarray, "time y x"]:
        """Return the drawn cells."""
        return _scattered(frames, shape, generator, fraction=self.fraction, fixed=self.fixed)


class WindSpeedMeter(_Instrument):
    """Speed of the wind, everywhere or at random cells.

    Attributes:
        eastward, northward: names of its components; found by CF standard name where not given.
        fraction: share of the cells.
        fixed: the same cells in all frames.
    """

    name: Literal["wind-speed"] = "wind-speed"
    eastward: str | None = None
    northward: str | None = None
    fraction: Fraction = 1.0
    fixed: bool = False

    def operator(self, variables: Variables) -> ObservationOperator:
        """Return the speed."""
        return WindSpeed(*self._components(variables))

    def lattice(self, variables: Variables, grid: Grid) -> tuple[Variables, Grid]:
        """Return the one variable that is observed."""
        unit = variables[self._components(variables)[0]].unit
        return (Variable("wind_speed", unit, "wind_speed", 0.0),), grid

    def seen(
        self, frames: int, shape: tuple[int, int], generator: np.random.Generator
    ) -> Bool[np.ndarray, "time y x"]:
        """Return the drawn cells."""
        return _scattered(frames, shape, generator, fraction=self.fraction, fixed=self.fixed)

    def _components(self, variables: Variables) -> tuple[int, int]:
        wanted = (
            (self.eastward, ("eastward_wind", "x_wind")),
            (self.northward, ("northward_wind", "y_wind")),
        )
        components = []
        for name, standard in wanted:
            matching = [i for i, variable in enumerate(variables) if variable.standard_name in standard]
            if name is None and len(matching) != 1:
                raise InputError(
                    f"wind-speed: found {len(matching)} variables with standard name {standard[0]}, expected one "
                    f"(state the components with operator.eastward and operator.northward)"
                )
            components.append(matching[0] if name is None else position(variables, name))
        return components[0], components[1]


Instrument = Annotated[
    Everything | Points | Coarse | Swath | ChannelSubset | WindSpeedMeter, Field(discriminator="name")
]


def position(variables: Variables, name: str) -> int:
    """Return where a variable stands on the axis k.

    Raises:
        InputError: there is none of that name.
    """
    names = [variable.name for variable in variables]
    if name not in names:
        guess = nearest(name, names)
        hint = f"; did you mean '{guess}'?" if guess else ""
        raise InputError(f"variable: found '{name}', expected one of {', '.join(names)}{hint}")
    return names.index(name)


def _scattered(
    frames: int, shape: tuple[int, int], generator: np.random.Generator, *, fraction: float, fixed: bool
) -> Bool[np.ndarray, "time y x"]:
    """Return random cells, a fixed number in every frame."""
    cells = shape[0] * shape[1]
    count = max(1, round(fraction * cells))
    seen = np.zeros((frames, cells), dtype=bool)
    for frame in range(1 if fixed else frames):
        seen[frame, generator.permutation(cells)[:count]] = True
    if fixed:
        seen[:] = seen[0]
    return seen.reshape(frames, *shape)
