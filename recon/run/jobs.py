"""The job of reconstructing, from a scan file to a run folder.

read_problem (``problem``) -> solve (``solve``) -> save (``outputs``)

Only this module knows the run folder: it records the settings and inputs, hands the solver its checkpoint and the
listener that shows and logs every step, and marks what was interrupted.
"""

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from priors.audits.verdict import sentence as verdict_sentence
from priors.card import find_prior
from priors.runtime.config import settings_of
from priors.runtime.errors import Interrupted, refuse_warnings, warnings_kept
from priors.runtime.files import permissions
from priors.runtime.files.protect import check_output
from priors.runtime.files.reads import reading
from priors.runtime.output import check_json, emit_json
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
from priors.runtime.system.peak import reset_peak
from recon.ensembles.draws import checkpoint_files
from recon.inspect.warnings import warnings_of
from recon.reconstructors.base import Watcher
from recon.reconstructors.checkpoint import Checkpoint
from recon.run import outputs
from recon.run.checks.doubts import doubts_of, say
from recon.run.checks.nonsense import check_problem, check_result
from recon.run.problem.pose import Problem, decisive, said_of
from recon.run.problem.prior_grid import sentence
from recon.run.settings import ReconstructSettings, kind_of
from recon.run.slabs.layout import SlabJob
from recon.run.slabs.loop import STATE, kept_layout, run_slabs, slab_warnings
from recon.run.slabs.source import read_job
from recon.run.solving.in_folder import CHECKPOINT, STEPS, solve_in
from recon.run.solving.solve import Outcome
from recon.run.solving.watch import Reference, read_reference
from recon.run.trust import against
from recon.run.trust.draws import remarks

CONFIGS = shipped("configs")
CHECKPOINTS = (*checkpoint_files(CHECKPOINT), Checkpoint.companion_name(CHECKPOINT, against.FILE))


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
    reference: Path | None = None,
) -> dict[str, Any]:
    """Reconstruct ``scan`` into the run folder ``out`` and return the metrics.

    Under ``torchrun`` the processes share the work: the first one writes the run folder, the others nothing.
    The error of every step against ``reference``, a volume in HU, is recorded and decides nothing; not of slabs.

    Raises:
        InputError: the scan, the settings or the folder cannot be used, or the memory does not suffice.
        Interrupted: with the way to continue.
    """
    reset_peak()
    sources = _inputs(scan, resolved) | ({} if reference is None else {"reference": reference})
    check_output(out, sources.values(), folder=True)
    check_json(as_json, sources.values())
    with processes.process_group():
        if resume and (kept := kept_layout(out)) is not None:
            resolved = resolved.model_copy(update=kept)
        with reading() as others:
            job = read_job(scan, resolved)
        problem = job.head if isinstance(job, SlabJob) else job
        refuse_warnings(warnings_of(problem.scan), strict=resolved.strict)
        check_problem(problem)
        outputs.check_formats(problem)
        job.plan().require()
        job = job.resolved()
        problem = job.head if isinstance(job, SlabJob) else job
        watch = _watch(job, reference)
        if processes.rank() > 0:
            return _assist(problem, out, resume=resume)
        processes.barrier()
        inputs = {role: describe_input(path) for role, path in sources.items() if role != "scan"}
        inputs["scan"] = describe_input(scan, others)
        with open_run(out, resume=resume, overwrite=overwrite, inputs=sources.values()) as run:
            return _reconstruct(scan, job, run, inputs=inputs, resume=resume, as_json=as_json, watch=watch)


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
        return solve_in(run, problem, resume=resume).metrics


