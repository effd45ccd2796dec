"""What a job is: all slices at once where they fit into memory, else slabs."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from priors.runtime.errors import InputError
from priors.runtime.system import processes
from priors.runtime.system.memory import available_bytes, human
from recon.geometry.coverage import coverage
from recon.io.scans.registry import reads_parts, stored_bytes
from recon.preprocess import Centre
from recon.run.problem.pose import Problem, read_problem
from recon.run.settings import ReconstructSettings
from recon.run.slabs.layout import SlabJob, bytes_of, reads_at_once, slab_job

LOOK = 16
"""Rows that are read of a large scan before it is decided how to go on."""
LARGE = 1 / 64
"""Share of the free memory from which on a file is looked at first: compressed counts grow many times when read."""


def read_job(scan: Path, settings: ReconstructSettings) -> Problem | SlabJob:
    """Return the whole problem, read, or slabs of it that are read one by one.

    Raises:
        InputError: the scan cannot be used, or a slab is asked for where rays cross slices or processes share the work.
    """
    alone = processes.count() == 1
    if not alone and settings.slab is not None:
        raise InputError(
            f"slab: found {settings.slab} in {processes.count()} processes, which share the slices of a volume; "
            "expected one process (without torchrun) for slabs, or no --slab"
        )
    if alone and reads_parts(scan) and (settings.slab is not None or _is_large(scan)):
        head = read_problem(scan, settings, sample=LOOK)
        if head.scan.whole is not None and needs_slabs(head):
            return slabs_from_file(scan, head)
    whole = read_problem(scan, settings)
    if not needs_slabs(whole):
        return whole
    if not alone:
        raise InputError(
            f"memory: each of {processes.count()} processes needs {human(whole.plan().own)} and "
            f"{human(available_bytes())} are free; one process (without torchrun) reconstructs in slabs"
        )
    return slab_job(whole, whole.rows, held=bytes_of(whole))


def needs_slabs(problem: Problem) -> bool:
    """Tell whether a job is done in slabs: asked for, or a stack that does not fit into memory."""
    if problem.settings.slab is not None:
        return problem.settings.slab < problem.slices or not problem.scan.geometry.sliced
    if not problem.scan.geometry.sliced or problem.slices == 1:
        return False
    free = available_bytes()
    return not (problem.plan().fits(free) and reads_at_once(problem, problem.slices, free))


def slabs_from_file(scan: Path, head: Problem) -> SlabJob:
    """Return slabs that are read from a file, all about the rotation axis of ``head``."""
    axis = float(coverage(head.scan.geometry).axis_column) if head.scan.geometry.beam == "parallel" else None
    steps = tuple(
        replace_axis(step, axis) if isinstance(step, Centre) and step.column is None else step
        for step in head.settings.preprocess
    )
    settings = head.settings.model_copy(update={"preprocess": steps})
    return slab_job(head, partial(_read, scan, settings, axis))


def replace_axis(step: Centre, axis: float | None) -> Centre:
    """Return the step with the column it found: each slab would search its own."""
    return step.model_copy(update={"column": axis})


def _read(scan: Path, settings: ReconstructSettings, axis: float | None, start: int, stop: int) -> Problem:
    problem = read_problem(scan, settings, centre=axis, part=(start, stop))
    return replace(problem, settings=settings)


def _is_large(scan: Path) -> bool:
    return stored_bytes(scan) > LARGE * available_bytes()
