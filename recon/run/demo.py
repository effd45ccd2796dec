"""The demonstration: a chest nobody trained on, its low-dose scan, and every method on it.

phantom (seed reserved for demonstrations) -> scan.h5 -> one run folder per method -> scores, report.html
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from priors.runtime.report.tables import text_table
from priors.runtime.run_folder.privacy import public_yaml
from priors.runtime.run_folder.record import RunFolder, open_run, versions
from recon.data.resample import resample
from recon.data.volume import Volume
from recon.io.scans.registry import write_scan
from recon.io.volumes.registry import read_volume, write_nifti
from recon.report.reconstruction import Report, write_report
from recon.run import outputs
from recon.run.jobs import reconstruct
from recon.run.scores.scoring import score_volumes
from recon.run.settings import DemoSettings
from recon.run.simulation import phantom_volume, scan_of
from recon.score.metrics import FULL_WINDOW_HU, METRICS, RUN_METRICS


def run(resolved: DemoSettings, out: Path, *, overwrite: bool) -> None:
    """Run the demonstration in the folder ``out`` and print scores and where the report is."""
    with open_run(out, overwrite=overwrite) as folder:
        _run(resolved, folder, overwrite=overwrite)


def _run(resolved: DemoSettings, folder: RunFolder, *, overwrite: bool) -> None:
    folder.claim("phantom.nii.gz", "scan.h5", outputs.REPORT)
    folder.write_config(resolved)
    truth = phantom_volume(resolved.phantom)
    write_nifti(folder.file("phantom.nii.gz"), truth)
    write_scan(folder.file("scan.h5"), scan_of(truth, resolved.simulate))
    scores: dict[str, dict[str, Any]] = {}
    volumes: dict[str, Volume] = {}
    for name, settings in resolved.reconstructions.items():
        run = folder.file(name)
        metrics = reconstruct(folder.file("scan.h5"), settings, run, resume=False, overwrite=overwrite)
        volumes[name] = read_volume(outputs.result_path(run))
        figures = score_volumes(volumes[name], truth, window_hu=FULL_WINDOW_HU, mask=None)
        scores[name] = {**figures, **{key: metrics[key] for key in RUN_METRICS if key in metrics}}
    folder.write_json(outputs.METRICS, scores)
    _report(folder, resolved, volumes=volumes, truth=truth, scores=scores)
    print(table(scores))
    print(f"report {folder.file(outputs.REPORT)}")


def table(scores: dict[str, dict[str, Any]]) -> str:
    """Return the scores as aligned text, one method per line."""
    shown = [metric for metric in METRICS if metric.summary]
    rows = ((method, [metric.cell(row, ".4g") for metric in shown]) for method, row in scores.items())
    return text_table("method", [metric.heading for metric in shown], rows)


def _report(
    folder: RunFolder,
    resolved: DemoSettings,
    *,
    volumes: dict[str, Volume],
    truth: Volume,
    scores: dict[str, Any],
) -> None:
    """Write the report that compares all methods with the phantom."""
    first = next(iter(volumes.values()))
    last = json.loads(folder.file(list(volumes)[-1]).joinpath(outputs.METRICS).read_text(encoding="utf-8"))
    views, photons = last["views"], f"{resolved.simulate.i0:g} photons per ray"
    shown = {name: volume.values for name, volume in reversed(volumes.items())}
    write_report(
        folder.file(outputs.REPORT),
        Report(
            title="Demonstration: a procedural chest",
            volumes={**shown, "phantom": np.nan_to_num(resample(truth, first), nan=-1000.0)},
            affine=first.affine,
            facts={"Scan": f"{views} views, {last['beam']} beam, {photons}"},
            curves={f"{last['method']}: {name}": points for name, points in last["curves"].items()},
            scores=scores,
            configuration=public_yaml(resolved),
            versions=versions(),
        ),
    )
