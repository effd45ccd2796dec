"""The centre of rotation: several estimates that must agree.

The estimates are those of ``recon.preprocess.centre_estimates``: the centre of mass where nothing is cut off,
mirrored views, the double wedge of a half turn; of a full turn without a centre of mass, mirrored views of every
other pair against the rest. Two must lie within 2 columns (or 1 % of the detector). Where none agree the one with
the smallest

    blur(c) = mean |grad FBP(y, c)|

is named, with low confidence, and not used unless a person asks for it: a wrong axis gives a wrong volume without a
sign. Blur is a relative of the sparsity criteria of Donath, Beckmann, Schreyer, "Automated determination of the
center of rotation in tomography data", J. Opt. Soc. Am. A 23 (2006). It is sharp but has many local minima, and of
an object wider than the detector its minimum is columns beside the axis: it decides between estimates and finds
none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.optimize import minimize_scalar

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.operators.projector import Projector
from recon.preprocess.centre_estimates import (
    facing,
    full_turn,
    mass,
    mirror,
    mirror_residual,
    wedge,
)
from recon.reconstructors.base import Measurement, RunContext
from recon.reconstructors.fbp.fbp import FBP

PIXELS = 256
REACH = 1.5
"""Columns to either side of an estimate among which the sharpest is looked for."""
CLOSE = 0.5
MATCH = 0.5
"""Residual of mirrored views above which they do not match: about 1 for unrelated views."""


@dataclass(frozen=True)
class Axis:
    """Where the rotation axis falls.

    Attributes:
        column: index, a real number.
        confidence: ``high`` where two estimates agree within half a column, ``fair`` within the tolerance (2 columns or
            1 %), ``low`` where nothing agrees: ``column`` is then no more than a guess.
        estimates: name to column.
    """

    column: float
    confidence: Literal["high", "fair", "low"]
    estimates: Mapping[str, float]

    def told(self) -> str:
        """Return the estimates in words."""
        return ", ".join(f"{name} {column:.2f}" for name, column in self.estimates.items())


def find_centre(sinogram: Float[np.ndarray, "v c"], angles_deg: Float64[np.ndarray, " v"]) -> float:
    """Return the column (index, a real number) on which the rotation axis falls.

    Raises:
        InputError: no two views face each other, or the estimates disagree.
    """
    axis = search_axis(sinogram, angles_deg)
    if axis.confidence == "low":
        raise InputError(
            f"centre of rotation: the estimates disagree ({axis.told()}), so none is used; state the column"
        )
    return axis.column


def search_axis(sinogram: Float[np.ndarray, "v c"], angles_deg: Float64[np.ndarray, " v"]) -> Axis:
    """Return the rotation axis with its estimates and how far they can be trusted.

    Raises:
        InputError: no two views face each other, and nothing else tells the axis.
    """
    turn, tolerance = full_turn(angles_deg), max(2.0, 0.01 * sinogram.shape[1])
    estimates = {"mass": mass(sinogram, angles_deg), "mirror": mirror(sinogram, angles_deg)}
    if not turn:
        estimates["wedge"] = wedge(sinogram, angles_deg)
    known = {name: column for name, column in estimates.items() if column is not None}
    if not known:
        raise InputError(
            "centre of rotation: no two views are 180 degrees apart (within 10); state the column"
        )
    if turn and (len(known) < 2 or np.ptp(list(known.values())) > tolerance):
        known.update(_halves(sinogram, angles_deg))
    near = _cluster(known, tolerance)
    if len(near) < 2 or len(known) > 2 * len(near):
        return _sharpest(sinogram, angles_deg, known)
    # The mirrored pairs of a full turn, and the wedge of a half one, are the most exact of those that agree.
    best = next((name for name in (("mirror",) if turn else ("wedge", "mass")) if name in near), None)
    column = known[best] if best else float(np.median([known[name] for name in near]))
    spread = float(np.ptp([known[name] for name in near]))
    return Axis(column, "high" if spread <= CLOSE else "fair", known)


def _sharpest(
    sinogram: Float[np.ndarray, "v c"], angles_deg: Float64[np.ndarray, " v"], known: dict[str, float]
) -> Axis:
    """Return the estimate with the sharpest reconstruction, with low confidence: nothing else agrees with it."""
    blurs = {name: _refine(sinogram, angles_deg, column) for name, column in known.items()}
    best = min(blurs, key=lambda name: blurs[name][1])
    return Axis(known[best], "low", {**known, f"sharpness near {best}": blurs[best][0]})


def _halves(sinogram: Float[np.ndarray, "v c"], angles_deg: Float64[np.ndarray, " v"]) -> dict[str, float]:
    """Return what every other pair of facing views says, and what the rest says: a second opinion on a full turn."""
    pairs = facing(angles_deg)
    halves = {"even pairs": pairs[::2], "odd pairs": pairs[1::2]}
    residuals = {name: mirror_residual(sinogram, some) for name, some in halves.items() if some}
    return {name: int(np.argmin(r)) / 2 for name, r in residuals.items() if r.min() < MATCH}


def _cluster(known: Mapping[str, float], tolerance: float) -> list[str]:
    """Return the names of the largest group of estimates that lie within the tolerance, the tightest of equal ones."""
    groups = [
        [name for name, column in known.items() if 0 <= column - low <= tolerance] for low in known.values()
    ]
    return max(groups, key=lambda names: (len(names), -np.ptp([known[name] for name in names])))


def _refine(
    sinogram: Float[np.ndarray, "v c"], angles_deg: Float64[np.ndarray, " v"], start: float
) -> tuple[float, float]:
    """Return the sharpest centre within ``REACH`` of ``start`` and its blur."""
    columns = sinogram.shape[1]
    # One circle for every estimate, or their blurs could not be compared.
    grid = _circle((columns - 1) / 2, columns)
    minimum = minimize_scalar(
        lambda centre: blur(sinogram, angles_deg, float(centre), grid=grid),
        bounds=(start - REACH, start + REACH),
        method="bounded",
        options={"xatol": 0.1},
    )
    return float(minimum.x), float(minimum.fun)


def blur(
    sinogram: Float[np.ndarray, "v c"], angles_deg: Float64[np.ndarray, " v"], centre: float, *, grid: Grid
) -> float:
    """Return the mean absolute gradient, in 1/column^2, of the reconstruction about ``centre`` on
    ``grid``."""
    columns = sinogram.shape[1]
    orbit = Parallel(
        angles_deg=tuple(float(a) for a in angles_deg),
        columns=columns,
        column_mm=1.0,
        rows=1,
        row_mm=1.0,
        offset_columns=(columns - 1) / 2 - centre,
    )
    line = torch.from_numpy(np.ascontiguousarray(sinogram[:, None], dtype=np.float32))
    measurement = Measurement(line, torch.ones_like(line))
    image = FBP(filter="hann")(measurement, Projector(orbit.geometry(), grid), RunContext())[0].numpy()
    position = grid.coordinates(2) / grid.radius_mm * np.sqrt(2)
    inside = np.hypot(position[:, None], position[None, :]) < 0.95
    return float(np.hypot(*np.gradient(image.astype(np.float64)))[inside].mean())


def _circle(centre: float, columns: int) -> Grid:
    """Return a square grid about the axis whose inscribed circle is seen by every view, in units of a
    column."""
    radius = max(min(centre, columns - 1 - centre), columns / 8)
    pixel = max(2 * radius / PIXELS, 1.0)
    pixels = max(int(2 * radius / pixel), 2)
    return Grid((1, pixels, pixels), (1.0, pixel, pixel))
