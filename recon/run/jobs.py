"""The job of reconstructing, from a scan file to a run folder.

read_problem (``problem``) -> solve (``solve``) -> save (``outputs``)

Only this module knows the run folder: it records the settings and inputs, hands the solver its checkpoint and the
listener that shows and logs every step, and marks what was interrupted.
"""

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from priors.card import find_prior
from priors.runtime.config import settings_of
from priors.runtime.errors import Interrupted, refuse_warnings, warnings_kept
from priors.runtime.files import permissions
from priors.runtime.files.protect import check_output
from priors.runtime.files.reads import reading
from priors.runtime.output import check_json, emit_json
from priors.runtime.progress import Progress
from priors.runtime.run_folder.fingerprint import fingerprint
from priors.runtime.run_folder.record import (
    RunFolder,
    check_complete,
    check_same_config,
    describe_input,
    open_run,
)
from priors.runtime.shipped import shipped
from priors.runtime.system import processes
from priors.runtime.system.peak import peak_bytes, reset_peak
from recon.ensembles.draws import checkpoint_files
from recon.inspect.warnings import warnings_of
from recon.reconstructors.base import RunContext, StepRecord
from recon.reconstructors.checkpoint import Checkpoint
from recon.run import outputs
from recon.run.checks.doubts import doubts_of, say
from recon.run.checks.nonsense import check_problem, check_result
from recon.run.draws import remarks
from recon.run.problem import Problem, decisive, read_problem
from recon.run.settings import ReconstructSettings, kind_of
from recon.run.solve import Outcome, solve
from recon.run.steps import StepLog

CONFIGS = shipped("configs")
CHECKPOINT = "checkpoint.pt"
CHECKPOINTS = checkpoint_files(CHECKPOINT)
STEPS = "steps.jsonl"
COUNTS = {"network_calls", "network_gradients"}
"""Figures of a step that are summed over the run instead of drawn."""


def settings(
    job: str, layers: Sequence[Path] | None, options: Mapping[str, Any], overrides: Sequence[str] | None
) -> Any:
    """Return the validated settings of a job of ``recon.run.settings.JOBS``; see `priors.runtime.config.settings_of`.

    Raises:
        InputError: there is no such job, a file cannot be read, or a key or value is wrong.
    """
    return settings_of(kind_of(job), layers, options, overrides)


def reconstruct(
    scan: Path,
    resolved: ReconstructSettings,
    out: Path,
    *,
    resume: bool,
    overwrite: bool,
    as_json: str | None = None,
) -> dict[str, Any]:
    """Reconstruct ``scan`` into the run folder ``out`` and return the metrics.

    Under ``torchrun`` the processes share the work: the first one writes the run folder, the others nothing.

    Raises:
        InputError: the scan, the settings or the folder cannot be used, or the memory does not suffice.
        Interrupted: with the way to continue.
    """
    reset_peak()
    sources = _inputs(scan, resolved)
    check_output(out, sources.values(), folder=True)
    check_json(as_json, sources.values())
    with processes.process_group():
        with reading() as others:
            problem = read_problem(scan, resolved)
        refuse_warnings(warnings_of(problem.scan), strict=resolved.strict)
        check_problem(problem)
        outputs.check_formats(problem)
        problem.plan().require()
        if processes.rank() > 0:
            return _assist(problem, out, resume=resume)
        processes.barrier()
        inputs = {role: describe_input(path) for role, path in sources.items() if role != "scan"}
        inputs["scan"] = describe_input(scan, others)
        with open_run(out, resume=resume, overwrite=overwrite, inputs=sources.values()) as run:
            return _reconstruct(scan, problem, run, inputs=inputs, resume=resume, as_json=as_json)


def _assist(problem: Problem, out: Path, *, resume: bool) -> dict[str, Any]:
    """Take a share of a reconstruction that another process writes down."""
    with TemporaryDirectory() as scratch, Path(os.devnull).open("w") as silence, redirect_stderr(silence):
        run = RunFolder(Path(scratch))
        for name in CHECKPOINTS:
            if resume and (out / name).exists():
                shutil.copy(out / name, run.file(name))
        if resume and (out / outputs.METRICS).exists():
            processes.barrier()
            return {}
        processes.barrier()
        return _solve(problem, run, resume=resume).metrics


