"""From a scan file to a problem: read, preprocess, keep the slices and views asked for, lay the grid."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priors.runtime.errors import InputError
from priors.runtime.memory import MemoryPlan
from recon.data.units import attenuation_to_hu
from recon.data.volume import Volume
from recon.geometry.grid import Grid
from recon.io.scans.registry import Scan, read_scan
from recon.operators.projector import Projector
from recon.reconstructors.base import Measurement
from recon.run.settings import ReconstructSettings, parse_span


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be reconstructed.

    Attributes:
        scan: the measurement that is used.
        grid: of the reconstruction.
        held_out: the views kept aside, None where every view is used.
        settings: of the job.
    """

    scan: Scan
    grid: Grid
    held_out: Scan | None
    settings: ReconstructSettings

    def plan(self) -> MemoryPlan:
        """Return the memory needed: the measurement and what the method asks for."""
        items = {"measurement": 2 * self.scan.sinogram.nbytes}
        return MemoryPlan({**items, **self.settings.method.plan(self.grid, self.scan.geometry).items})

    def measurement(self) -> Measurement:
        """Return line integrals and weights as tensors."""
        sinogram, weights = (
            torch.from_numpy(np.ascontiguousarray(array)) for array in (self.scan.sinogram, self.scan.weights)
        )
        return Measurement(sinogram, weights, mu_water=self.scan.mu_water, unit=self.scan.unit)

    def projector(self) -> Projector:
        """Return the projector of the selected views onto the grid."""
        return Projector(self.scan.geometry, self.grid, backend=self.settings.backend)

    def volume(self, attenuation: Float[Tensor, "z y x"]) -> Volume:
        """Return a reconstruction in 1/mm as a volume in the unit of the scan, with its place in space."""
        values = attenuation.detach().cpu().contiguous().numpy()
        if self.scan.unit == "HU":
            values = attenuation_to_hu(values, self.scan.mu_water)
        return Volume(values, self.scan.affine(self.grid), self.scan.unit, grid=self.grid)


def read_problem(path: Path, settings: ReconstructSettings) -> Problem:
    """Read a scan file and pose the problem that the settings describe.

    Raises:
        InputError: the scan cannot be used, or a range picks nothing.
    """
    return pose(read_scan(path), settings)


def pose(scan: Scan, settings: ReconstructSettings) -> Problem:
    """Preprocess a scan and keep the slices and views that the settings ask for.

    Raises:
        InputError: a step of the preprocessing cannot be applied, or a range picks nothing.
    """
    for step in settings.preprocess:
        scan = step(scan)
    if settings.slices is not None:
        span = parse_span(settings.slices, scan.grid.shape[0], "slices")
        if span.step != 1:
            raise InputError(f"slices: found '{settings.slices}', expected neighbours: START:STOP")
        scan = scan.rows(span.start, span.stop)
    grid = scan.grid if settings.grid is None else scan.grid.square(settings.grid)
    if settings.views is None:
        return Problem(scan, grid, None, settings)
    used = np.zeros(scan.geometry.views, dtype=bool)
    used[list(parse_span(settings.views, scan.geometry.views, "views"))] = True
    return Problem(scan[used], grid, None if used.all() else scan[~used], settings)
