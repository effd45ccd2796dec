"""What the verbs do, once their options are read: settings in, files out, a few lines printed."""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pydantic import BaseModel

from priors.card import find_prior
from priors.runtime import processes
from priors.runtime.config import settings_of, to_yaml
from priors.runtime.errors import InputError, Interrupted
from priors.runtime.files import atomic
from priors.runtime.memory import available_bytes, human
from priors.runtime.progress import clock
from priors.runtime.record import RunFolder, check_same_config, open_run, to_json
from priors.runtime.shipped import shipped
from recon.data.volume import Volume
from recon.io.scans.registry import Scan, write_scan
from recon.io.volumes.registry import ReadOptions, read_volume, write_nifti
from recon.run import outputs as results
from recon.run.estimate import estimate
from recon.run.problem import Problem, read_problem, solve
from recon.run.settings import (
    PhantomSettings,
    ReconstructSettings,
    SimulateSettings,
    kind_of,
    parse_span,
)
from recon.simulate.phantom.thorax import thorax
from recon.simulate.scan import simulate as simulate_scan

CONFIGS = shipped("configs")


def settings(
    job: str, layers: Sequence[Path] | None, options: Mapping[str, Any], overrides: Sequence[str] | None
) -> Any:
    """Return the validated settings of a job of ``recon.run.settings.JOBS``; see `priors.runtime.config.settings_of`.

    Raises:
        InputError: there is no such job, a file cannot be read, or a key or value is wrong.
    """
    return settings_of(kind_of(job), layers, options, overrides)


def print_settings(chosen: BaseModel) -> None:
    """Print resolved settings as YAML."""
    sys.stdout.write(to_yaml(chosen))


def reconstruct(
    scan: Path,
    chosen: ReconstructSettings,
    out: Path,
    *,
    resume: bool,
    overwrite: bool,
    as_json: bool = False,
) -> dict[str, Any]:
    """Reconstruct ``scan`` into the run folder ``out`` and return the metrics.

    Under ``torchrun`` the processes share the work: the first one writes the run folder, the others nothing.

    Raises:
        InputError: the scan, the settings or the folder cannot be used, or the memory does not suffice.
        Interrupted: with the way to continue.
    """
    with processes.process_group():
        problem = read_problem(scan, chosen)
        results.check_formats(problem)
        problem.plan().require()
        if processes.rank() > 0:
            return _assist(problem, out, resume=resume)
        processes.barrier()
        return _reconstruct(scan, problem, out, resume=resume, overwrite=overwrite, as_json=as_json)


def _assist(problem: Problem, out: Path, *, resume: bool) -> dict[str, Any]:
    """Take a share of a reconstruction that another process writes down."""
    with TemporaryDirectory() as scratch, Path(os.devnull).open("w") as silence, redirect_stderr(silence):
        run = RunFolder(Path(scratch))
        checkpoint = out / "checkpoint.pt"
        if resume and checkpoint.exists():
            shutil.copy(checkpoint, run.file("checkpoint.pt"))
        if resume and (out / results.METRICS).exists():
            processes.barrier()
            return {}
        processes.barrier()
        return solve(problem, run=run, resume=resume).metrics


def _reconstruct(
    scan: Path, problem: Problem, out: Path, *, resume: bool, overwrite: bool, as_json: bool
) -> dict[str, Any]:
    chosen = problem.settings
    run = open_run(out, resume=resume, overwrite=overwrite)
    check_same_config(run, chosen)
    if resume and run.file(results.METRICS).exists():
        print(f"{out}: this run is complete", file=sys.stderr)
        return _finished(run, as_json)
    run.write_config(chosen)
    run.write_inputs(_inputs(scan, chosen), command="reconstruct", seed=chosen.seed)
    run.log(f"{'resume' if resume else 'start'} {chosen.method!r}")
    try:
        outcome = solve(problem, run=run, resume=resume)
    except KeyboardInterrupt:
        run.log("interrupted")
        raise Interrupted(f"continue with the same command and --resume (run folder {out})") from None
    results.save(run, problem, outcome, title=f"{scan.name}, {chosen.method.name}")
    run.file("checkpoint.pt").unlink(missing_ok=True)
    run.log(f"done in {outcome.metrics['seconds']:.1f} s")
    return _finished(run, as_json)


