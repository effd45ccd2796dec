"""The files of a finished reconstruction.

FOLDER/volume.nii.gz   the volume, float32, HU or 1/mm, affine to patient RAS
FOLDER/deviation.nii.gz, lower.nii.gz, upper.nii.gz   of draws: deviation of the mean's error, ends of the 90 % interval
FOLDER/difference.nii.gz   of two priors: the volume minus that with the other prior
FOLDER/volume.h5, FOLDER/dicom/, ...   the same in the formats asked for
FOLDER/report.html     slices, curves, figures, configuration and versions
FOLDER/metrics.json    fit to the data, time, memory, curves; written last, as the sign of a finished run
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from priors.audits.verdict import notice
from priors.runtime.errors import InputError
from priors.runtime.files.writing import atomic
from priors.runtime.run_folder.privacy import public_yaml
from priors.runtime.run_folder.record import RunFolder, to_json, versions
from recon.data.intervals import IntervalVolume
from recon.data.units import MU_WATER
from recon.data.volume import Volume
from recon.io.volumes.registry import write_nifti, write_volume, writer
from recon.report.reconstruction import Report, write_report
from recon.report.scanner import scanner_png
from recon.report.volumes import Unsure
from recon.run.problem.pose import Problem
from recon.run.solving.solve import Outcome
from recon.run.trust.against import fact
from recon.run.trust.draws import UNSURE_HU
from recon.score.metrics import RUN_METRICS

VOLUME = "volume.nii.gz"
DEVIATION, LOWER, UPPER = "deviation.nii.gz", "lower.nii.gz", "upper.nii.gz"
DIFFERENCE = "difference.nii.gz"
SLABS = "volume.nii"
"""The volume of a run in slabs: not compressed, so that slabs are written in place and nobody must load it whole."""
METRICS = "metrics.json"
REPORT = "report.html"


def save(folder: Path, problem: Problem, outcome: Outcome, *, title: str) -> None:
    """Write volume, report and metrics into a folder.

    Raises:
        InputError: a file cannot be written.
    """
    volume = outcome.volume
    if outcome.slabs is None:
        write_nifti(folder / VOLUME, volume)
    elif problem.settings.formats:
        values, affine = outcome.slabs.values(), problem.scan.affine(problem.whole_grid())
        volume = Volume(values, affine, problem.scan.unit)
    if isinstance(volume, IntervalVolume):
        note = outcome.metrics["draws"]["calibration"]["status"]
        write_nifti(folder / DEVIATION, volume.deviation, note=note)
        write_nifti(folder / LOWER, volume.lower, note=note)
        write_nifti(folder / UPPER, volume.upper, note=note)
    others: dict[str, np.ndarray] = {}
    if outcome.other is not None:
        difference = Volume(
            volume.values - outcome.other.values, volume.affine, volume.unit, grid=volume.grid
        )
        write_nifti(folder / DIFFERENCE, difference)
        others = {f"with {outcome.metrics['against']['prior']}": outcome.other.values}
    for name in problem.settings.formats:
        _write_copy(folder, volume, name)
    method = problem.settings.method.name
    shown = outcome.shown or outcome.volume
    report = Report(
        title=title,
        volumes={method: shown.values, **others},
        affine=shown.affine,
        unit=outcome.volume.unit,
        facts=facts(outcome.metrics),
        curves=outcome.metrics["curves"],
        scores={method: {key: outcome.metrics[key] for key in RUN_METRICS if key in outcome.metrics}},
        pictures={"Scanner": scanner_png(*(problem.scan.whole or (problem.scan.geometry, problem.grid)))},
        warnings=tuple(outcome.metrics["warnings"]),
        unsure=_unsure(outcome.volume),
        notice=notice(outcome.metrics["familiarity"]) if "familiarity" in outcome.metrics else None,
        configuration=public_yaml(problem.settings),
        versions=versions(),
    )
    write_report(folder / REPORT, report)
    with atomic(folder / METRICS) as temporary:
        temporary.write_text(to_json(outcome.metrics) + "\n", encoding="utf-8")


def _unsure(volume: Volume) -> Unsure | None:
    """Return what the report hatches, None without draws."""
    if not isinstance(volume, IntervalVolume):
        return None
    threshold = UNSURE_HU if volume.unit == "HU" else UNSURE_HU / 1000 * MU_WATER
    return Unsure(volume.deviation.values, threshold)


def check_formats(problem: Problem) -> None:
    """Try every format asked for on one voxel: a refusal should not come after the reconstruction.

    Raises:
        InputError: a format cannot hold the scan's unit or axes.
    """
    voxel = np.zeros((1, 1, 1), np.float32)
    volume = Volume(voxel, problem.scan.affine(problem.grid), problem.scan.unit)
    for name in problem.settings.formats:
        with TemporaryDirectory() as scratch:
            path = Path(scratch) / _copy(name)
            try:
                write_volume(path, volume, name=name)
            except InputError as error:
                raise InputError(f"format {name}: {str(error).removeprefix(f'{path}: ')}") from error


def names(problem: Problem) -> list[str]:
    """Return the names of all results of a run, for its manifest; ``*`` and ``?`` stand for what varies."""
    copies = [_copy(name) for name in problem.settings.formats]
    inside = {"dicom": ("dicom/?????.dcm",), "volume.zarr": ("volume.zarr/zarr.json", "volume.zarr/0/*")}
    drawn = [DEVIATION, LOWER, UPPER] if problem.settings.draws > 1 else []
    drawn += [DIFFERENCE] if problem.settings.against is not None else []
    return [VOLUME, *drawn, REPORT, *(pattern for copy in copies for pattern in inside.get(copy, (copy,)))]


def _copy(name: str) -> str:
    """Return what the volume is called in a format; a folder, where names have no ending, is called like the format."""
    endings = writer(Path(name), name).endings
    return f"volume{endings[0]}" if endings else name


def _write_copy(folder: Path, volume: Volume, name: str) -> None:
    path = folder / _copy(name)
    if path.is_dir():
        # Of a run that was interrupted while it wrote its results.
        RunFolder(folder).remove(_copy(name))
    remarks = write_volume(path, volume, name=name)
    print(f"also {path}", file=sys.stderr)
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)


def _reconstructed_on(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return on which grid a volume was reconstructed, where it was resampled afterwards."""
    if "reconstructed_on" not in metrics:
        return {}
    grid, voxel = (
        " x ".join(f"{n:.4g}" for n in metrics["reconstructed_on"][key]) for key in ("grid", "voxel_mm")
    )
    return {"Reconstructed on": f"{grid} voxels of {voxel} mm, then resampled; chi² is of these"}


