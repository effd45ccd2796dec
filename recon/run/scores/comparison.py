"""Several methods on one scan, each in a process of its own, and one table and report of all of them.

FOLDER/runs/LABEL/        an ordinary run folder per method (and prior), which ``--resume`` continues
FOLDER/comparison.json    one row per method
FOLDER/report.html        synchronised views of every volume and of what each lacks of the reference

A process per method makes seconds and peak memory those of the method alone, and a method that fails or is killed
costs no other method's result.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from priors.runtime.config import to_yaml
from priors.runtime.errors import InputError, Interrupted
from priors.runtime.files import permissions
from priors.runtime.output import check_json, emit_json
from priors.runtime.report.tables import text_table
from priors.runtime.run_folder.record import (
    RunFolder,
    check_same_config,
    describe_input,
    open_run,
    versions,
)
from recon.data.resample import resample
from recon.data.volume import Volume
from recon.io.volumes.registry import read_volume
from recon.report.reconstruction import Report, write_report
from recon.run import outputs
from recon.run.jobs import CONFIGS, settings
from recon.run.scores.scoring import score_volumes
from recon.run.settings import ReconstructSettings
from recon.run.solving.watch import BY_CALLS, read_reference
from recon.score.metrics import FULL_WINDOW_HU, METRICS

ROWS = "comparison.json"
# One row has the scores of short tables and all that a run measures of itself.
COLUMNS = tuple(metric for metric in METRICS if metric.summary or metric.compute is None)


class CompareSettings(BaseModel):
    """What is compared: resolved settings by label, and the window of the scores in HU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reconstructions: dict[str, ReconstructSettings] = Field(min_length=1)


@dataclass(frozen=True)
class Request:
    """What the command line asked for.

    Attributes:
        scan: the measurement.
        methods: names of methods, names of shipped configurations (``configs/recon``), or YAML files.
        priors: priors to try each diffusion method with; none keeps each method's own.
        reference: a volume in HU to score against, resampled to the result's grid.
        layers: YAML files for every method.
        overrides: ``key=value`` for every method, or ``LABEL:key=value`` for one.
    """

    scan: Path
    methods: Sequence[str]
    priors: Sequence[str] = ()
    reference: Path | None = None
    layers: Sequence[Path] = ()
    overrides: Sequence[str] = ()


def resolve(request: Request) -> CompareSettings:
    """Return the validated settings of every run.

    Raises:
        InputError: a method or key is unknown, or an override names a method that is not compared.
    """
    if not request.methods:
        raise InputError("methods: found none, expected names such as tv,nerd-fast")
    resolved: dict[str, ReconstructSettings] = {}
    for method in request.methods:
        layers, options, name = _source(method)
        common = [text for text in request.overrides if ":" not in text.partition("=")[0]]
        own = [
            text.partition(":")[2]
            for text in request.overrides
            if text.partition("=")[0].startswith(f"{name}:")
        ]
        base = settings("reconstruct", [*request.layers, *layers], options, [*common, *own])
        takes_prior = "prior" in type(base.method).model_fields
        for prior in request.priors if takes_prior and request.priors else [None]:
            label = name if prior is None or len(request.priors) == 1 else f"{name}@{Path(prior).name}"
            given = {**options, "method.prior": prior}
            resolved[label] = settings("reconstruct", [*request.layers, *layers], given, [*common, *own])
    known = {label.partition("@")[0] for label in resolved}
    for text in request.overrides:
        key = text.partition("=")[0]
        if ":" in key and key.partition(":")[0] not in known:
            raise InputError(
                f"override '{text}': {key.partition(':')[0]} is not compared ({', '.join(known)})"
            )
    return CompareSettings(reconstructions=resolved)


def _source(method: str) -> tuple[list[Path], dict[str, Any], str]:
    """Return the YAML files, options and label behind one entry of ``--methods``."""
    path, shipped = Path(method), CONFIGS / "recon" / f"{method}.yaml"
    if path.suffix in (".yaml", ".yml"):
        return [path], {}, path.stem
    if shipped.is_file():
        return [shipped], {}, method
    return [], {"method.name": method}, method


