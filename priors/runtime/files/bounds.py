"""What a file may cost before it is read: memory for what it says it holds, and no file outside its own folder.

A few bytes can promise any number of values (compressed zeros, arrays of which no chunk is stored, a damaged shape), so
every reader asks first whether the promise fits into memory. A link in a folder can lead to any file of the machine, so
a name that a header states, and the members of a folder, are followed only within it unless ``--follow-links`` is
given.
"""

import math
import os
from collections.abc import Iterable
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from priors.runtime.errors import InputError
from priors.runtime.files.permissions import allow_links
from priors.runtime.system.memory import available_bytes, human

SHARE = 0.5
"""Of the free memory, for what one file holds: readers convert, and keep both for a moment."""


def check_fits(path: Path | str, size: int, *, hint: str = "") -> None:
    """Refuse a file that unpacks to more than half of the free memory.

    Args:
        path: what messages call it.
        size: bytes it unpacks to.
        hint: what to do instead.

    Raises:
        InputError: it does.
    """
    free = available_bytes()
    if size > SHARE * free:
        raise InputError(
            f"{path}: unpacks to {human(size)}, more than half of the {human(free)} of memory that are free{hint}"
        )


def check_array(path: Path | str, shape: Iterable[int], dtype: Any) -> None:
    """Refuse an array that does not fit into memory; see `check_fits`.

    Raises:
        InputError: it does not.
    """
    check_fits(path, math.prod(shape) * np.dtype(dtype).itemsize)


def read_npy(stream: BufferedIOBase, path: Path | str) -> np.ndarray:
    """Return the array of an ``.npy`` stream that can go back to its start; its header is looked at first.

    Raises:
        InputError: it would not fit into memory.
        ValueError, OSError: it is damaged.
    """
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of the format")
    header = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    check_array(path, shape, dtype)
    stream.seek(0)
    return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))


def check_within(folder: Path, files: Iterable[Path]) -> None:
    """Refuse files that lie elsewhere: links that lead out of a folder; see `allow_links`.

    Raises:
        InputError: one does, and ``--follow-links`` was not given.
    """
    home = Path(os.path.realpath(folder))
    outside = [file for file in files if not Path(os.path.realpath(file)).is_relative_to(home)]
    if outside:
        more = f" and {len(outside) - 1} more" if len(outside) > 1 else ""
        allow_links(f"{folder}: {outside[0].name}{more} is a link to a file outside of the folder")


def check_regular(folder: Path, files: Iterable[Path]) -> None:
    """Refuse what is neither file nor folder: a pipe would be waited for, a lost file be missing without a word.

    Raises:
        InputError: there is one.
    """
    for file in files:
        if not file.is_file() and not file.is_dir():
            what = "a link to nothing" if file.is_symlink() else "a pipe, socket or device"
            raise InputError(f"{folder}: {file.name} is {what}, expected a file")
