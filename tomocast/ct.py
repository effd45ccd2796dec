"""CT of the public face: read, reconstruct, score; nothing is printed and no run folder is written."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from priors.card import AnyPrior
from priors.runtime.config import load, validate
from priors.runtime.errors import InputError
from priors.runtime.files.permissions import nonsense_in_python, used
from recon.data.intervals import IntervalVolume
from recon.data.scan import Scan, check_line_integrals, check_seen
from recon.data.units import MU_WATER, attenuation_to_hu
from recon.data.volume import Volume, as_float32, grid_affine
from recon.geometry import orbits
from recon.geometry.grid import Grid
from recon.geometry.scan import ScanGeometry
from recon.io.scans.registry import read_scan as _read_scan
from recon.io.volumes.format import ReadOptions
from recon.io.volumes.registry import read_volume as _read_volume
from recon.operators.base import LinearOperator, grid_of
from recon.operators.projector import Projector
from recon.reconstructors.base import Measurement, Reconstructor, RunContext, StepRecord
from recon.reconstructors.checkpoint import Checkpoint
from recon.run.checks.nonsense import check_problem, check_result, check_size, check_values
from recon.run.problem.pose import pose
from recon.run.scores.scoring import read_result, score_volumes
from recon.run.settings import ReconstructSettings
from recon.run.solving.solve import solve

__all__ = [
    "Grid",
    "IntervalVolume",
    "Projector",
    "Scan",
    "ScanGeometry",
    "Volume",
    "orbits",
    "read_scan",
    "read_volume",
    "reconstruct",
    "reconstruct_with",
    "score",
]


def read_scan(path: str | Path) -> Scan:
    """Return the scan in a file or folder: line integrals with weights, geometry and a suggested grid.

    Raises:
        InputError: it does not exist, is of an unknown kind or damaged, or holds what no scanner measures.
    """
    return _read_scan(Path(path))


def read_volume(path: str | Path, *, series: str | None = None) -> Volume:
    """Return the volume in a file, folder or zip archive: values (z, y, x) in HU or 1/mm, affine, grid.

    Args:
        path: DICOM, NIfTI, MetaImage, NRRD, TIFF, Zarr, HDF5 or NumPy.
        series: SeriesInstanceUID, or its ending, where a DICOM folder holds several.

    Raises:
        InputError: it does not exist, is damaged, or its unit or geometry is not known.
    """
    return _read_volume(Path(path), ReadOptions(series))


def reconstruct(
    scan: Scan | str | Path,
    method: str | Reconstructor = "fbp",
    *,
    prior: AnyPrior | None = None,
    seed: int = 0,
    draws: int = 1,
    settings: Mapping[str, Any] | None = None,
    checkpoint: str | Path | None = None,
    on_step: Callable[[StepRecord], None] | None = None,
    force: bool = False,
    **options: Any,
) -> Volume:
    """Reconstruct a volume, as ``tomocast reconstruct`` does.

    Args:
        scan: a scan, or a file of one.
        method: fbp, cgls, sirt, tv, nerd-fast, nerd-admm, nerd-pdhg, or a `Reconstructor`.
        prior: of the diffusion methods: the name of an embedded prior, a folder with a card, a loaded `Prior`,
            or a `Denoiser` that knows its units.
        seed: of every random draw.
        draws: reconstructions with the seeds seed, seed + 1, ... of a diffusion method; of several, an `IntervalVolume`
            is returned, their mean with ``deviation``, ``lower`` and ``upper``.
        settings: of the job beside the method: ``views``, ``slices``, ``grid``, ``backend``, ``preprocess``.
        checkpoint: file that keeps the state, to continue from when it exists; None keeps none.
        on_step: called after every iteration or noise level.
        force: go on with what cannot be right (the checks of ``--force`` on the command line), with a warning.
        options: of the method, such as ``weight=0.3`` for tv (``tomocast config schema`` lists them).

    Returns:
        A volume in HU (in 1/mm where the scan does not say what water attenuates), with the grid and the affine, and
        the figures of the fit in ``metrics``.

    Raises:
        InputError: the scan or a setting cannot be used, the memory does not suffice, or scan or result
            cannot be right.
    """
    described = _method(method, prior, options)
    job = load(ReconstructSettings, [{**(settings or {}), "method": described, "seed": seed, "draws": draws}])
    problem = pose(scan if isinstance(scan, Scan) else read_scan(scan), job)
    with nonsense_in_python(force=force):
        check_problem(problem)
        forced = used()
    problem.plan().require()
    problem = problem.resolved()
    kept = None if checkpoint is None else Checkpoint(Path(checkpoint), resume=True)
    context = RunContext(seed, kept) if on_step is None else RunContext(seed, kept, on_step)
    try:
        outcome = solve(problem, context)
    except KeyboardInterrupt:
        if kept is not None:
            kept.save()
        raise
    with nonsense_in_python(force=force):
        check_result(outcome.volume, outcome.metrics)
        forced += used()
    if forced:
        outcome.metrics["warnings"] = forced
    return replace(outcome.volume, metrics=outcome.metrics)


def reconstruct_with(
    operator: LinearOperator,
    values: Any,
    method: str | Reconstructor = "tv",
    *,
    weights: Any = None,
    prior: AnyPrior | None = None,
    seed: int = 0,
    mu_water: float = MU_WATER,
    force: bool = False,
    **options: Any,
) -> Volume:
    """Reconstruct from values measured by an operator of one's own.

    Args:
        operator: A, with the grid of its volumes.
        values: line integrals or whatever A returns for attenuation in 1/mm, of its range.
        method: tv, cgls or a diffusion method; those that need the views of a scan (fbp, sirt) say so.
        weights: inverse variances of ``values``; 1 by default, which says that their deviation is 1.
        prior: see `reconstruct`.
        seed: of every random draw.
        mu_water: attenuation of water in 1/mm, which places HU.
        force: go on with what cannot be right (the checks of ``--force`` on the command line), with a warning.
        options: of the method.

    Returns:
        A volume in HU on the operator's grid.

    Raises:
        InputError: shapes or settings do not fit, the method needs more than A and A.T, or the result cannot be
            right.
    """
    measured = as_float32(values, "values")
    given = np.ones_like(measured) if weights is None else as_float32(weights, "weights")
    for name, array in (("values", measured), ("weights", given)):
        if array.shape != operator.range:
            raise InputError(
                f"{name}: found shape {array.shape}, expected that of the operator {operator.range}"
            )
    check_line_integrals(measured, given)
    check_seen(measured, given)
    described = _method(method, prior, options)
    job = load(ReconstructSettings, [{"method": described, "seed": seed}])
    grid = grid_of(operator, job.method.name)
    data = Measurement(torch.from_numpy(measured), torch.from_numpy(given), mu_water)
    attenuation = job.method(data, operator, RunContext(seed)).detach().cpu().numpy()
    volume = Volume(attenuation_to_hu(attenuation, mu_water), grid_affine(grid), "HU", grid=grid)
    with nonsense_in_python(force=force):
        check_size(grid, "grid")
        check_values(volume)
    return volume


def score(
    volume: Volume | str | Path,
    reference: Volume | str | Path,
    *,
    window_hu: tuple[float, float] = (-1000.0, 1000.0),
    mask: str | None = None,
) -> dict[str, Any]:
    """Compare a volume with a reference, as ``tomocast score volume`` does.

    Args:
        volume: a volume in HU, a file of one, or the run folder of a reconstruction.
        reference: what it should be; it is resampled to the grid of ``volume`` by its affine.
        window_hu: range of values compared.
        mask: "body" compares inside the reference's body only.

    Returns:
        PSNR in dB, RMSE in HU, SSIM in three planes and in 3-D, by name.

    Raises:
        InputError: a file cannot be read, a volume is not in HU, or the two do not overlap.
    """
    return score_volumes(_volume(volume), _volume(reference), window_hu=window_hu, mask=mask)


def _volume(given: Volume | str | Path) -> Volume:
    """Return a volume in HU."""
    volume = given if isinstance(given, Volume) else read_result(Path(given))
    if volume.unit != "HU":
        name = "volume" if isinstance(given, Volume) else str(given)
        raise InputError(f"{name}: found a volume in {volume.unit}, expected HU")
    return volume


def _method(method: str | Reconstructor, prior: AnyPrior | None, options: dict[str, Any]) -> Any:
    """Return a method as settings take it."""
    given = options if prior is None else {**options, "prior": prior}
    if isinstance(method, str):
        return {"name": method, **given}
    return validate(type(method), {**dict(method), **given}, source="method") if given else method