def _reconstruct(
    scan: Path,
    job: Problem | SlabJob,
    run: RunFolder,
    *,
    inputs: Mapping[str, Any],
    resume: bool,
    as_json: str | None,
    watch: Watcher | None,
) -> dict[str, Any]:
    problem = job.head if isinstance(job, SlabJob) else job
    resolved = problem.settings
    # Of a scan in slabs a few slices were read: its file stands for the others.
    file = {"file": inputs["scan"].get("sha256")} if isinstance(job, SlabJob) else {}
    marks = fingerprint({**decisive(problem), **_priors(inputs), **file})
    if resume:
        check_same_config(run, resolved)
        run.check_same(marks, state=(*CHECKPOINTS, outputs.METRICS))
    if resume and run.file(outputs.METRICS).exists():
        check_complete(run, (outputs.volume_name(run.path), outputs.REPORT))
        print(f"{run.path}: this run is complete", file=sys.stderr)
        return _finished(run, as_json)
    slabs = (STATE, outputs.SLABS) if isinstance(job, SlabJob) else ()
    run.claim(*CHECKPOINTS, STEPS, *slabs, *outputs.names(problem))
    run.begin(marks)
    run.write_config(resolved)
    run.write_inputs(inputs, command="reconstruct", seed=resolved.seed)
    run.log(f"{'resume' if resume else 'start'} {resolved.method!r}")
    if problem.chosen:
        print(f"from this scan: {said_of(problem.chosen)}", file=sys.stderr)
        run.log(f"from the scan: {said_of(problem.chosen)}")
    doubts = list(warnings_of(problem.scan))
    say(doubts)
    if problem.asked is not None:
        print(f"note: {sentence(problem.grid, problem.asked)}", file=sys.stderr)
    try:
        with warnings_kept() as said:
            outcome = _outcome(job, run, resume=resume, watch=watch)
    except KeyboardInterrupt:
        run.log("interrupted")
        raise Interrupted(f"continue with the same command and --resume (run folder {run.path})") from None
    check_result(outcome.volume, outcome.metrics)
    own = [*said, *doubts_of(outcome.metrics, outcome.volume), *remarks(outcome.metrics)]
    if isinstance(job, SlabJob):
        own += slab_warnings(job, run)
    own += _strange(outcome.metrics)
    say(own)
    outcome.metrics["warnings"] = [*permissions.used(), *doubts, *own]
    outputs.save(run.path, problem, outcome, title=f"{scan.name}, {resolved.method.name}")
    for name in CHECKPOINTS:
        run.file(name).unlink(missing_ok=True)
    run.log(f"done in {outcome.metrics['seconds']:.1f} s")
    metrics = _finished(run, as_json)
    refuse_warnings(own, strict=resolved.strict)
    return metrics


def _watch(job: Problem | SlabJob, reference: Path | None) -> Watcher | None:
    """Return what compares the estimate of every step with a reference, None without one and for slabs."""
    if reference is None:
        return None
    volume = read_reference(reference)
    if isinstance(job, SlabJob):
        print("note: in slabs the error of steps against the reference is not recorded", file=sys.stderr)
        return None
    return Reference(job, volume).watch


def _outcome(job: Problem | SlabJob, run: RunFolder, *, resume: bool, watch: Watcher | None) -> Outcome:
    """Solve all at once or slab after slab."""
    if not isinstance(job, SlabJob):
        return solve_in(run, job, resume=resume, watch=watch)
    print(f"in slabs: {job.told()}", file=sys.stderr)
    return run_slabs(job, run, resume=resume)


def _strange(metrics: Mapping[str, Any]) -> list[str]:
    """Say what the verdict is; return it as a warning where it is a bad one."""
    familiarity = metrics.get("familiarity")
    if familiarity is None:
        return []
    if familiarity["verdict"] in ("familiar", "unknown"):
        print(verdict_sentence(familiarity), file=sys.stderr)
        return []
    return [verdict_sentence(familiarity)]


def _priors(inputs: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the hashes of the priors that decide a result."""
    other = {"against": inputs["against"].get("sha256")} if "against" in inputs else {}
    return {"prior": inputs.get("prior", {}).get("sha256"), **other}


def _finished(run: RunFolder, as_json: str | None) -> dict[str, Any]:
    """Say where the result is and return its metrics."""
    metrics: dict[str, Any] = json.loads(run.file(outputs.METRICS).read_text(encoding="utf-8"))
    if not emit_json(metrics, as_json):
        print(f"chi2 per ray {metrics['chi2_per_ray']:.4g}, {metrics['seconds']:.1f} s")
        if "draws" in metrics:
            share = metrics["draws"]["null_space_share"]
            print(f"{100 * share:.1f} % of what the draws disagree on lies where no ray sees it")
        if "against" in metrics:
            print(against.fact(metrics["against"]))
        if "border_rms" in metrics.get("slabs", {}):
            slabs, unit = metrics["slabs"], metrics["unit"]
            print(
                f"slabs differ on their borders by {slabs['border_rms']:.3g} {unit} rms, at most "
                f"{slabs['worst_border_rms']:.3g} (slice {slabs['worst_border_slice']})"
            )
        print(f"volume {run.file(outputs.volume_name(run.path))}\nreport {run.file(outputs.REPORT)}")
    return metrics


def _inputs(scan: Path, resolved: ReconstructSettings) -> dict[str, Path]:
    """Return the files a reconstruction depends on."""
    name = getattr(resolved.method, "prior", None)
    other = {} if resolved.against is None else {"against": find_prior(resolved.against)}
    return {"scan": scan, **({} if name is None else {"prior": find_prior(name)}), **other}