def _reconstruct(
    scan: Path,
    problem: Problem,
    run: RunFolder,
    *,
    inputs: Mapping[str, Any],
    resume: bool,
    as_json: str | None,
) -> dict[str, Any]:
    resolved = problem.settings
    marks = fingerprint({**decisive(problem), "prior": inputs.get("prior", {}).get("sha256")})
    if resume:
        check_same_config(run, resolved)
        run.check_same(marks, state=(*CHECKPOINTS, outputs.METRICS))
    if resume and run.file(outputs.METRICS).exists():
        check_complete(run, (outputs.VOLUME, outputs.REPORT))
        print(f"{run.path}: this run is complete", file=sys.stderr)
        return _finished(run, as_json)
    run.claim(*CHECKPOINTS, STEPS, *outputs.names(problem))
    run.begin(marks)
    run.write_config(resolved)
    run.write_inputs(inputs, command="reconstruct", seed=resolved.seed)
    run.log(f"{'resume' if resume else 'start'} {resolved.method!r}")
    doubts = list(warnings_of(problem.scan))
    say(doubts)
    try:
        with warnings_kept() as said:
            outcome = _solve(problem, run, resume=resume)
    except KeyboardInterrupt:
        run.log("interrupted")
        raise Interrupted(f"continue with the same command and --resume (run folder {run.path})") from None
    check_result(outcome.volume, outcome.metrics)
    own = [*said, *doubts_of(outcome.metrics, outcome.volume), *remarks(outcome.metrics)]
    say(own)
    outcome.metrics["warnings"] = [*permissions.used(), *doubts, *own]
    outputs.save(run.path, problem, outcome, title=f"{scan.name}, {resolved.method.name}")
    for name in CHECKPOINTS:
        run.file(name).unlink(missing_ok=True)
    run.log(f"done in {outcome.metrics['seconds']:.1f} s")
    metrics = _finished(run, as_json)
    refuse_warnings(own, strict=resolved.strict)
    return metrics


def _solve(problem: Problem, run: RunFolder, *, resume: bool) -> Outcome:
    """Solve with a checkpoint in the run folder, showing and logging every step."""
    log = StepLog(run.file(STEPS), resume=resume)
    with _listener(problem.settings.method.name, log) as on_step:
        seed, every_s = problem.settings.seed, problem.settings.checkpoint_s
        checkpoint = Checkpoint(run.file(CHECKPOINT), resume=resume, every_s=every_s)
        try:
            outcome = solve(problem, RunContext(seed, checkpoint, on_step))
        except KeyboardInterrupt:
            checkpoint.save()
            raise
    outcome.metrics["peak_memory_bytes"] = peak_bytes()
    curves = log.curves()
    for key in COUNTS & curves.keys():
        outcome.metrics[key] = int(sum(value for _, value in curves.pop(key)))
    outcome.metrics["curves"] = curves
    return outcome


@contextmanager
def _listener(label: str, log: StepLog) -> Iterator[Any]:
    """Yield what is called after every step: it moves the progress display and keeps the figures."""
    with Progress(None, label) as progress:

        def on_step(record: StepRecord) -> None:
            progress.total = record.total
            shown = {key: value for key, value in record.figures.items() if key not in COUNTS}
            progress.step(done=record.iteration, **shown)
            log.add(record)

        yield on_step


def _finished(run: RunFolder, as_json: str | None) -> dict[str, Any]:
    """Say where the result is and return its metrics."""
    metrics: dict[str, Any] = json.loads(run.file(outputs.METRICS).read_text(encoding="utf-8"))
    if not emit_json(metrics, as_json):
        print(f"chi2 per ray {metrics['chi2_per_ray']:.4g}, {metrics['seconds']:.1f} s")
        print(f"volume {run.file(outputs.VOLUME)}\nreport {run.file(outputs.REPORT)}")
    return metrics


def _inputs(scan: Path, resolved: ReconstructSettings) -> dict[str, Path]:
    """Return the files a reconstruction depends on."""
    name = getattr(resolved.method, "prior", None)
    return {"scan": scan} if name is None else {"scan": scan, "prior": find_prior(name)}
