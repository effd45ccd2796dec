"""From a scan file to a volume with its record: read, select, reconstruct, check against the data, write.

The quality of fit is chi2 per ray over the rays that count,

    chi2 / m = (1 / m) sum_i w_i ((A x)_i - y_i)^2,      m = number of rays with w_i > 0,

which is 1 when the residual is what the noise explains. Where only some views were used, the same figure on
the views left out says whether the volume predicts data it has not seen.
"""

import json
import resource
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from priors.runtime.errors import InputError
from priors.runtime.memory import MemoryPlan
from priors.runtime.progress import Progress
from priors.runtime.record import RunFolder, to_json
from recon.data.units import attenuation_to_hu
from recon.data.volume import Volume
from recon.geometry.grid import Grid
from recon.io.scans.registry import Scan, read_scan
from recon.operators.projector import Projector
from recon.reconstructors.base import Measurement, RunContext, StepRecord
from recon.run.settings import ReconstructSettings, parse_span

Curves = dict[str, list[tuple[float, float]]]


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be reconstructed: the selected data, the grid, and the views kept aside."""

    data: Scan
    grid: Grid
    held_out: Scan | None
    settings: ReconstructSettings

    def plan(self) -> MemoryPlan:
        """Return the memory needed: the measurement and what the method asks for."""
        items = {"measurement": 2 * self.data.sinogram.nbytes}
        return MemoryPlan({**items, **self.settings.method.plan(self.grid, self.data.geometry).items})

    def measurement(self) -> Measurement:
        """Return line integrals and weights as tensors."""
        data = self.data
        sinogram, weights = (torch.from_numpy(np.ascontiguousarray(a)) for a in (data.sinogram, data.weights))
        return Measurement(sinogram, weights, mu_water=data.mu_water)

    def projector(self) -> Projector:
        """Return the projector of the selected views onto the grid."""
        return Projector(self.data.geometry, self.grid, backend=self.settings.backend)

    def image(self, attenuation: Float[Tensor, "z y x"]) -> Volume:
        """Return a reconstruction in the unit of the scan, placed in space."""
        values = attenuation.detach().cpu().contiguous().numpy()
        if self.data.unit == "HU":
            values = attenuation_to_hu(values, self.data.mu_water)
        return Volume(values.astype(np.float32), self.data.affine(self.grid), self.data.unit)


@dataclass(frozen=True, eq=False)
class Outcome:
    """A finished reconstruction: the volume and its figures, the curves of its iterations among them."""

    image: Volume
    metrics: dict[str, Any]


class StepFile:
    """The figures of every iteration, one JSON line each, so that a resumed run keeps its earlier ones."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        """Continue the file or start it afresh."""
        self._path = path
        self._rows: list[dict[str, float]] = []
        if resume and path.exists():
            self._rows = [row for line in path.read_text().splitlines() if (row := _row(line)) is not None]
        path.unlink(missing_ok=True)
        for row in self._rows:
            self._append(row)

    def add(self, record: StepRecord) -> None:
        """Keep one record; a step that was done before being interrupted is replaced."""
        row = {"iteration": float(record.iteration), **{k: float(v) for k, v in record.figures.items()}}
        self._rows = [old for old in self._rows if old["iteration"] < row["iteration"]] + [row]
        self._append(row)

    def curves(self) -> Curves:
        """Return figure -> (iteration, value) pairs."""
        found: Curves = {}
        for row in self._rows:
            for name, value in row.items():
                if name != "iteration":
                    found.setdefault(name, []).append((row["iteration"], value))
        return found

    def _append(self, row: dict[str, float]) -> None:
        with self._path.open("a") as stream:
            stream.write(to_json(row, indent=None) + "\n")


def _row(line: str) -> dict[str, float] | None:
    """Return a line of the file, None for one that a kill cut short."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return {name: float("nan") if value is None else value for name, value in row.items()}


def read_problem(path: Path, settings: ReconstructSettings) -> Problem:
    """Read a scan and keep the slices and views that the settings ask for.

    Raises:
        InputError: the scan cannot be used, or a range picks nothing.
    """
    data = read_scan(path)
    for step in settings.preprocess:
        data = step(data)
    volume = data.grid
    if settings.slices is not None:
        picked = parse_span(settings.slices, volume.shape[0], "slices")
        if picked.step != 1:
            raise InputError(f"slices: found '{settings.slices}', expected neighbours: START:STOP")
        data = rows(data, picked.start, picked.stop)
        volume = data.grid
    if settings.grid is not None:
        volume = _square(volume, settings.grid)
    if settings.views is None:
        return Problem(data, volume, None, settings)
    used = np.zeros(data.geometry.views, dtype=bool)
    used[list(parse_span(settings.views, data.geometry.views, "views"))] = True
    return Problem(data[used], volume, None if used.all() else data[~used], settings)


