"""The centre of rotation that makes the sharpest reconstruction.

A wrong centre doubles every edge of a half turn and smears it over a full one. Of all centres the right one
gives the image with the largest sum of squared gradients, at constant data. Reconstructions are filtered
backprojections on a grid of at most ``PIXELS`` pixels, inside the circle every view sees.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Float64
from scipy.optimize import minimize_scalar

from recon.geometry.orbits import Parallel
from recon.geometry.volume import Volume
from recon.operators.projector import Projector
from recon.preprocess import mirror_centre
from recon.reconstructors.base import Job, Measurement
from recon.reconstructors.fbp import FBP

PIXELS = 256
REACH = 4.0
"""The search looks this many columns to either side of the mirror estimate."""


def find_centre(sinogram: Float[np.ndarray, "v c"], angles_deg: Float64[np.ndarray, " v"]) -> float:
    """Return the column (index, a real number) on which the rotation axis falls.

    Raises:
        InputError: no two views face each other.
    """
    start = mirror_centre(sinogram, angles_deg)
    coarse = np.arange(start - REACH, start + REACH + 0.25, 0.5)
    blur = [-sharpness(sinogram, angles_deg, float(centre)) for centre in coarse]
    best = int(np.argmin(blur))
    bounds = (float(coarse[max(best - 1, 0)]), float(coarse[min(best + 1, len(coarse) - 1)]))
    found = minimize_scalar(
        lambda centre: -sharpness(sinogram, angles_deg, float(centre)),
        bounds=bounds,
        method="bounded",
        options={"xatol": 0.02},
    )
    return float(found.x)


def sharpness(
    sinogram: Float[np.ndarray, "v c"], angles_deg: Float64[np.ndarray, " v"], centre: float
) -> float:
    """Return the mean squared gradient of the reconstruction about ``centre``."""
    views, columns = sinogram.shape
    radius = min(centre, columns - 1 - centre)
    pixel = max(2 * radius / PIXELS, 1.0)
    pixels = int(2 * radius / pixel)
    orbit = Parallel(
        angles_deg=tuple(float(a) for a in angles_deg),
        columns=columns,
        column_mm=1.0,
        rows=1,
        row_mm=1.0,
        offset_columns=(columns - 1) / 2 - centre,
    )
    projector = Projector(Volume((1, pixels, pixels), (1.0, pixel, pixel)), orbit.scan())
    line = torch.from_numpy(np.ascontiguousarray(sinogram[:, None], dtype=np.float32))
    image = FBP(filter="hann")(Measurement(line, torch.ones_like(line)), projector, Job())[0].numpy()
    middle = (np.arange(pixels) - (pixels - 1) / 2) / (pixels / 2)
    inside = np.hypot(middle[:, None], middle[None, :]) < 0.95
    gradient = np.hypot(*np.gradient(image.astype(np.float64)))
    return float(np.square(gradient)[inside].sum()) / math.sqrt(views)
