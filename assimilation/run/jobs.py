"""What the verbs assimilate and forecast do, once their options are read: settings in, a run folder out.

RUN/analysis.nc     members of every time (.zarr where the settings say so)
RUN/metrics.json    figures of the run
RUN/report.html     all of it to look at
RUN/log.txt, config.yaml, inputs.json, versions.json
"""

import json
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from assimilation.inference.assimilator import Assimilator, Ensemble
from assimilation.inference.trajectory import Stepper, TrajectoryModel
from assimilation.io.archive import EnsembleWriter, analysis_path
from assimilation.run.planning import chunk_for, memory_plan, rehearse
from assimilation.run.problem import Frames, frames_together, read_assimilation, read_forecast
from assimilation.run.settings import AssimilateSettings, ForecastSettings
from priors.card import Prior, find_prior, load_prior
from priors.diffusion.denoiser import resolved_device
from priors.diffusion.guidance import Mmps
from priors.runtime.errors import InputError, Interrupted
from priors.runtime.memory import available_bytes, human
from priors.runtime.output import emit_json
from priors.runtime.progress import Progress, clock
from priors.runtime.record import RunFolder, check_same_config, describe_input, open_run

METRICS = "metrics.json"
REPORT = "report.html"
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, eq=False)
class Run:
    """Everything a run needs: settings, prior, and what was read."""

    settings: AssimilateSettings | ForecastSettings
    prior: Prior
    frames: Frames
    inputs: Mapping[str, Path]
    command: str

    @property
    def assimilator(self) -> Assimilator:
        """Return the machine that runs."""
        guidance = self.settings.guidance if isinstance(self.settings, AssimilateSettings) else Mmps()
        stepper = Stepper(self.settings.sampler, guidance)
        model = TrajectoryModel(self.prior.denoiser, cache=self.settings.cache)
        schedule = self.settings.schedule(frames_together(self.prior))
        return Assimilator(model, self.prior.fields, schedule, stepper)


def open_assimilation(observations: Path, background: Path | None, chosen: AssimilateSettings) -> Run:
    """Read what an assimilation needs.

    Raises:
        InputError: a file cannot be read or does not fit the prior.
    """
    prior = load_prior(chosen.prior, device=resolved_device(chosen.device).type)
    frames = read_assimilation(observations, background, prior)
    inputs = {"observations": observations, "prior": find_prior(chosen.prior)}
    if background is not None:
        inputs["background"] = background
    return Run(chosen, prior, frames, inputs, "assimilate")


def open_forecast(start: Path, chosen: ForecastSettings) -> Run:
    """Read what a forecast needs.

    Raises:
        InputError: the file cannot be read or does not fit the prior.
    """
    prior = load_prior(chosen.prior, device=resolved_device(chosen.device).type)
    frames = read_forecast(start, prior, chosen)
    return Run(chosen, prior, frames, {"start": start, "prior": find_prior(chosen.prior)}, "forecast")


