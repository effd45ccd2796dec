"""Whether an HDF5 file can be opened without harm.

The HDF5 library loops for ever or ends the process on some damaged files, which no handler of errors can stop. So a
child process goes first: it visits every object, reads every attribute and the data sets (after the first 64 MB only
their ends), and has to come back within a processor time that grows with the file: waiting for a disk is no sign of
damage. It is a fork, which shares the library and costs milliseconds.
"""

import os
import signal
import warnings
from functools import lru_cache
from pathlib import Path

import h5py

SECONDS = 2.0
BYTES_PER_SECOND = 1e7
WHOLE = 2**26
"""Bytes up to which data sets are read whole."""


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
            _visit(path)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    # Errors that the library reports are the reader's to tell; only a violent end is judged here.
    return not os.WIFSIGNALED(status)


def _visit(path: str) -> None:
    left = WHOLE

    def read(name: str, item: h5py.Group | h5py.Dataset) -> None:
        nonlocal left
        try:
            dict(item.attrs)
            if isinstance(item, h5py.Dataset) and item.shape is not None:
                if item.nbytes <= left:
                    left -= item.nbytes
                    item[()]
                elif item.ndim:
                    item[0], item[-1]
        except Exception:
            # One damaged object does not tell of the others.
            return

    with h5py.File(path, "r") as file:
        dict(file.attrs)
        file.visititems(read)
