"""A problem solved within a run folder: checkpoint, progress on the screen, figures of every step in a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from priors.runtime.progress import Progress
from priors.runtime.run_folder.record import RunFolder
from priors.runtime.system.peak import peak_bytes
from recon.reconstructors.base import RunContext, StepRecord, Watcher
from recon.reconstructors.checkpoint import Checkpoint
from recon.run.problem.pose import Problem
from recon.run.solving.solve import WHOLE, Outcome, SlabContext, solve
from recon.run.solving.steps import StepLog
from recon.run.solving.watch import BY_CALLS, by_calls

CHECKPOINT = "checkpoint.pt"
STEPS = "steps.jsonl"
COUNTS = {"network_calls", "network_gradients"}
"""Figures of a step that are summed over the run instead of drawn."""


def solve_in(run: RunFolder, problem: Problem, *, resume: bool, watch: Watcher | None = None) -> Outcome:
    """Solve with a checkpoint in the run folder, showing and logging every step."""
    log = StepLog(run.file(STEPS), resume=resume)
    outcome = solve_part(run, problem, log, resume=resume, watch=watch)
    outcome.metrics["peak_memory_bytes"] = peak_bytes()
    outcome.metrics.update(curves_of(log))
    return outcome


def solve_part(
    run: RunFolder,
    problem: Problem,
    log: StepLog,
    *,
    resume: bool,
    slab: SlabContext = WHOLE,
    watch: Watcher | None = None,
) -> Outcome:
    """Solve a whole problem, or a slab of one, with a checkpoint."""
    settings = problem.settings
    with _listener(settings.method.name, log, slab.steps_before, slab.label) as on_step:
        checkpoint = Checkpoint(run.file(CHECKPOINT), resume=resume, every_s=settings.checkpoint_s)
        try:
            context = RunContext(settings.seed, checkpoint, on_step, first_slice=slab.first_slice)
            return solve(problem, context if watch is None else replace(context, watch=watch), slab)
        except KeyboardInterrupt:
            checkpoint.save()
            raise


def curves_of(log: StepLog, passes: int = 1) -> dict[str, Any]:
    """Return the figures of all steps for ``metrics.json``; what is counted is per volume, done in ``passes`` slabs."""
    curves = log.curves()
    if spent := by_calls(curves):
        curves[BY_CALLS] = spent
    counts = {
        key: round(sum(value for _, value in curves.pop(key)) / passes) for key in COUNTS & curves.keys()
    }
    return {**counts, "curves": curves}


@contextmanager
def _listener(label: str, log: StepLog, before: int, slab: str) -> Iterator[Any]:
    """Yield what is called after every step: it moves the progress display and keeps the figures."""
    with Progress(None, f"{label}{slab}") as progress:

        def on_step(record: StepRecord) -> None:
            progress.total = record.total
            shown = {key: value for key, value in record.figures.items() if key not in COUNTS}
            progress.step(done=record.iteration, **shown)
            log.add(replace(record, iteration=before + record.iteration))

        yield on_step