def run(job: Run, out: Path, *, resume: bool, overwrite: bool, as_json: str | None = None) -> dict[str, Any]:
    """Compute a run into the folder ``out`` and return its metrics.

    Raises:
        InputError: the folder cannot be used, the memory does not suffice, or a state is not finite.
        Interrupted: with the way to continue.
    """
    memory_plan(job.assimilator, job.frames.task, _ensemble(job, None)).require()
    folder = open_run(out, resume=resume, overwrite=overwrite)
    check_same_config(folder, job.settings)
    if resume:
        _check_same_inputs(folder, job.inputs)
    if resume and folder.file(METRICS).exists():
        print(f"{out}: this run is complete", file=sys.stderr)
        return _finished(folder, as_json)
    folder.write_config(job.settings)
    folder.write_inputs(job.inputs, command=job.command, seed=job.settings.seed)
    folder.log(f"{'resume' if resume else 'start'} {job.settings!r}")
    _announce(folder, job)
    begin = time.perf_counter(), time.process_time()
    try:
        figures = _compute(job, folder, resume=resume)
    except KeyboardInterrupt:
        folder.log("interrupted")
        raise Interrupted(f"continue with the same command and --resume (run folder {out})") from None
    path = analysis_path(folder.path)
    figures["seconds"] = time.perf_counter() - begin[0]
    figures["cpu_seconds"] = time.process_time() - begin[1]
    figures["peak_memory_bytes"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _write_report(job, folder, path, figures)
    folder.write_json(METRICS, figures)
    folder.file(CHECKPOINT).unlink(missing_ok=True)
    folder.log(f"done in {figures['seconds']:.1f} s")
    return _finished(folder, as_json)


def print_plan(job: Run, *, as_json: str | None) -> None:
    """Print the memory and the time a run needs."""
    ensemble = _ensemble(job, None)
    plan, free = memory_plan(job.assimilator, job.frames.task, ensemble), available_bytes()
    fits = plan.total <= free
    seconds = rehearse(job.assimilator, job.frames.task, ensemble) if fits else None
    figures = {"bytes": dict(plan.items), "total_bytes": plan.total, "free_bytes": free, "fits": fits}
    if emit_json({**figures, "seconds": seconds, "chunk": ensemble.chunk}, as_json):
        return
    print(plan.table())
    print(f"free now: {human(free)}; this job {'fits' if fits else 'does not fit'}")
    if seconds is not None:
        task = job.frames.task
        size = f"{task.trajectories} x {ensemble.members} members x {task.frames} frames"
        print(f"time: about {clock(seconds)} ({size}, {ensemble.chunk} members at a time)")


def _compute(job: Run, folder: RunFolder, *, resume: bool) -> dict[str, Any]:
    """Take every step and write every analysis to the archive as soon as it is complete."""
    task, path = job.frames.task, folder.file(CHECKPOINT)
    ensemble = _ensemble(job, path if path.exists() else None)
    writer, advection = _writer(job, folder, resume=resume), job.frames.advection
    with Progress(1, job.command) as progress:

        def on_step(done: int, total: int) -> None:
            progress.total = total
            progress.step(done=done)

        for item in job.assimilator.run(task, ensemble, checkpoint=path, on_step=on_step):
            members = item.members if advection is None else advection.carried(item)
            writer.append_one(job.frames.times[item.frame], members, trajectory=item.trajectory)
            folder.log(f"trajectory {item.trajectory}: {job.frames.times[item.frame]} is complete")
    if not writer.finished:
        writer.finish()
    schedule = job.assimilator.schedule
    return {
        "command": job.command,
        "prior": job.prior.card.name,
        "trajectories": task.trajectories,
        "members": ensemble.members,
        "frames": task.frames,
        "lag": "inf" if schedule.lag is None else schedule.lag,
        "motion": "none" if advection is None else "advect",
        "steps": schedule.steps,
        "frame_evaluations": schedule.evaluations(task.frames),
    }


def _writer(job: Run, folder: RunFolder, *, resume: bool) -> EnsembleWriter:
    """Return what takes the analyses of all trajectories."""
    frames, task = job.frames, job.frames.task
    path = folder.file(f"analysis.{job.settings.format}")
    attributes = {
        "title": f"{job.command} with prior {job.prior.card.name}",
        "prior": job.prior.card.name,
        "prior_sha256": job.prior.card.sha256,
        "seed": str(job.settings.seed),
    }
    if job.command == "forecast":
        step = frames.times[1] - frames.times[0] if task.frames > 1 else _step(job)
        start = str((frames.times[0] - step).astype("datetime64[ms]"))
        attributes["forecast_reference_time"] = start.removesuffix(".000")
    else:
        schedule = job.assimilator.schedule
        attributes["lag"] = "inf" if schedule.lag is None else str(schedule.lag)
    return EnsembleWriter(
        path,
        variables=frames.variables,
        grid=frames.grid,
        trajectories=task.trajectories,
        attributes=attributes,
        resume=resume,
    )


def _write_report(job: Run, folder: RunFolder, path: Path, figures: Mapping[str, Any]) -> None:
    """Write what is to be looked at."""
    from assimilation.report.assimilation_report import write_run_report

    write_run_report(folder, path, stream=job.frames.task.stream, figures=figures)


def _announce(folder: RunFolder, job: Run) -> None:
    """Say in the log what the schedule means for this run."""
    schedule, frames = job.assimilator.schedule, job.frames.task.frames
    if schedule.lag is None and frames > schedule.longest:
        text = (
            f"{frames} frames are more than 'longest' ({schedule.longest}) in flight at once: windows of "
            f"{schedule.longest} frames, each analysis with the observations of at least "
            f"{schedule.longest - schedule.longest // 2} later frames"
        )
        folder.log(text)
        print(text, file=sys.stderr)
    if job.frames.advection is not None:
        folder.log(job.frames.advection.told(job.frames.grid))
    seen = sum(place >= 0 for place in job.frames.task.places)
    folder.log(
        f"{frames} frames from {job.frames.times[0]} to {job.frames.times[-1]}, {seen} with observations"
    )


def _ensemble(job: Run, checkpoint: Path | None) -> Ensemble:
    """Return members and chunks; a run that continues keeps its chunks, so that it rounds as it did."""
    chunk = job.settings.chunk
    if checkpoint is not None:
        chunk = int(torch.load(checkpoint, weights_only=True, mmap=True)["chunk"])
    found = chunk or chunk_for(job.assimilator, job.frames.task, job.settings.members)
    return Ensemble(job.settings.members, job.settings.seed, min(found, job.settings.members))


def _check_same_inputs(folder: RunFolder, inputs: Mapping[str, Path]) -> None:
    """Refuse to continue with other files than the run began with.

    Raises:
        InputError: an input differs.
    """
    path = folder.file("inputs.json")
    if not path.exists():
        return
    begun = json.loads(path.read_text(encoding="utf-8"))["inputs"]
    for role, item in inputs.items():
        if begun.get(role, {}).get("sha256") != describe_input(item)["sha256"]:
            raise InputError(f"{item}: is not the file this run began with ({role}); start another run")


def _finished(folder: RunFolder, as_json: str | None) -> dict[str, Any]:
    """Say where the result is and return its metrics."""
    metrics: dict[str, Any] = json.loads(folder.file(METRICS).read_text(encoding="utf-8"))
    if not emit_json(metrics, as_json):
        print(f"{metrics['frames']} frames, {metrics['members']} members, {metrics['seconds']:.1f} s")
        print(f"analysis {analysis_path(folder.path)}\nreport {folder.file(REPORT)}")
    return metrics


def _step(job: Run) -> np.timedelta64:
    card = job.prior.card.trajectory
    assert card is not None
    return np.timedelta64(round(card.step_s * 1e9), "ns")
