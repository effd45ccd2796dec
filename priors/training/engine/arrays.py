"""Prepared arrays: in memory where they fit, else mapped from their files, with the same batches either way."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from priors.runtime.errors import InputError
from priors.runtime.files.reads import note_read
from priors.runtime.system.memory import available_bytes

SHARE = 1 / 3
"""Arrays above this share of the free memory stay on disk; the system keeps what is drawn often in its page cache."""


def load_array(path: Path) -> np.ndarray:
    """Return the array in a ``.npy`` file.

    Raises:
        InputError: it cannot be read, or holds several arrays.
    """
    note_read(path)
    try:
        large = path.stat().st_size > SHARE * available_bytes()
        array = np.load(path, allow_pickle=False, mmap_mode="r" if large else None)
    except (OSError, EOFError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise InputError(f"{path}: cannot be read as a NumPy array ({reason})") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: found an archive of arrays, expected one array (.npy)")
    return array


def resident_bytes(arrays: Iterable[np.ndarray]) -> int:
    """Return the bytes of the arrays that are in memory."""
    return sum(array.nbytes for array in arrays if not isinstance(array, np.memmap))
