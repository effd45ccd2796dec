"""The loop over slabs: read, solve, write, note; a run that was killed goes on with the slab it was at.

    volume.nii     the volume, not compressed, slab after slab
    slabs.json     the slabs that are done with their figures, written after each

Where slabs overlap, two of them compute the slice on a border. How far they differ there is what cutting a coupled
method into slabs costs; it is measured at every border and told.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from priors.audits.verdict import worst_of
from priors.runtime.errors import InputError
from priors.runtime.run_folder.record import RunFolder
from priors.runtime.system.memory import give_back
from priors.runtime.system.peak import peak_bytes
from recon.data.resample import reduced
from recon.data.volume import Unit, Volume
from recon.inspect.warnings import warnings_of
from recon.io.volumes.nifti.slabs import NiftiSlabs
from recon.reconstructors.object_mean import ObjectSums
from recon.run.outputs import SLABS as VOLUME
from recon.run.slabs.layout import Slab, SlabJob
from recon.run.solving.in_folder import CHECKPOINT, STEPS, curves_of, solve_part
from recon.run.solving.solve import Fit, Outcome, SlabContext, describe, fit_figures
from recon.run.solving.steps import StepLog

STATE = "slabs.json"
SHOWN = 2**22
"""Voxels of a volume that a report shows; of a larger one, means of neighbours."""
PLANES = 16


def run_slabs(job: SlabJob, run: RunFolder, *, resume: bool) -> Outcome:
    """Reconstruct slab after slab into the run folder.

    Raises:
        InputError: a slab cannot be read or solved; the message says which. What is done is kept for ``--resume``.
    """
    state = _State.of(run, job, resume=resume)
    file = NiftiSlabs(run.file(VOLUME), (job.head.slices, *job.head.written.shape[1:]))
    affine = job.head.scan.affine(job.head.whole_grid())
    if state.done and not file.is_whole():
        raise InputError(f"{run.path}: {VOLUME} is missing or cut short; start another run")
    if not state.done:
        file.create(affine, job.head.scan.unit)
    if job.settings.method.needs_object_sums and state.sums is None:
        state.sums = job.sums()
    state.write(run)
    log = StepLog(run.file(STEPS), resume=resume)
    for slab in job.slabs[len(state.done) :]:
        # What the slab before held must not stand in the way of this one.
        give_back()
        figures = _Slab(job, run, slab, state).done(log, file, resume=resume)
        # The checkpoint first: killed in between, the slab is done again instead of continued by the next.
        run.file(CHECKPOINT).unlink(missing_ok=True)
        state.done.append(figures)
        state.write(run)
        resume = False
    unit = job.head.scan.unit
    shown = Volume(*reduced(file.read, file.shape, affine, most=SHOWN), unit)
    return Outcome(_some(file, affine, unit), _metrics(job, state, log), shown=shown, slabs=file)


def _some(file: NiftiSlabs, affine: Float64[np.ndarray, "4 4"], unit: Unit) -> Volume:
    """Return some slices of a volume, spread over it, for what is asked of all of them."""
    step = max(1, file.shape[0] // PLANES)
    values = np.concatenate([file.read(k, k + 1) for k in range(0, file.shape[0], step)])
    spread = affine.copy()
    spread[:3, 2] *= step
    return Volume(values, spread, unit)


class _State:
    """What is done: figures of every finished slab, and the sums of the scan."""

    def __init__(self, layout: list[int], done: list[dict[str, Any]], sums: ObjectSums | None) -> None:
        self.layout, self.done, self.sums = layout, done, sums

    @classmethod
    def of(cls, run: RunFolder, job: SlabJob, *, resume: bool) -> "_State":
        """Continue the state of the folder or start it afresh.

        Raises:
            InputError: it is damaged, or of other slabs.
        """
        layout = [job.settings.slab or 0, job.settings.overlap or 0]
        if not (resume and run.file(STATE).exists()):
            return cls(layout, [], None)
        kept = run.read_json(STATE)
        try:
            sums = None if kept["sums"] is None else ObjectSums(**kept["sums"])
            state = cls(kept["layout"], kept["done"], sums)
        except (KeyError, TypeError) as error:
            raise InputError(f"{run.file(STATE)}: is damaged; start another run") from error
        if state.layout != layout:
            raise InputError(f"{run.file(STATE)}: is of other slabs; start another run")
        return state

    def write(self, run: RunFolder) -> None:
        sums = None if self.sums is None else vars(self.sums)
        run.write_json(STATE, {"layout": self.layout, "done": self.done, "sums": sums})

    def steps(self) -> int:
        return sum(slab["steps"] for slab in self.done)


def kept_layout(folder: Path) -> dict[str, int] | None:
    """Return the slabs that a run was begun with, as settings; None where it has none.

    Raises:
        InputError: their file is damaged.
    """
    path = folder / STATE
    if not path.is_file():
        return None
    try:
        size, overlap = json.loads(path.read_text(encoding="utf-8"))["layout"]
        return {"slab": int(size), "overlap": int(overlap)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is damaged; start another run") from error


@dataclass(frozen=True, eq=False)
class _Slab:
    """One slab of a job."""

    job: SlabJob
    run: RunFolder
    slab: Slab
    state: _State

    def done(self, log: StepLog, file: NiftiSlabs, *, resume: bool) -> dict[str, Any]:
        """Read, solve and write the slab, and return its figures."""
        slab, before = self.slab, self.state.steps()
        try:
            problem = self.job.part(slab.low, slab.high)
            outcome = solve_part(self.run, problem, log, resume=resume, slab=self._context(before))
        except InputError as error:
            raise InputError(f"slices {slab.low} to {slab.high - 1}: {error}") from error
        border = _border(file, slab, outcome.volume)
        file.write(slab.start, outcome.volume.values[slab.own])
        assert outcome.fits is not None
        used, unused = outcome.fits
        return {
            "start": slab.start,
            "stop": slab.stop,
            "fit": vars(used),
            "held_out": None if unused is None else vars(unused),
            "seconds": outcome.metrics["seconds"],
            "cpu_seconds": outcome.metrics["cpu_seconds"],
            "steps": log.last() - before,
            "border": border,
            "warnings": list(warnings_of(problem.scan)),
            "familiarity": outcome.metrics.get("familiarity"),
        }

    def _context(self, before: int) -> SlabContext:
        return SlabContext(
            self.slab.own,
            first_slice=self.slab.low,
            sums=self.state.sums,
            steps_before=before,
            label=f" {len(self.state.done) + 1}/{len(self.job.slabs)}",
        )


def _border(file: NiftiSlabs, slab: Slab, volume: Volume) -> dict[str, Any] | None:
    """Return how the last slice of the slab before, as written, differs from what this slab makes of it."""
    if slab.low == slab.start:
        return None
    before = file.read(slab.start - 1, slab.start)[0].astype(np.float64)
    difference = volume.values[slab.start - 1 - slab.low] - before
    return {
        "slice": slab.start,
        "rms": float(np.sqrt((difference**2).mean())),
        "largest": float(abs(difference).max()),
    }


def _metrics(job: SlabJob, state: _State, log: StepLog) -> dict[str, Any]:
    """Return the figures of the whole from those of its slabs."""
    head, done = job.head, state.done
    used = sum((Fit(**slab["fit"]) for slab in done[1:]), Fit(**done[0]["fit"]))
    unused = None
    if done[0]["held_out"] is not None:
        unused = sum((Fit(**slab["held_out"]) for slab in done[1:]), Fit(**done[0]["held_out"]))
    spent = {name: sum(slab[name] for slab in done) for name in ("seconds", "cpu_seconds")}
    return {
        **describe(head),
        **fit_figures(head, used, unused),
        **spent,
        **worst_of([slab["familiarity"] for slab in done if slab["familiarity"] is not None]),
        "slabs": {"count": len(done), **_borders(job, done)},
        "peak_memory_bytes": peak_bytes(),
        **curves_of(log, len(done)),
    }


def _borders(job: SlabJob, done: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the size of the slabs and how far two of them differ on their borders."""
    told = {"slices": job.settings.slab, "overlap": job.settings.overlap}
    borders = [slab["border"] for slab in done if slab["border"] is not None]
    if not borders:
        return told
    worst = max(borders, key=lambda border: border["rms"])
    rms = float(np.sqrt(np.mean([border["rms"] ** 2 for border in borders])))
    return {**told, "border_rms": rms, "worst_border_rms": worst["rms"], "worst_border_slice": worst["slice"]}


def slab_warnings(job: SlabJob, run: RunFolder) -> list[str]:
    """Return what looks wrong with slabs and not with the slices that were looked at first, by their slices."""
    known, found = set(warnings_of(job.head.scan)), []
    for slab in run.read_json(STATE)["done"]:
        new = [sentence for sentence in slab["warnings"] if sentence not in known]
        found += [f"slices {slab['start']} to {slab['stop'] - 1}: {sentence}" for sentence in new]
    return found
