"""Where a state lives: the grid of its points, and what its variables mean.

    plane    y, x in a length unit or in model units; each axis may be periodic with period n * spacing
    sphere   latitude and longitude in degrees, both ascending, longitude from [-180, 180) on, past 180 if need be

A place (y, x) has the fractional index (i, j) at which linear interpolation between grid points finds it. On a
periodic axis the index lies in [0, n) and index n - 1/2 is halfway between the last point and the first.
The area a point stands for is constant on a plane and proportional to cos(latitude) on a sphere, also where a rotated
pole makes its latitudes and longitudes the y and x of a plane in degrees.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from priors.runtime.errors import InputError

Kind = Literal["plane", "sphere"]

# Coordinates in files are often float32: a place this share of a cell outside the grid is taken as its edge.
EDGE = 1e-3


@dataclass(frozen=True)
class Variable:
    """One physical quantity of a state.

    Attributes:
        name: of the variable in a file.
        unit: in the spelling of CF, such as "K", "mm/h" or "1".
        standard_name: of CF, "" where it knows none.
        minimum: least physical value, None where there is none.
    """

    name: str
    unit: str
    standard_name: str = ""
    minimum: float | None = None


@dataclass(frozen=True, eq=False)
class Grid:
    """The points of a field.

    Attributes:
        y: coordinates along y or latitude, strictly ascending.
        x: coordinates along x or longitude, strictly ascending.
        kind: "plane" or "sphere".
        unit: of the coordinates; "degree" on a sphere.
        periodic: whether y and x close on themselves.
        projection: text (PROJ or WKT) that ties a plane to the Earth, "" where nothing does.

    Raises:
        InputError: the coordinates are empty, not finite or not ascending.
    """

    y: np.ndarray
    x: np.ndarray
    kind: Kind
    unit: str
    periodic: tuple[bool, bool] = (False, False)
    projection: str = ""

    def __post_init__(self) -> None:
        for name, axis in zip(self.names, (self.y, self.x), strict=True):
            if axis.ndim != 1 or axis.size == 0 or not np.isfinite(axis).all() or (np.diff(axis) <= 0).any():
                raise InputError(f"grid: {name}: expected finite, strictly ascending coordinates")
        if self.kind == "sphere" and (self.y[0] < -90.001 or self.y[-1] > 90.001):
            raise InputError(
                f"grid: latitude: found {self.y[0]:g} to {self.y[-1]:g}, expected degrees from -90 to 90"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Return the number of points along y and x."""
        return self.y.size, self.x.size

    @property
    def names(self) -> tuple[str, str]:
        """Return the names of the two dimensions."""
        return ("latitude", "longitude") if self.kind == "sphere" else ("y", "x")

    @property
    def spacing(self) -> tuple[float, float]:
        """Return the mean distance of neighbours along y and x in ``unit``; 1 where there is one point."""
        return _spacing(self.y), _spacing(self.x)

    def same_as(self, other: "Grid") -> bool:
        """Tell whether two grids have the same points, up to the rounding of files."""
        return (
            self.kind == other.kind
            and self.shape == other.shape
            and np.allclose(self.y, other.y, rtol=0, atol=EDGE * self.spacing[0])
            and np.allclose(self.x, other.x, rtol=0, atol=EDGE * self.spacing[1])
        )

    def fractional_index(
        self, y: Float[np.ndarray, " n"], x: Float[np.ndarray, " n"]
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """Return the fractional indices of places along y and along x.

        Args:
            y: coordinates in ``unit``.
            x: coordinates in ``unit``; on a sphere any number of turns away.

        Raises:
            InputError: a place lies outside the grid.
        """
        period_x = 360.0 if self.kind == "sphere" else None
        names = self.names
        return (
            _index(y, self.y, names[0], periodic=self.periodic[0]),
            _index(x, self.x, names[1], periodic=self.periodic[1], turn=period_x),
        )

    def area_weights(self) -> Float[np.ndarray, "y x"]:
        """Return weights proportional to the area of every point, with mean 1."""
        weights = np.ones(self.shape)
        if self.kind == "sphere" or "ob_tran" in self.projection:
            # A rotated pole turns the sphere, and areas with it. A point on a pole stands for a small cap, not for
            # nothing; rounding must not make it negative.
            weights *= np.clip(np.cos(np.deg2rad(self.y)), 1e-6, None)[:, None]
        return np.asarray(weights / weights.mean())


def _spacing(axis: np.ndarray) -> float:
    """Return the mean distance of neighbours, 1 for a single point."""
    return float(axis[-1] - axis[0]) / (axis.size - 1) if axis.size > 1 else 1.0


def _index(
    values: np.ndarray, axis: np.ndarray, name: str, *, periodic: bool, turn: float | None = None
) -> np.ndarray:
    """Return fractional indices along one axis; ``turn`` is a period of the coordinate itself."""
    step, size = _spacing(axis), axis.size
    values = np.asarray(values, np.float64)
    first = float(axis[0])
    if periodic:
        period = turn or size * step
        wrapped = first + (values - first) % period
        _check(values, np.isfinite(values), name, axis)
        places = np.append(axis, first + period)
        return np.asarray(np.interp(wrapped, places, np.arange(size + 1.0)) % size)
    if turn is not None:
        low = first - EDGE * step
        values = low + (values - low) % turn
    # A single point stands for a cell one step wide.
    margin = (0.5 if size == 1 else EDGE) * step
    inside = (values >= first - margin) & (values <= axis[-1] + margin)
    _check(values, inside, name, axis)
    return np.asarray(np.interp(values, axis, np.arange(float(size))))


def _check(values: np.ndarray, inside: np.ndarray, name: str, axis: np.ndarray) -> None:
    """Refuse places outside the grid; the message names the first one."""
    if not inside.all():
        where = int(np.argmin(inside))
        raise InputError(
            f"{name}: found {values[where]:.6g} ({int((~inside).sum())} of {values.size} places lie outside), "
            f"expected {axis[0]:.6g} to {axis[-1]:.6g}, the extent of the grid"
        )
