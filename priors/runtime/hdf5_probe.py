"""Whether an HDF5 file can be opened without harm.

The HDF5 library loops for ever or ends the process on some damaged files, which no handler of errors can stop. So a
child process goes first: it visits every object, reads every attribute and the data sets (after the first 64 MB only
their ends), and has to come back within a processor time that grows with the file: waiting for a disk is no sign of
damage. It is a fork, which shares the library and costs milliseconds.
"""

import os
import resource
import signal
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import h5py

SECONDS = 2.0
BYTES_PER_SECOND = 1e7
WHOLE = 2**26
"""Bytes up to which data sets are read whole."""
STARVED = 2
ROOM = 2**30
"""Bytes the child may allocate: a damaged size must not take the machine's memory."""


def is_sound(path: Path) -> bool:
    """Tell whether the HDF5 library survives reading ``path``."""
    state = path.stat()
    return _survives(str(path.resolve()), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _survives(path: str, size: int, changed: int) -> bool:
    with warnings.catch_warnings():
        # The child touches nothing but the HDF5 library and leaves without cleaning up.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            # The default action ends the process even inside the library.
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_PROF, SECONDS + size / BYTES_PER_SECOND)
            _limit_memory()
            status = 0 if _visit(path) else STARVED
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    # Errors that the library reports are the reader's to tell; only a violent end or hunger is judged here.
    return not os.WIFSIGNALED(status) and os.WEXITSTATUS(status) != STARVED


def _limit_memory() -> None:
    """Let this process allocate ``ROOM`` more; beyond, the library gets no memory and says so."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = held + ROOM
    resource.setrlimit(
        resource.RLIMIT_AS, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most)
    )


def _visit(path: str) -> bool:
    """Read what a file holds; tell whether the memory sufficed."""
    left, enough = WHOLE, True

    def attempt(work: Callable[[], object]) -> None:
        nonlocal enough
        try:
            work()
        except Exception as error:
            # One damaged object does not tell of the others.
            enough = enough and not (isinstance(error, MemoryError) or "allocation failed" in str(error))

    def read(name: str, item: h5py.Group | h5py.Dataset) -> None:
        nonlocal left
        attempt(lambda: dict(item.attrs))
        if not isinstance(item, h5py.Dataset) or item.shape is None:
            return
        if item.nbytes <= left:
            left -= item.nbytes
            attempt(lambda: item[()])
        elif item.size:
            attempt(lambda: (item[(0,) * item.ndim], item[(-1,) * item.ndim]))

    with h5py.File(path, "r") as file:
        attempt(lambda: dict(file.attrs))
        file.visititems(read)
    return enough
