"""The centre of rotation that makes the sharpest reconstruction.

A wrong centre doubles every edge of a half turn and smears it over a full one. The energy of the gradient
hardly changes (it is that of the data), but spread over more pixels its sum of absolute values grows: the
right centre has the smallest

    blur(c) = mean |grad FBP(y, c)|

among the centres near the one that the mirrored view suggests. Images have at most ``PIXELS`` pixels across,
inside the circle every view sees. A relative of the sparsity criteria of Donath, Beckmann, Schreyer,
"Automated determination of the center of rotation in tomography data", J. Opt. Soc. Am. A 23 (2006).
"""

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.optimize import minimize_scalar

from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.operators.projector import Projector
from recon.preprocess.radiographs import mirror_centre
from recon.reconstructors.base import Measurement, RunContext
from recon.reconstructors.fbp.fbp import FBP

PIXELS = 256
REACH = 4.0
"""The search looks this many columns to either side of the mirror estimate."""


def find_centre(sinogram: Float[np.ndarray, "v c"], angles_deg: Float64[np.ndarray, " v"]) -> float:
    """Return the column (index, a real number) on which the rotation axis falls.

    Raises:
        InputError: no two views face each other.
    """
    start = mirror_centre(sinogram, angles_deg)
    grid = _circle(start, sinogram.shape[1])
    coarse = np.arange(start - REACH, start + REACH + 0.5, 1.0)
    blurs = [blur(sinogram, angles_deg, float(centre), grid=grid) for centre in coarse]
    best = float(coarse[int(np.argmin(blurs))])
    found = minimize_scalar(
        lambda centre: blur(sinogram, angles_deg, float(centre), grid=grid),
        bounds=(best - 1, best + 1),
        method="bounded",
        options={"xatol": 0.02},
    )
    return float(found.x)


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
