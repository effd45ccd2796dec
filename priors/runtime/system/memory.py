"""How much memory is free, and whether a job will fit in it.

The free memory of a process is the least of what the machine, its control groups (version 1 or 2, every level
up to the root) and its address-space limit leave:

    free = min(MemAvailable, limit_g - (usage_g - reclaimable_g) for every group g, RLIMIT_AS - VmSize)

Page cache that the kernel would drop under pressure (``inactive_file``) counts as free in each group.
"""

import ctypes
import errno
import gc
import re
import resource
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from priors.runtime.errors import InputError

# A version 1 group without a limit reports the largest multiple of the page size below 2^63.
_NO_LIMIT = 1 << 60
# Resident memory of a small reconstruction: Python, torch, numba with its compiled kernels, the readers and the report.
# Measured by benchmarks/memory/plans.py.
PROGRAM_BYTES = 500 << 20


def available_bytes(*, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes this process can still allocate without swapping or being killed.

    Args:
        proc: mount point of procfs (another folder in tests).
        cgroup: mount point of the control groups (another folder in tests).
    """
    figures = [*_machine(proc), *_groups(proc, cgroup), *_address_space(proc)]
    return max(0, min(figures) if figures else _psutil_available())


def give_back() -> None:
    """Give freed memory back to the system, which the C library keeps otherwise: a limit counts it as taken."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def lack_of_memory(error: BaseException) -> str | None:
    """Return the line for an error that is a lack of memory, None for any other.

    torch raises RuntimeError where its CPU allocator fails, oneDNN and threads one of their own, and a library that
    is loaded late an ImportError.
    """
    text = str(error)
    out = (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError | ImportError | OSError) and any(one in text for one in _SHORT))
    )
    if not out:
        return None
    asked = _ASKED.search(text)
    needed = (
        "" if asked is None else f": {_size(asked)} were needed at once, {human(available_bytes())} are free"
    )
    return f"memory: not enough is free{needed}; use a smaller grid, fewer slices or smaller chunks"


_SHORT = (
    "can't allocate memory",
    "Cannot allocate memory",
    "std::bad_alloc",
    "could not create a memory",
    "could not create a primitive",
    "can't start new thread",
    "failed to map segment",
)
_ASKED = re.compile(
    r"(?:tried to allocate|Unable to allocate|Tried to allocate) ([0-9.]+) (bytes|[KMGTPE]iB)"
)


def _size(asked: re.Match[str]) -> str:
    """Return the size in a library's words as ours."""
    number, unit = asked.groups()
    return human(float(number)) if unit == "bytes" else f"{number} {unit}"


def human(size: float | int) -> str:
    """Return a number of bytes as text such as ``1.5 GiB``."""
    for unit in ("B", "KiB", "MiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


@dataclass(frozen=True)
class MemoryPlan:
    """The memory a job will need, by purpose.

    Attributes:
        items: purpose -> bytes, in the order to print.
        program: bytes of the interpreter and the libraries, which every job holds whatever its size.
    """

    items: Mapping[str, int]
    program: int = PROGRAM_BYTES

    def by_purpose(self) -> dict[str, int]:
        """Return purpose -> bytes of the whole process; they add up to ``total``."""
        return {"program and libraries": self.program, **self.items}

    @property
    def total(self) -> int:
        """Bytes of the whole process at its peak."""
        return self.program + self.own

    @property
    def own(self) -> int:
        """Bytes of the job itself, beyond the program: what must still be free when it begins."""
        return sum(self.items.values())

    def figures(self, free: int) -> dict[str, object]:
        """Return what ``--plan --json`` says of memory, where so many bytes are free."""
        return {
            "bytes": self.by_purpose(),
            "total_bytes": self.total,
            "free_bytes": free,
            "fits": self.fits(free),
        }

    def fits(self, free: int) -> bool:
        """Return whether the job fits into so many free bytes; the program holds its own already."""
        return self.own <= free

    def table(self) -> str:
        """Return one aligned line per use of memory and one for the total."""
        rows = [*self.by_purpose().items(), ("total", self.total)]
        width = max(len(label) for label, _ in rows)
        return "\n".join(f"{label:<{width}}  {human(size):>10}" for label, size in rows)

    def require(self, available: int | None = None) -> None:
        """Check that the plan fits into ``available`` bytes (default: what is free now).

        Raises:
            InputError: it does not; the message names the largest item.
        """
        free = available_bytes() if available is None else available
        if self.fits(free):
            return
        label, size = max(self.items.items(), key=lambda item: item[1])
        raise InputError(
            f"memory: this job needs {human(self.own)} but {human(free)} are free; the largest part is "
            f"{label} ({human(size)}): use a smaller grid, fewer slices or smaller chunks"
        )


def _machine(proc: Path) -> Iterator[int]:
    """Yield MemAvailable of the machine."""
    value = _field(proc / "meminfo", "MemAvailable:")
    if value is not None:
        yield 1024 * value


def _groups(proc: Path, root: Path) -> Iterator[int]:
    """Yield what every control group above this process leaves."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            yield from _levels(root, name, ("memory.max", "memory.current", "inactive_file"))
        elif "memory" in controllers.split(","):
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _levels(root / "memory", name, files)


def _levels(root: Path, name: str, files: tuple[str, str, str]) -> Iterator[int]:
    """Yield limit - usage + reclaimable for the group ``name`` and all its ancestors."""
    limit_file, usage_file, reclaimable_key = files
    parts = [part for part in name.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        folder = root.joinpath(*parts[:depth])
        limit, usage = _number(folder / limit_file), _number(folder / usage_file)
        if limit is None or usage is None or limit >= _NO_LIMIT:
            continue
        yield limit - usage + (_field(folder / "memory.stat", reclaimable_key) or 0)


def _address_space(proc: Path) -> Iterator[int]:
    """Yield what RLIMIT_AS leaves, where one is set."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = _field(proc / "self" / "status", "VmSize:")
    if limit != resource.RLIM_INFINITY and used is not None:
        yield limit - 1024 * used


def _number(path: Path) -> int | None:
    """Return the integer in a file, None where it is absent or says ``max``."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _field(path: Path, key: str) -> int | None:
    """Return the integer after ``key`` in a file of ``key value`` lines."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == key:
            return int(words[1])
    return None


def _psutil_available() -> int:
    """Return the free memory where there is no procfs."""
    import psutil

    return int(psutil.virtual_memory().available)
