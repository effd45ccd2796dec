"""What a reconstruction leaves behind, and how it is compared with a reference.

RUN/volume.nii.gz   the volume, float32, HU or 1/mm, affine to patient RAS
RUN/volume.h5, RUN/dicom/, ...   the same in the formats asked for
RUN/metrics.json    fit to the data, time, memory, curves
RUN/report.html     all of it to look at
"""

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from jaxtyping import Float

from priors.runtime.config import to_yaml
from priors.runtime.errors import InputError
from priors.runtime.record import RunFolder, versions
from recon.data.resample import resample
from recon.data.volume import Volume
from recon.inspect.warnings import warnings_of
from recon.io.volumes.registry import read_volume, write_nifti, write_volume, writer
from recon.report.reconstruction import Report, write_report
from recon.report.scanner import scanner_png
from recon.run.problem import Outcome, Problem
from recon.score.metrics import body_mask, score

VOLUME = "volume.nii.gz"
METRICS = "metrics.json"
REPORT = "report.html"


def save(run: RunFolder, problem: Problem, outcome: Outcome, *, title: str) -> None:
    """Write volume, metrics and report into the run folder; metrics last, as the sign of a finished run."""
    write_nifti(run.file(VOLUME), outcome.image)
    for name in problem.settings.formats:
        _write_copy(run, outcome.image, name)
    method = problem.settings.method.name
    report = Report(
        title=title,
        volumes={method: outcome.image.values},
        affine=outcome.image.affine,
        unit=outcome.image.unit,
        facts=facts(outcome.metrics),
        curves=outcome.metrics["curves"],
        scores={method: {key: outcome.metrics[key] for key in ("chi2_per_ray", "seconds")}},
        pictures={"Scanner": scanner_png(problem.data.geometry, problem.grid)},
        warnings=warnings_of(problem.data),
        configuration=to_yaml(problem.settings),
        versions=versions(),
    )
    write_report(run.file(REPORT), report)
    run.write_json(METRICS, outcome.metrics)


def check_formats(problem: Problem) -> None:
    """Try every format asked for on one voxel: a refusal should not come after the reconstruction.

    Raises:
        InputError: a format cannot hold the scan's unit or axes.
    """
    voxel = np.zeros((1, 1, 1), np.float32)
    image = Volume(voxel, problem.data.affine(problem.grid), problem.data.unit)
    for name in problem.settings.formats:
        with TemporaryDirectory() as scratch:
            place = Path(scratch) / _copy(name)
            try:
                write_volume(place, image, name=name)
            except InputError as error:
                raise InputError(f"format {name}: {str(error).removeprefix(f'{place}: ')}") from error


def _copy(name: str) -> str:
    """Return what the volume is called in a format; a folder, where names have no ending, is called like the format."""
    endings = writer(Path(name), name).endings
    return f"volume{endings[0]}" if endings else name


def _write_copy(run: RunFolder, image: Volume, name: str) -> None:
    place = run.file(_copy(name))
    if place.is_dir():
        # Of a run that was interrupted while it wrote its results.
        shutil.rmtree(place)
    remarks = write_volume(place, image, name=name)
    print(f"also {place}", file=sys.stderr)
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)


def facts(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return what stands under the heading of a report."""
    grid, voxel = (" x ".join(f"{n:.4g}" for n in metrics[key]) for key in ("grid", "voxel_mm"))
    told = {
        "Method": metrics["method"],
        "Views": f"{metrics['views']}, {metrics['beam']} beam",
        "Grid (z, y, x)": f"{grid} voxels of {voxel} mm",
        "chi² per ray": f"{metrics['chi2_per_ray']:.3f}",
        "Time": f"{metrics['seconds']:.1f} s",
        "Peak memory": f"{metrics['peak_memory_bytes'] / 2**30:.2f} GiB",
    }
    if "held_out" in metrics:
        aside = metrics["held_out"]
        told["chi² per ray, held out"] = f"{aside['chi2_per_ray']:.3f} on {aside['views']} views"
    return told


def result_path(path: Path) -> Path:
    """Return the volume of a run folder, or the path itself.

    Raises:
        InputError: a run folder without a finished volume.
    """
    if path.is_dir() and (path / "config.yaml").exists():
        if not (path / VOLUME).exists():
            raise InputError(
                f"{path}: holds a run without {VOLUME}; it did not finish (--resume continues it)"
            )
        return path / VOLUME
    return path


def score_files(
    result: Path, reference: Path, *, window_hu: tuple[float, float], mask: str | None
) -> dict[str, Any]:
    """Compare a result with a reference that is resampled to the result's grid by its geometry.

    Args:
        result: run folder or volume.
        reference: volume.
        window_hu: see ``recon.score.metrics.score``.
        mask: "body" to compare inside the reference's body only, None for every voxel.

    Raises:
        InputError: a file cannot be read, is not in HU, or the two do not overlap.
    """
    image, truth = read_volume(result_path(result)), read_volume(reference)
    for path, volume in ((result, image), (reference, truth)):
        if volume.unit != "HU":
            raise InputError(f"{path}: found a volume in {volume.unit}, expected HU")
    return score_images(image, truth, window_hu=window_hu, mask=mask)


def score_images(
    image: Volume, truth: Volume, *, window_hu: tuple[float, float], mask: str | None
) -> dict[str, Any]:
    """Compare two volumes in HU; see ``score_files``."""
    values = resample(truth, image)
    return score(image.values, values, window_hu=window_hu, mask=_mask(values, mask))


def _mask(values: Float[np.ndarray, "z y x"], kind: str | None) -> np.ndarray | None:
    """Return the voxels to compare."""
    if kind is None:
        return None
    if kind != "body":
        raise InputError(f"mask: found '{kind}', expected 'body'")
    return body_mask(np.nan_to_num(values, nan=-1000.0))