def solve(problem: Problem, *, run: RunFolder, resume: bool) -> Outcome:
    """Run the method, showing progress and logging every step.

    Raises:
        InputError: the method cannot work with this scan.
    """
    method, steps = problem.settings.method, StepFile(run.file("steps.jsonl"), resume=resume)
    measurement, projector = problem.measurement(), problem.projector()
    wall, cpu = time.perf_counter(), time.process_time()
    with Progress(1, method.name) as progress:

        def on_step(record: StepRecord) -> None:
            progress.total = record.total
            progress.step(done=record.iteration, **record.figures)
            steps.add(record)

        job = RunContext(problem.settings.seed, run.file("checkpoint.pt"), resume, on_step)
        attenuation = method(measurement, projector, job)
    seconds = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    if not bool(torch.isfinite(attenuation).all()):
        raise InputError(f"{method.name}: the result is not finite; check the scan's values and weights")
    metrics = {**describe(problem), **fit(problem, attenuation, projector), **seconds}
    metrics["peak_memory_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    metrics["curves"] = steps.curves()
    return Outcome(problem.image(attenuation), metrics)


def fit(problem: Problem, attenuation: Float[Tensor, "z y x"], projector: Projector) -> dict[str, Any]:
    """Return the residual of a volume on the rays used and on those held out."""
    with torch.no_grad():
        figures: dict[str, Any] = _fit(problem.data, projector(attenuation).cpu().numpy())
        if problem.held_out is not None:
            aside = Projector(problem.held_out.geometry, problem.grid, backend=problem.settings.backend)
            unseen = _fit(problem.held_out, aside(attenuation).cpu().numpy())
            figures["held_out"] = {**unseen, "views": problem.held_out.geometry.views}
    return figures


def describe(problem: Problem) -> dict[str, Any]:
    """Return what was reconstructed from what."""
    scan = problem.data.geometry
    return {
        "method": problem.settings.method.name,
        "seed": problem.settings.seed,
        "beam": scan.beam,
        "views": scan.views,
        "detector": list(scan.shape),
        "grid": list(problem.grid.shape),
        "voxel_mm": list(problem.grid.voxel_mm),
        "unit": problem.data.unit,
    }


def _fit(data: Scan, projection: Float[np.ndarray, "v r c"]) -> dict[str, float]:
    """Return chi2 per ray and the relative residual of a projection."""
    counted = data.weights > 0
    residual = (projection.astype(np.float64) - data.sinogram)[counted]
    norm = float(np.linalg.norm(data.sinogram[counted]))
    return {
        "chi2_per_ray": float((data.weights[counted] * residual**2).mean()),
        "relative_residual": float(np.linalg.norm(residual)) / norm,
        "rays": int(counted.sum()),
    }


def rows(data: Scan, start: int, stop: int) -> Scan:
    """Return the scan seen by some detector rows; they are the slices of parallel and fan beams.

    Raises:
        InputError: rays cross slices, so that no slice can be reconstructed alone.
    """
    if not data.geometry.sliced:
        raise InputError(
            f"slices: the rays of a {data.geometry.beam} beam cross slices, expected all of them"
        )
    counts = None if data.counts is None else data.counts[:, start:stop]
    scan, volume = data.geometry.rows(start, stop), data.grid.slices(start, stop)
    sinogram, weights = data.sinogram[:, start:stop], data.weights[:, start:stop]
    return replace(data, geometry=scan, grid=volume, sinogram=sinogram, weights=weights, counts=counts)


def _square(volume: Grid, pixels: int) -> Grid:
    """Return the grid with ``pixels`` x ``pixels`` over the larger side of the slice."""
    (z, y, x), (dz, dy, dx) = volume.shape, volume.voxel_mm
    pixel = max(y * dy, x * dx) / pixels
    return Grid((z, pixels, pixels), (dz, pixel, pixel), volume.centre_mm)