def facts(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return what stands under the heading of a report."""
    grid, voxel = (" x ".join(f"{n:.4g}" for n in metrics[key]) for key in ("grid", "voxel_mm"))
    stated = {
        "Method": metrics["method"],
        "Views": f"{metrics['views']}, {metrics['beam']} beam",
        "Grid (z, y, x)": f"{grid} voxels of {voxel} mm",
        **_reconstructed_on(metrics),
        "chi² per ray": f"{metrics['chi2_per_ray']:.3f}",
        "Time": f"{metrics['seconds']:.1f} s",
        "Peak memory": f"{metrics['peak_memory_bytes'] / 2**30:.2f} GiB",
    }
    if "draws" in metrics:
        draws = metrics["draws"]
        stated["Draws"] = f"{draws['count']}, intervals {draws['calibration']['status']}"
        stated["Deviation above 100 HU"] = f"{100 * draws['unsure_share']:.2g} % of the voxels"
        stated["Left open by the data"] = (
            f"{100 * draws['null_space_share']:.1f} % of the draws' difference lies where no ray sees it"
        )
    if "against" in metrics:
        stated["The prior decided"] = fact(metrics["against"])
    if "slabs" in metrics:
        slabs = metrics["slabs"]
        stated["Slabs"] = f"{slabs['count']}, of up to {slabs['slices']} slices, overlap {slabs['overlap']}"
        if "border_rms" in slabs:
            worst = f"{slabs['worst_border_rms']:.3g} {metrics['unit']}"
            stated["Two slabs on a border"] = (
                f"{slabs['border_rms']:.3g} {metrics['unit']} rms apart, at most {worst}"
            )
    if "held_out" in metrics:
        unused = metrics["held_out"]
        stated["chi² per ray, held out"] = f"{unused['chi2_per_ray']:.3f} on {unused['views']} views"
    return stated


def result_path(path: Path) -> Path:
    """Return the volume of a run folder, or the path itself.

    Raises:
        InputError: a run folder without a finished volume.
    """
    if path.is_dir() and (path / "config.yaml").exists():
        volume = path / volume_name(path)
        # Slabs are written one after the other: the file is there before it is whole.
        if not volume.exists() or (volume.name == SLABS and not (path / METRICS).exists()):
            raise InputError(
                f"{path}: holds a run without {VOLUME}; it did not finish (--resume continues it)"
            )
        return volume
    return path


def volume_name(folder: Path) -> str:
    """Return the name of the volume in a run folder."""
    return SLABS if (folder / SLABS).exists() and not (folder / VOLUME).exists() else VOLUME