def print_plan(scan: Path, chosen: ReconstructSettings, *, as_json: bool) -> None:
    """Print the memory a reconstruction needs, and the time where the memory suffices."""
    problem = read_problem(scan, chosen)
    plan, free = problem.plan(), available_bytes()
    fits = plan.total <= free
    expected = estimate(problem) if fits else None
    if as_json:
        seconds = None if expected is None else expected.seconds
        told = {"bytes": dict(plan.items), "total_bytes": plan.total, "free_bytes": free, "fits": fits}
        sys.stdout.write(to_json({**told, "seconds": seconds}) + "\n")
        return
    print(plan.table())
    print(f"free now: {human(free)}; this job {'fits' if fits else 'does not fit'}")
    if expected is not None:
        basis = f"{expected.steps} steps, at the pace of a few on {expected.slices} slices"
        print(f"time: about {clock(expected.seconds)} ({basis})")


def simulate(volume: Path, chosen: SimulateSettings, out: Path, *, series: str | None = None) -> None:
    """Simulate a scan of ``volume`` and write it to ``out``."""
    data = simulate_image(read_volume(volume, ReadOptions(series)), chosen)
    write_scan(out, data)
    views, (rows, columns) = data.geometry.views, data.geometry.shape
    z, y, x = data.grid.shape
    print(f"{out}: {views} views of {rows} x {columns} for a grid of {z} x {y} x {x}", file=sys.stderr)


def simulate_image(image: Volume, chosen: SimulateSettings) -> Scan:
    """Return the scan of the chosen slices of a volume."""
    if chosen.slices is not None:
        image = crop(image, chosen.slices)
    return simulate_scan(image, chosen.orbit, i0=chosen.exposure(), grid=chosen.grid, seed=chosen.seed)


def phantom(chosen: PhantomSettings, out: Path) -> None:
    """Write a procedural thorax to ``out``."""
    write_nifti(out, phantom_image(chosen))
    print(f"{out}: {chosen.slices} x {chosen.grid} x {chosen.grid} voxels", file=sys.stderr)


def phantom_image(chosen: PhantomSettings) -> Volume:
    """Return a procedural thorax: x to the patient's left, y to the back, z to the head."""
    voxel_mm = (chosen.slice_mm, chosen.pixel_mm, chosen.pixel_mm)
    values = thorax(chosen.seed, shape=(chosen.slices, chosen.grid, chosen.grid), voxel_mm=voxel_mm)
    return Volume(values, np.diag([-chosen.pixel_mm, -chosen.pixel_mm, chosen.slice_mm, 1.0]), "HU")


def crop(image: Volume, span: str) -> Volume:
    """Return neighbouring slices of a volume, at the same place in space."""
    picked = parse_span(span, image.values.shape[0], "slices")
    if picked.step != 1:
        raise InputError(f"slices: found '{span}', expected neighbours: START:STOP")
    affine = image.affine.copy()
    affine[:3, 3] += picked.start * affine[:3, 2]
    return Volume(image.values[picked.start : picked.stop], affine, image.unit)


def score(
    result: Path, reference: Path, *, window_hu: tuple[float, float], mask: str | None, as_json: str | None
) -> None:
    """Compare two volumes and print or write the figures."""
    figures = results.score_files(result, reference, window_hu=window_hu, mask=mask)
    if as_json == "-":
        sys.stdout.write(to_json(figures) + "\n")
        return
    if as_json is not None:
        with atomic(Path(as_json)) as temporary:
            temporary.write_text(to_json(figures) + "\n", encoding="utf-8")
    for name, value in figures.items():
        if name != "reasons":
            why = figures["reasons"].get(name)
            print(f"{name:<20} {f'not defined: {why}' if why else value}")


def _finished(run: RunFolder, as_json: bool) -> dict[str, Any]:
    """Say where the result is and return its metrics."""
    metrics: dict[str, Any] = json.loads(run.file(results.METRICS).read_text(encoding="utf-8"))
    if as_json:
        sys.stdout.write(to_json(metrics) + "\n")
    else:
        print(f"chi2 per ray {metrics['chi2_per_ray']:.4g}, {metrics['seconds']:.1f} s")
        print(f"volume {run.file(results.VOLUME)}\nreport {run.file(results.REPORT)}")
    return metrics


def _inputs(scan: Path, chosen: ReconstructSettings) -> dict[str, Path]:
    """Return the files a reconstruction depends on."""
    name = getattr(chosen.method, "prior", None)
    return {"scan": scan} if name is None else {"scan": scan, "prior": find_prior(name)}
