"""From a scan file to a problem: read, preprocess, keep the slices and views asked for, lay the grid."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priors.runtime.errors import InputError
from priors.runtime.system.memory import MemoryPlan
from recon.data.scan import check_seen
from recon.data.units import attenuation_to_hu
from recon.data.volume import Volume
from recon.geometry.grid import Grid
from recon.io.scans.registry import Scan, ScanOptions, read_scan
from recon.operators.projector import Projector
from recon.preprocess import Centre
from recon.reconstructors.base import Measurement
from recon.run.problem.prior_grid import grid_for, resampled
from recon.run.settings import ReconstructSettings, parse_span

DRAWN_VOLUMES = 6
"""Volumes that draws need beside the method: mean, squares, difference, warm start, and two in work."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be reconstructed.

    Attributes:
        scan: the measurement that is used.
        grid: of the reconstruction.
        held_out: the views kept aside, None where every view is used.
        settings: of the job.
        asked: grid of the volume, where it is resampled from that of the reconstruction; None where it is that one.
        chosen: settings of the method that the scan decided, by dotted key.
        before: the settings before the scan decided; None where it decided nothing.
    """

    scan: Scan
    grid: Grid
    held_out: Scan | None
    settings: ReconstructSettings
    asked: Grid | None = None
    chosen: Mapping[str, Any] = field(default_factory=dict)
    before: ReconstructSettings | None = None

    def resolved(self) -> "Problem":
        """Return the problem with a number in place of every setting that follows the scan.

        Raises:
            InputError: the method cannot tell from this scan.
        """
        method = self.settings.method
        if not method.automatic:
            return self
        settled = method.resolved(self.measurement(), self.projector())
        waiting, known = _flat(method.model_dump()), _flat(settled.model_dump())
        chosen = {key: known[key] for key, value in waiting.items() if value != known[key]}
        settings = self.settings.model_copy(update={"method": settled})
        return replace(self, settings=settings, chosen=chosen, before=self.settings)

    @property
    def slices(self) -> int:
        """Slices of the whole job, of which a plan or a look may have read a few only."""
        return (self.grid if self.scan.whole is None else self.scan.whole[1]).shape[0]

    @property
    def written(self) -> Grid:
        """Grid of the volume, to which the reconstruction is resampled where that is on another."""
        return self.grid if self.asked is None else self.asked

    def whole_grid(self) -> Grid:
        """Return the grid of the volume of the whole job."""
        if self.scan.whole is None:
            return self.written
        grid, size = self.scan.whole[1], self.settings.grid
        return grid if size is None else grid.square(size)

    def plan(self, slices: int | None = None) -> MemoryPlan:
        """Return the memory needed: the measurement and what the method asks for.

        Args:
            slices: of a stack that are reconstructed at a time; None stands for the whole job.
        """
        geometry, grid = self.scan.geometry, self.grid
        if slices is None and self.scan.whole is not None:
            # Some slices stand for all: the plan is that of all.
            slices = self.slices
        if slices is not None:
            geometry = replace(geometry, shape=(slices, geometry.shape[1]))
            grid = Grid((slices, *grid.shape[1:]), grid.voxel_mm, grid.centre_mm)
        arrays = 2 if self.scan.counts is None else 3
        sizes = {"measurement": arrays * 4 * geometry.views * geometry.shape[0] * geometry.shape[1]}
        if self.settings.draws > 1:
            sizes["sums of the draws"] = DRAWN_VOLUMES * 4 * math.prod(grid.shape)
        if self.settings.against is not None:
            sizes["volume of the other prior"] = 2 * 4 * math.prod(grid.shape)
        if self.asked is not None:
            sizes["resampled volume"] = 4 * grid.shape[0] * math.prod(self.asked.shape[1:])
        return MemoryPlan({**sizes, **self.settings.method.plan(grid, geometry).items})

    def rows(self, start: int, stop: int) -> "Problem":
        """Return the reconstruction of some slices of a stack."""
        held_out = None if self.held_out is None else self.held_out.rows(start, stop)
        return replace(
            self,
            scan=self.scan.rows(start, stop),
            grid=self.grid.slices(start, stop),
            held_out=held_out,
            asked=None if self.asked is None else self.asked.slices(start, stop),
        )

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
        volume = Volume(values, self.scan.affine(self.grid), self.scan.unit, grid=self.grid)
        if self.asked is None:
            return volume
        values = resampled(volume, self.asked)
        return Volume(values, self.scan.affine(self.asked), self.scan.unit, grid=self.asked)


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the leaves of nested settings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        inside = _flat(value) if isinstance(value, dict) else None
        flat |= {key: value} if inside is None else {f"{key}.{k}": v for k, v in inside.items()}
    return flat


def said_of(chosen: Mapping[str, Any]) -> str:
    """Return settings that the scan decided in words."""
    return ", ".join(f"{key} {value:.4g}" for key, value in chosen.items())


def decisive(problem: Problem) -> dict[str, Any]:
    """Return everything that decides the result, but for the prior; see `priors.runtime.run_folder.fingerprint`.

    Of a scan of which some slices were read the values are theirs; the file's hash stands for the others.
    """
    scans = {"scan": problem.scan, "held-out views": problem.held_out}
    measured = {
        name: None if scan is None else [scan.sinogram, scan.weights, scan.counts, scan.mu_water, scan.unit]
        for name, scan in scans.items()
    }
    scan = problem.scan
    space = {"geometry": scan.geometry, "grid": problem.whole_grid(), "place": scan.frame}
    return {"settings": problem.settings, **measured, **space}


def read_problem(
    path: Path,
    settings: ReconstructSettings,
    *,
    sample: int | None = None,
    centre: float | None = None,
    part: tuple[int, int] | None = None,
) -> Problem:
    """Read a scan file and pose the problem that the settings describe.

    Slices are chosen before the steps of the preprocessing: what is not reconstructed is not read where a file allows.

    Args:
        path: scan file.
        settings: of the job.
        sample: slices that stand for all of them, where only the size of the problem is asked for.
        centre: column of the rotation axis where it is known already; None takes it from settings, file or data.
        part: slices START, STOP of those that the settings choose; None reads all of these.

    Raises:
        InputError: the scan cannot be used, or a range picks nothing.
    """
    stated = [step.column for step in settings.preprocess if isinstance(step, Centre)]
    options = ScanOptions(
        pick=None if settings.slices is None and part is None else partial(_pick, settings.slices, part),
        sample=sample,
        centre=next((column for column in stated if column is not None), centre),
    )
    problem = pose(read_scan(path, options), settings.model_copy(update={"slices": None}))
    if part is None and sample is None:
        # A slab may see no object; what a person picked must.
        check_seen(problem.scan.sinogram, problem.scan.weights)
    return replace(problem, settings=settings)


def _pick(slices: str | None, part: tuple[int, int] | None, total: int) -> tuple[int, int]:
    """Return the first slice to read and the end."""
    first, end = (0, total) if slices is None else _span(slices, total)
    return (first, end) if part is None else (first + part[0], first + part[1])


def _span(slices: str, total: int) -> tuple[int, int]:
    """Return the first slice of a range and its end.

    Raises:
        InputError: it picks nothing, or no neighbours.
    """
    span = parse_span(slices, total, "slices")
    if span.step != 1:
        raise InputError(f"slices: found '{slices}', expected neighbours: START:STOP")
    return span.start, span.stop


def pose(scan: Scan, settings: ReconstructSettings) -> Problem:
    """Preprocess a scan and keep the slices and views that the settings ask for.

    Raises:
        InputError: a step of the preprocessing cannot be applied, or a range picks nothing.
    """
    for step in settings.preprocess:
        scan = step(scan)
    if settings.slices is not None:
        scan = scan.rows(*_span(settings.slices, scan.grid.shape[0]))
        check_seen(scan.sinogram, scan.weights)
    asked = scan.grid if settings.grid is None else scan.grid.square(settings.grid)
    grid = grid_for(settings.method, asked) if settings.prior_grid else asked
    other = None if grid == asked else asked
    if settings.views is None:
        return Problem(scan, grid, None, settings, other)
    used = np.zeros(scan.geometry.views, dtype=bool)
    used[list(parse_span(settings.views, scan.geometry.views, "views"))] = True
    return Problem(scan[used], grid, None if used.all() else scan[~used], settings, other)