def compare(
    request: Request,
    resolved: CompareSettings,
    out: Path,
    *,
    resume: bool,
    overwrite: bool,
    as_json: str | None,
) -> None:
    """Run every method that has not finished, write rows and report, and print the table.

    Raises:
        InputError: the folder or reference cannot be used, or a method refuses the scan: the methods before it are
            kept, and ``--resume`` goes on.
    """
    inputs = {"scan": request.scan} | ({} if request.reference is None else {"reference": request.reference})
    check_json(as_json, inputs.values())
    truth = None if request.reference is None else read_reference(request.reference)
    described = {role: describe_input(path) for role, path in inputs.items()}
    marks = {role: str(one["sha256"]) for role, one in described.items()}
    folder = open_run(out, resume=resume, overwrite=overwrite, inputs=inputs.values())
    check_same_config(folder, resolved)
    if resume:
        folder.check_same(marks, state=(ROWS,))
    folder.begin(marks)
    folder.write_config(resolved)
    folder.write_inputs(described, command="compare", seed=0)
    rows, volumes = [], {}
    for label, one in resolved.reconstructions.items():
        run = out / "runs" / label
        _reconstruct(request, one, run)
        metrics = json.loads((run / outputs.METRICS).read_text(encoding="utf-8"))
        volumes[label] = read_volume(outputs.result_path(run))
        rows.append(_row(label, metrics, volumes[label], truth))
        # After every method, so that a killed comparison has its table.
        folder.write_json(ROWS, {"rows": rows})
    _report(folder, resolved, rows=rows, volumes=volumes, truth=truth)
    if not emit_json(rows, as_json):
        print(table(rows))
        print(f"report {folder.file(outputs.REPORT)}")


def _reconstruct(request: Request, one: ReconstructSettings, run: Path) -> None:
    """Run one method in its own process; a finished run is left as it is, once it has compared its fingerprint.

    Raises:
        InputError: it failed, or was made of another scan or prior, with its own words.
        Interrupted: it was interrupted.
    """
    run.parent.mkdir(parents=True, exist_ok=True)
    config = run.parent / f"{run.name}.yaml"
    config.write_text(to_yaml(one), encoding="utf-8")
    # -P: a folder named recon where the user stands is not ours.
    command = [sys.executable, "-P", "-m", "tomocast", "reconstruct", str(request.scan), "-c", str(config)]
    if request.reference is not None:
        command += ["--reference", str(request.reference)]
    status, last = _shown([*command, "--out", str(run), "--resume", *permissions.options()], run.name)
    if status in (129, 130, 143):
        raise Interrupted(f"{run.name} was interrupted; continue with the same command and --resume")
    if status != 0:
        raise InputError(f"{run.name}: {last.removeprefix('error: ')}")


def _shown(command: Sequence[str], label: str) -> tuple[int, str]:
    """Run a command, passing on what it says on standard error; return its exit status and its last line."""
    print(f"{label}:", file=sys.stderr)
    last = "no message"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stderr or ():
                last = line.rstrip("\n") or last
                # The error is printed once, by this process, with the method's name.
                if not last.startswith("error: "):
                    print(f"  {last}", file=sys.stderr)
        except BaseException:
            # A signal to this process alone: the method saves its state and ends, instead of going on unseen.
            process.terminate()
            process.communicate()
            raise
    return process.returncode, last


def _row(label: str, metrics: Mapping[str, Any], volume: Volume, truth: Volume | None) -> dict[str, Any]:
    """Return one method's figures; scores are None without a reference."""
    scores = {} if truth is None else score_volumes(volume, truth, window_hu=FULL_WINDOW_HU, mask=None)
    # A method without a network has called none.
    figures = {"network_calls": 0, "network_gradients": 0, **metrics, **scores}
    return {"method": label, **{metric.key: figures.get(metric.key) for metric in COLUMNS}}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as aligned text."""
    shown = [metric for metric in COLUMNS if any(row[metric.key] is not None for row in rows)]
    lines = ((row["method"], [metric.cell(row, ".4g") for metric in shown]) for row in rows)
    return text_table("method", [metric.heading for metric in shown], lines)


def _report(
    folder: RunFolder,
    resolved: CompareSettings,
    *,
    rows: Sequence[Mapping[str, Any]],
    volumes: Mapping[str, Volume],
    truth: Volume | None,
) -> None:
    """Write the report: every volume, the reference, and result minus reference of every method."""
    first = next(iter(volumes.values()))
    shown = {label: volume.values for label, volume in volumes.items()}
    if truth is not None and first.unit == "HU":
        reference = resample(truth, first)
        filled = np.nan_to_num(reference, nan=-1000.0)
        differences = {f"{label} minus reference": np.nan_to_num(v - reference) for label, v in shown.items()}
        shown = {**shown, "reference": filled, **differences}
    write_report(
        folder.file(outputs.REPORT),
        Report(
            title=f"Comparison of {', '.join(volumes)}",
            volumes=shown,
            affine=first.affine,
            unit=first.unit,
            scores={row["method"]: dict(row) for row in rows},
            curves=_curves(folder, volumes),
            configuration=to_yaml(resolved),
            versions=versions(),
        ),
    )


def _curves(folder: RunFolder, labels: Mapping[str, Volume]) -> dict[str, list[tuple[float, float]]]:
    """Return chi2 against iterations and the error against network calls, of every method that records them."""
    curves = {}
    for label in labels:
        path = folder.file("runs") / label / outputs.METRICS
        recorded = json.loads(path.read_text(encoding="utf-8"))["curves"]
        for key in ("chi2", BY_CALLS):
            if recorded.get(key):
                curves[f"{label}: {key}"] = [(float(x), float(y)) for x, y in recorded[key]]
    return curves
