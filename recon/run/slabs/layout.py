"""Which slices a slab holds, how many fit into memory, and the sums of a scan that all slabs share.

A slab reconstructs its own slices and, where the method couples slices, ``overlap`` more on either side, which are
thrown away. Methods that treat every slice alone (fbp, sirt, cgls, tv with ``slice_coupling`` 0) need none.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

from priors.runtime.errors import InputError
from priors.runtime.files import bounds
from priors.runtime.system.memory import MemoryPlan, available_bytes, human
from recon.preprocess.radiographs import BLOCK
from recon.reconstructors.object_mean import ObjectSums
from recon.run.problem.pose import Problem
from recon.run.settings import ReconstructSettings

SHARE = 0.8
"""Share of the free memory that a slab may take."""
AS_STORED = 14
"""Bytes per pixel of a block of radiographs while it is corrected: as stored, as photons, two temporaries."""


@dataclass(frozen=True)
class Slab:
    """Slices START to STOP, computed from LOW to HIGH."""

    start: int
    stop: int
    low: int
    high: int

    @property
    def own(self) -> slice:
        """Where its own slices are among those computed."""
        return slice(self.start - self.low, self.stop - self.low)


def slabs_of(slices: int, size: int, overlap: int) -> tuple[Slab, ...]:
    """Return slabs of about ``size`` slices, all of nearly the same size."""
    count = math.ceil(slices / size)
    edges = [round(k * slices / count) for k in range(count + 1)]
    return tuple(Slab(a, b, max(0, a - overlap), min(slices, b + overlap)) for a, b in pairwise(edges))


@dataclass(frozen=True, eq=False)
class SlabJob:
    """A reconstruction in slabs.

    Attributes:
        head: some slices that stand for all (or all of them), with the settings of the whole.
        slabs: in order.
        part: returns the reconstruction of slices START to STOP.
        held: bytes that stay in memory besides a slab.
    """

    head: Problem
    slabs: tuple[Slab, ...]
    part: Callable[[int, int], Problem]
    held: int = 0

    @property
    def settings(self) -> ReconstructSettings:
        """Settings of the whole."""
        return self.head.settings

    def plan(self) -> MemoryPlan:
        """Return the memory of the largest slab."""
        return _plan(self.head, max(slab.high - slab.low for slab in self.slabs), self.held)

    def resolved(self) -> "SlabJob":
        """Return the job with a number in place of every setting that follows the scan, the same for every slab."""
        head = self.head.resolved()
        return (
            self if head is self.head else replace(self, head=head, part=partial(_settled, self.part, head))
        )

    def told(self) -> str:
        """Return the slabs in words."""
        size = max(slab.stop - slab.start for slab in self.slabs)
        overlap = max(slab.high - slab.stop for slab in self.slabs)
        beside = f", each with up to {overlap} more on either side" if overlap else ""
        return f"{len(self.slabs)} slabs of up to {size} of {self.head.slices} slices{beside}"

    def repeated(self) -> float:
        """Return how often a slice is computed on average."""
        return sum(slab.high - slab.low for slab in self.slabs) / self.head.slices

    def sums(self) -> ObjectSums:
        """Return the sums of the whole scan, which is read once for them."""
        total = ObjectSums(0.0, 0.0, 0.0, 0.0)
        for slab in self.slabs:
            measured = self.part(slab.start, slab.stop).measurement()
            total = total + ObjectSums.of(measured.sinogram, measured.weights)
        return total


def _settled(part: Callable[[int, int], Problem], head: Problem, start: int, stop: int) -> Problem:
    """Return a part with the settings of the method that the whole has."""
    problem = part(start, stop)
    settings = problem.settings.model_copy(update={"method": head.settings.method})
    return replace(problem, settings=settings, chosen=head.chosen, before=head.before)


def slab_job(head: Problem, part: Callable[[int, int], Problem], *, held: int = 0) -> SlabJob:
    """Return the job in slabs of the size that was asked for, or the largest that fits into memory.

    Raises:
        InputError: rays cross slices, or not even one slice fits.
    """
    if not head.scan.geometry.sliced:
        raise InputError(
            f"slab: the rays of a {head.scan.geometry.beam} beam cross slices, expected a parallel or fan beam; leave "
            "--slab out, and use a smaller grid where the whole does not fit into memory"
        )
    settings, free = head.settings, available_bytes()
    if settings.draws > 1:
        raise InputError(
            f"draws: found {settings.draws} of a volume in slabs, expected 1; draw some slices at once with "
            "--slices START:STOP, or the whole with --draws 1"
        )
    if settings.against is not None:
        raise InputError(
            f"against: found {settings.against!r} with a volume in slabs; compare the priors on some slices at once "
            "(--slices START:STOP)"
        )
    overlap = settings.method.overlap() if settings.overlap is None else settings.overlap
    size = min(settings.slab or _largest(head, overlap, free, held=held), head.slices)
    # The slabs decide the result of a coupled method: they belong to its settings.
    chosen = settings.model_copy(update={"slab": size, "overlap": overlap})
    return SlabJob(replace(head, settings=chosen), slabs_of(head.slices, size, overlap), part, held)


def _largest(head: Problem, overlap: int, free: int, *, held: int) -> int:
    """Return how many slices a slab may have.

    Raises:
        InputError: not even one slice fits.
    """

    def fits(size: int) -> bool:
        # The whole measurement is in memory already where a scan is not read in parts.
        slices = min(size + 2 * overlap, head.slices)
        return reads_at_once(head, slices, free) and _plan(head, slices, 0).own <= SHARE * free

    low, high = 0, head.slices
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    if low == 0:
        needed = _plan(head, min(1 + 2 * overlap, head.slices), held).own
        raise InputError(
            f"memory: even a slab of one slice ({1 + 2 * overlap} with its overlap) needs {human(needed)}, and "
            f"{human(free)} are free: use a smaller grid, fewer views, or a smaller overlap"
        )
    return low


def reads_at_once(head: Problem, slices: int, free: int) -> bool:
    """Tell whether readers take so many slices at a time; they are no more than a share of the free memory."""
    measured = head.plan(slices).items["measurement"]
    return head.scan.whole is None or measured <= bounds.SHARE * free


def _plan(head: Problem, slices: int, held: int) -> MemoryPlan:
    rays = head.scan.geometry.views * slices * head.scan.geometry.shape[1]
    items = {
        **head.plan(slices).items,
        "radiographs as stored": AS_STORED * min(BLOCK, rays),
        "fit to the data": 5 * 4 * rays,
        # The part of the method is over when a slab is written: in HU, and as it goes to the file.
        "slab as written": 2 * 4 * slices * math.prod(head.written.shape[1:]),
    }
    return MemoryPlan({**items, **({"whole measurement": held} if held else {})})


def bytes_of(problem: Problem) -> int:
    """Return the size of a measurement in memory."""
    scans = [scan for scan in (problem.scan, problem.held_out) if scan is not None]
    return sum(array.nbytes for scan in scans for array in (scan.sinogram, scan.weights))
