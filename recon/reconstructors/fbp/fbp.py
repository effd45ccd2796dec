"""Filtered backprojection: the inverse of the continuous projector, sampled.

    x = A_2.T [ b * (h * (c w y)) ],     b = cell * radius / (2 * pixel area)

y are line integrals, w the redundancy weights of the orbit (Parker's on a short scan), c = cos(fan angle),
h the ramp filter (see ``ramp``), b the arc of a view times the distance of the source from the axis (1 for
parallel rays) over the pixel area. A_2 is the projector of a detector with columns half as wide, to which the
filtered views are interpolated: with Joseph's weights the plain adjoint leaves a moire pattern where rays and
pixels have the same spacing. For fans each weight of A_2 is divided by the distance from the source. Where rays
cross slices (cone beams) ``fdk`` takes over. Source: Kak and Slaney, Principles of Computerized Tomographic
Imaging (1988), chapter 3.

Statistical weights play no part, except that a ray of zero weight (a bad pixel) is replaced by linear
interpolation between its neighbours in the row. An arc shorter than pi plus the fan angle is filtered as it
is: directions nobody measured stay missing, and edges along them are blurred and shaded.
"""

import math
from typing import Annotated, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from pydantic import Field
from torch import Tensor

from priors.runtime.errors import InputError
from priors.runtime.system.memory import MemoryPlan
from recon.geometry.grid import Grid
from recon.geometry.redundancy import Fan, fan_coordinates, redundancy
from recon.geometry.scan import ScanGeometry
from recon.operators.base import LinearOperator
from recon.operators.projector import Projector
from recon.reconstructors.base import Measurement, Reconstructor, RunContext, StepRecord
from recon.reconstructors.fbp.fdk import filtered_backprojection, filtered_backprojection_plan
from recon.reconstructors.fbp.ramp import (
    LARGEST_TOEPLITZ,
    Window,
    centring_margin,
    fill_bad,
    filter_columns,
    ramp_taps,
)

BLOCK = 64


class FBP(Reconstructor):
    """Filtered backprojection on a circular orbit; of cone beams by FDK, on a circle or a helix.

    Attributes:
        filter: window on the ramp, from sharp to smooth.
        cutoff: highest frequency kept, as a fraction of the detector's Nyquist frequency.
    """

    name: Literal["fbp"] = "fbp"
    filter: Window = "ramp"
    cutoff: Annotated[float, Field(gt=0, le=1)] = 1.0

    def __call__(
        self, measurement: Measurement, projector: LinearOperator, context: RunContext
    ) -> Float[Tensor, "z y x"]:
        """Return the attenuation in 1/mm.

        One step, of which no state is kept: an interrupted run starts again.

        Raises:
            InputError: the orbit is not a circle around the z axis (for cones, a circle or a helix), the detector
                is tilted, shapes disagree, or the operator is no projector of this package, whose geometry the filter
                is made for.
        """
        if not isinstance(projector, Projector):
            raise InputError(
                f"fbp: inverts the geometry of a scan, found {type(projector).__name__}, expected a Projector; use "
                "cgls, sirt or tv with an operator of your own"
            )
        wanted = projector.range
        for what, array in (("sinogram", measurement.sinogram), ("weights", measurement.weights)):
            if tuple(array.shape) != wanted:
                raise InputError(f"fbp: found {what} of shape {tuple(array.shape)}, expected {wanted}")
        if not projector.geometry.sliced:
            ramp = (self.filter, self.cutoff)
            grid, scan = projector.grid, projector.geometry
            return filtered_backprojection(measurement, grid, scan, ramp=ramp, on_step=context.on_step)
        volume, fan = projector.grid, fan_coordinates(projector.geometry)
        scale = torch.from_numpy(_scale(fan, volume))
        margin = centring_margin(fan, projector.geometry)
        fine = Projector(half_columns(projector.geometry, margin), volume, backend=projector.backend)
        taps = ramp_taps(fan, projector.geometry, window=self.filter, cutoff=self.cutoff, margin=sum(margin))
        slices, height, width = volume.shape
        image = torch.empty((height, width, slices), dtype=measurement.sinogram.dtype).permute(2, 0, 1)
        blocks = range(0, slices, BLOCK)
        with torch.no_grad():
            for count, start in enumerate(blocks):
                rows = slice(start, min(start + BLOCK, slices))
                views = fill_bad(measurement.sinogram[:, rows].cpu(), measurement.weights[:, rows].cpu())
                line = views.permute(0, 2, 1) * scale[:, :, None].to(views.dtype)
                filtered = filter_columns(line, taps, margin).permute(0, 2, 1)
                image[rows] = fine.slices(rows.start, rows.stop).distance_weighted_adjoint(filtered)
                context.on_step(StepRecord(count + 1, len(blocks), {}))
        return image.to(measurement.sinogram.device)

    def plan(self, grid: Grid, geometry: ScanGeometry) -> MemoryPlan:
        """Return the memory needed beyond the measurement, in bytes."""
        rows, columns = geometry.shape
        rays = geometry.views * columns
        if not geometry.sliced:
            return filtered_backprojection_plan(grid, geometry)
        block = 4 * min(BLOCK, rows) * rays
        return MemoryPlan(
            {
                "volume": 4 * math.prod(grid.shape),
                "ray table": 2 * 34 * rays,
                # Tracing the rays is over before the first block of slices is filtered.
                "sinogram blocks": max(5 * block, 2 * 150 * rays),
                "filter": 12 * columns**2 if columns <= LARGEST_TOEPLITZ else 6 * block,
            }
        )


def _scale(fan: Fan, grid: Grid) -> Float64[np.ndarray, "v c"]:
    cells, weight = redundancy(fan)
    cosine = 1.0 if fan.parallel else np.cos(fan.ray)
    # The lengths of a view's parallel rays in a pixel add up to its area over their spacing, and columns of half the
    # width double that: hence 2 * pixel. The spacing cancels that of the filter, whose taps are for a spacing of one.
    pixel = grid.voxel_mm[1] * grid.voxel_mm[2]
    return np.asarray(weight * cosine * cells[:, None] * fan.radius_mm / (2 * pixel))


def half_columns(geometry: ScanGeometry, margin: tuple[int, int]) -> ScanGeometry:
    """Return the scan with ``margin`` columns more, each cut in two."""
    rows, columns = geometry.shape
    shift = (margin[1] - margin[0]) / 2 * geometry.u_mm
    centre, u = geometry.detector_mm + shift, geometry.u_mm / 2
    if geometry.detector == "curved":
        reach = geometry.detector_mm - geometry.source_mm
        radius, pitch = (np.linalg.norm(x, axis=1, keepdims=True) for x in (reach, geometry.u_mm))
        turn = (margin[1] - margin[0]) / 2 * pitch / radius
        centre = geometry.source_mm + np.cos(turn) * reach + np.sin(turn) * radius / pitch * geometry.u_mm
        u = (np.cos(turn) * geometry.u_mm - np.sin(turn) * pitch / radius * reach) / 2
    wide = (rows, 2 * (columns + sum(margin)))
    return ScanGeometry(geometry.beam, geometry.source_mm, centre, u, geometry.v_mm, wide, geometry.detector)
