"""What the verbs assimilate and forecast do, once their options are read: settings in, a run folder out.

RUN/analysis.nc     members of every time (.zarr where the settings say so)
RUN/products.nc     of a forecast: mean, deviation, probability-matched mean, probabilities of exceedance
RUN/metrics.json    figures of the run
RUN/report.html     all of it to look at
RUN/checkpoint.pt   while it is not complete: its state
RUN/log.txt, config.yaml, inputs.json, versions.json
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from assimilation.inference.assimilator import Assimilator, EnsemblePlan
from assimilation.inference.problem import Problem
from assimilation.io.archive import EnsembleWriter, analysis_path
from assimilation.io.registry import open_stream
from assimilation.run.checkpoint import Checkpoint, check_archive, check_whole, load_state
from assimilation.run.familiarity import familiarity, needs_warning
from assimilation.run.figures import attributes_of, sizes, withheld
from assimilation.run.nonsense import check_problem, observed_frames
from assimilation.run.planning import ensemble_plan, memory_plan, rehearse
from assimilation.run.problem import read_problem
from assimilation.run.products import PRODUCTS, write_products
from assimilation.run.settings import AssimilateSettings, ForecastSettings
from priors.audits.verdict import sentence
from priors.card import Prior, find_prior, load_prior
from priors.diffusion.denoiser import resolved_device
from priors.runtime.errors import Interrupted, warnings_checked
from priors.runtime.files.permissions import used
from priors.runtime.files.protect import check_output
from priors.runtime.files.reads import reading
from priors.runtime.output import check_json, emit_json
from priors.runtime.progress import Progress, clock
from priors.runtime.run_folder.fingerprint import fingerprint
from priors.runtime.run_folder.privacy import without_paths
from priors.runtime.run_folder.record import (
    RunFolder,
    check_complete,
    check_same_config,
    describe_input,
    open_run,
)
from priors.runtime.system.memory import available_bytes, human, lack_of_memory
from priors.runtime.system.peak import peak_bytes, reset_peak

METRICS = "metrics.json"
REPORT = "report.html"
CHECKPOINT = "checkpoint.pt"

Settings = AssimilateSettings | ForecastSettings
Inputs = Mapping[str, Path]


def run(
    settings: Settings,
    inputs: Inputs,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    as_json: str | None = None,
) -> dict[str, Any]:
    """Compute an assimilation or a forecast into the folder ``out`` and return its metrics.

    Args:
        settings: of the run; their class says which of the two it is.
        inputs: files by role: ``observations`` and maybe ``background``, or ``start``.
        out: run folder.
        resume: continue what an interrupted run left there.
        overwrite: replace an earlier run.
        as_json: file for the metrics as JSON, ``-`` for standard output.

    Raises:
        InputError: a file cannot be read or does not fit the prior, the folder cannot be used, the memory does not
            suffice, or a state is not finite.
        Interrupted: with the way to continue.
    """
    files = {**inputs, "prior": find_prior(settings.prior)}
    check_output(out, files.values(), folder=True)
    check_json(as_json, files.values())
    with warnings_checked(strict=settings.strict) as warned, reading() as others:
        prior, problem = _read(settings, inputs)
    described = {role: describe_input(path) for role, path in files.items()}
    if others:
        described["others"] = describe_input(others[0], others[1:])
    assimilator = settings.assimilator(prior, problem)
    memory_plan(assimilator, problem, _plan(settings, assimilator, problem, None)).require()
    with open_run(out, resume=resume, overwrite=overwrite, inputs=files.values()) as folder:
        if resume and _is_complete(folder, settings, problem, described):
            print(f"{out}: this run is complete", file=sys.stderr)
            return _finished(folder, as_json)
        _begin(folder, settings, problem, described)
        folder.log(f"{'resume' if resume else 'start'} {settings!r}")
        for text in warned:
            folder.log(f"warning: {text}")
        _run(settings, prior, problem, folder, resume=resume, warned=warned)
        return _finished(folder, as_json)


def _is_complete(
    folder: RunFolder, settings: Settings, problem: Problem, described: Mapping[str, Any]
) -> bool:
    """Check that a run continues with what it began with, and tell whether it is complete.

    Raises:
        InputError: settings or inputs differ, or a result is gone.
    """
    archive = f"analysis.{settings.format}"
    check_same_config(folder, settings)
    marks = fingerprint(decisive(settings, problem, described))
    folder.check_same(marks, state=(CHECKPOINT, archive, f".{archive}.growing", METRICS))
    if not folder.file(METRICS).exists():
        return False
    check_complete(folder, (archive, REPORT))
    return True


def _begin(folder: RunFolder, settings: Settings, problem: Problem, described: Mapping[str, Any]) -> None:
    """Write down what a run is made of."""
    archive = f"analysis.{settings.format}"
    folder.claim(CHECKPOINT, REPORT, PRODUCTS, archive, f"{archive}/*", f".{archive}.growing/*")
    folder.begin(fingerprint(decisive(settings, problem, described)))
    folder.write_config(settings)
    folder.write_inputs(described, command=settings.command, seed=settings.seed)


def _run(
    settings: Settings,
    prior: Prior,
    problem: Problem,
    folder: RunFolder,
    *,
    resume: bool,
    warned: Sequence[str],
) -> None:
    """Compute a run in its open folder.

    Raises:
        InputError, Interrupted: see `run`.
    """
    assimilator = settings.assimilator(prior, problem)
    _announce(folder, problem, assimilator)
    writer = EnsembleWriter(
        folder.file(f"analysis.{settings.format}"),
        variables=problem.variables,
        grid=problem.grid,
        trajectories=problem.trajectories,
        attributes=attributes_of(settings, prior, problem, assimilator),
        resume=resume,
    )
    try:
        figures = _compute(settings, problem, assimilator, folder, writer=writer)
    except KeyboardInterrupt:
        folder.log("interrupted")
        raise Interrupted(f"continue with the same command and --resume (run folder {folder.path})") from None
    figures["familiarity"] = _judged(settings, prior, problem, folder)
    warned = [*warned, *_strange(figures["familiarity"])]
    if isinstance(settings, ForecastSettings):
        write_products(analysis_path(folder.path), folder.file(PRODUCTS), settings.thresholds)
    _write_report(folder, problem, figures)
    said = [without_paths(text) for text in (*used(), *warned)]
    folder.write_json(
        METRICS,
        {"command": settings.command, "prior": prior.card.name, **figures, "warnings": said},
    )
    folder.file(CHECKPOINT).unlink(missing_ok=True)
    folder.log(f"done in {figures['seconds']:.1f} s")


def _judged(settings: Settings, prior: Prior, problem: Problem, folder: RunFolder) -> dict[str, Any]:
    """Return whether the analyses are of what the prior knows."""
    with open_stream(analysis_path(folder.path)) as analyses:
        return familiarity(problem, prior, analyses, forecast=isinstance(settings, ForecastSettings))


def _strange(found: Mapping[str, Any]) -> list[str]:
    """Say what the verdict is, as a warning where it is a bad one, which is returned."""
    text = sentence(found)
    print(f"warning: {text}" if needs_warning(found) else text, file=sys.stderr)
    return [text] if needs_warning(found) else []


def print_plan(settings: Settings, inputs: Inputs, *, as_json: str | None) -> None:
    """Print the memory and the time a run needs.

    Raises:
        InputError: a file cannot be read or does not fit the prior.
    """
    prior, problem = _read(settings, inputs)
    assimilator = settings.assimilator(prior, problem)
    ensemble = _plan(settings, assimilator, problem, None)
    memory = memory_plan(assimilator, problem, ensemble)
    free = available_bytes()
    try:
        seconds = rehearse(assimilator, problem, ensemble) if memory.fits(free) else None
    except (MemoryError, RuntimeError, OSError, ImportError) as error:
        if lack_of_memory(error) is None:
            raise
        # The plan is what was asked for: without the time it is still an answer.
        seconds = None
    if emit_json({**memory.figures(free), "seconds": seconds, "chunk": ensemble.chunk}, as_json):
        return
    print(memory.table())
    print(f"free now: {human(free)}; this job {'fits' if memory.fits(free) else 'does not fit'}")
    if seconds is not None:
        size = f"{problem.trajectories} x {ensemble.members} members x {problem.frames} frames"
        print(f"time: about {clock(seconds)} ({size}, {ensemble.chunk} members at a time)")


def _read(settings: Settings, inputs: Inputs) -> tuple[Prior, Problem]:
    """Return the loaded prior and the problem in the files."""
    prior = load_prior(settings.prior, device=resolved_device(settings.device).type)
    problem = read_problem(settings, inputs, prior)
    check_problem(problem, prior)
    return prior, problem


def _plan(
    settings: Settings, assimilator: Assimilator, problem: Problem, state: Mapping[str, Any] | None
) -> EnsemblePlan:
    """Return members and chunks; a run that continues keeps its chunks, so that it rounds as it did."""
    chunk = settings.chunk if state is None else int(state["chunk"])
    return ensemble_plan(assimilator, problem, members=settings.members, seed=settings.seed, chunk=chunk)


def _compute(
    settings: Settings,
    problem: Problem,
    assimilator: Assimilator,
    folder: RunFolder,
    *,
    writer: EnsembleWriter,
) -> dict[str, Any]:
    """Take every step, write every analysis to the archive as soon as it is complete, and return figures.

    A folder that holds a state is continued from it.
    """
    reset_peak()
    path = folder.file(CHECKPOINT)
    state = load_state(path)
    check_archive(writer, problem, assimilator, state)
    plan = _plan(settings, assimilator, problem, state)
    checkpoint = Checkpoint(path)
    if state is not None:
        checkpoint = Checkpoint(path, float(state["seconds"]), float(state["cpu_seconds"]))
    with Progress(1, settings.command) as progress:

        def on_step(done: int, total: int) -> None:
            progress.total = total
            progress.step(done=done)

        try:
            for analysis in assimilator.run(
                problem, plan, state=state, on_state=checkpoint.keep, on_step=on_step
            ):
                writer.append_one(analysis.time, analysis.members, trajectory=analysis.trajectory)
                folder.log(f"trajectory {analysis.trajectory}: {analysis.time} is complete")
        except (KeyboardInterrupt, SystemExit):
            checkpoint.save()
            raise
    if not writer.finished:
        writer.finish()
    check_whole(writer.path, problem)
    seconds, cpu_seconds = checkpoint.spent()
    return {
        **sizes(problem, assimilator, plan),
        **withheld(writer.path, problem),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_memory_bytes": peak_bytes(),
    }


def _write_report(folder: RunFolder, problem: Problem, figures: Mapping[str, Any]) -> None:
    """Write the report of the run."""
    from assimilation.report.assimilation_report import write_run_report

    write_run_report(folder, analysis_path(folder.path), stream=problem.stream, figures=figures)


def _announce(folder: RunFolder, problem: Problem, assimilator: Assimilator) -> None:
    """Write into the log what the schedule means for this run."""
    schedule, frames = assimilator.schedule, problem.frames
    if schedule.lag is None and frames > schedule.longest:
        text = (
            f"{frames} frames are more than 'longest' ({schedule.longest}) in flight at once: windows of "
            f"{schedule.longest} frames, each analysis with the observations of at least "
            f"{schedule.longest - schedule.longest // 2} later frames"
        )
        folder.log(text)
        print(text, file=sys.stderr)
    if problem.advection is not None:
        folder.log(problem.advection.description(problem.grid))
    seen = observed_frames(problem)
    folder.log(f"{frames} frames from {problem.times[0]} to {problem.times[-1]}, {seen} with observations")


def decisive(settings: Settings, problem: Problem, described: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that decides the result; see `priors.runtime.run_folder.fingerprint`."""
    grid = problem.grid
    return {
        "settings": settings,
        **{role: [one["sha256"], one.get("with")] for role, one in described.items()},
        "times": problem.times.astype("int64"),
        "grid": [grid.y, grid.x, grid.kind, grid.unit, grid.periodic],
        "context": problem.context,
    }


def _finished(folder: RunFolder, as_json: str | None) -> dict[str, Any]:
    """Print where the result is and return its metrics."""
    metrics: dict[str, Any] = json.loads(folder.file(METRICS).read_text(encoding="utf-8"))
    if not emit_json(metrics, as_json):
        print(f"{metrics['frames']} frames, {metrics['members']} members, {metrics['seconds']:.1f} s")
        print(f"analysis {analysis_path(folder.path)}\nreport {folder.file(REPORT)}")
    return metrics
