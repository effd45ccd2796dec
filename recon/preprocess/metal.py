"""Metal: rays through it carry few photons and beam hardening that no reconstruction undoes.

The metal is what exceeds ``threshold_hu`` in a filtered backprojection; rays that cross it, its trace, get weight
0, so that statistical methods do without them, and are interpolated along their detector row for those that do not
weigh. Source: Kalender, Hebel, Ebersberger, Radiology 164, 576 (1987).
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool
from pydantic import Field
from scipy.ndimage import binary_dilation

from priors.runtime.errors import InputError
from recon.data.bad_rays import fill_along_rows
from recon.data.scan import Scan
from recon.data.units import hu_to_attenuation
from recon.geometry.grid import Grid
from recon.operators.projector import Projector
from recon.preprocess.base import Step, corrected
from recon.reconstructors.base import Measurement, RunContext
from recon.reconstructors.fbp.fbp import FBP


class Metal(Step):
    """The trace of metal interpolated and given no weight.

    Attributes:
        threshold_hu: attenuation above which a voxel is metal, in HU of the scan's water.
        pixels: across the slice in which metal is looked for; None takes the scan's own grid.
        margin: columns by which the trace is widened on both sides.
    """

    name: Literal["metal"] = "metal"
    threshold_hu: float = 3000.0
    pixels: int | None = Field(256, ge=16)
    margin: int = Field(1, ge=0)

    def __call__(self, data: Scan) -> Scan:
        """Return the scan without the trace of metal.

        Raises:
            InputError: filtered backprojection cannot reconstruct the scan, or a row sees nothing but metal.
        """
        trace = self.trace(data)
        hidden = np.argwhere(trace.all(axis=2))
        if len(hidden):
            view, row = hidden[0]
            raise InputError(f"metal: view {view} of row {row} sees nothing but metal; raise threshold_hu")
        lines = fill_along_rows(data.sinogram, trace)
        weights = np.where(trace, np.float32(0), data.weights)
        return corrected(data, self, lines, weights, share_of_rays=round(float(trace.mean()), 5))

    def trace(self, data: Scan) -> Bool[np.ndarray, "v r c"]:
        """Return which rays cross metal."""
        volume = self._grid(data.grid)
        projector = Projector(data.geometry, volume)
        sinogram, weights = (torch.from_numpy(np.ascontiguousarray(a)) for a in (data.sinogram, data.weights))
        image = FBP(filter="hann")(Measurement(sinogram, weights, data.mu_water), projector, RunContext())
        metal = image > hu_to_attenuation(np.array([self.threshold_hu]), data.mu_water).item()
        # A ray that crosses less than a tenth of a voxel of metal is as good as one that passes it.
        length = projector(metal.float()).numpy() / min(volume.voxel_mm)
        trace = length > 0.1
        if self.margin:
            trace = binary_dilation(trace, np.ones((1, 1, 2 * self.margin + 1), bool))
        return np.asarray(trace)

    def _grid(self, grid: Grid) -> Grid:
        if self.pixels is None or self.pixels >= max(grid.shape[1:]):
            return grid
        return grid.square(self.pixels)
