"""Writing files so that a reader never sees half of one: write to a temporary name, then rename. And following a
name that a file states no further than its folder.

Files and folders get the permissions that the user's umask leaves, as those of every other program do.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from priors.runtime.errors import InputError
from priors.runtime.files import temporary
from priors.runtime.files.bounds import check_within
from priors.runtime.files.reads import note_read

_AT_FDCWD = -100
_EXCHANGE = 2


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` (same suffixes) that replaces it when the block ends well.

    Raises:
        InputError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    path = Path(path)
    with _named(path, "".join(path.suffixes[-2:])) as partial:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield partial
        os.replace(partial, path)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that becomes it when the block ends well.

    Raises:
        InputError: ``path`` exists and is not an empty folder, or cannot be written; nothing is left behind.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: exists already, expected a new or empty folder to write into")
    with _named(path, path.suffix) as partial:
        partial.mkdir()
        yield partial
        os.replace(partial, path)


@contextmanager
def _named(path: Path, suffix: str) -> Iterator[Path]:
    """Yield a temporary name beside a path, and turn what the system says into one line."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of 255 bytes has no room for ours: the suffix goes first.
        partial = temporary.fresh(path.parent, suffix if len(os.fsencode(suffix)) < 100 else "")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({_reason(error)})") from error
    try:
        yield partial
    except OSError as error:
        raise InputError(f"{path}: could not be written ({_reason(error)})") from error
    finally:
        temporary.forget(partial)


def _reason(error: OSError) -> str:
    """Return what the system said; libraries wrap it in errors of their own, some with a whole traceback as text."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return f"{str(error).splitlines()[0][:120] if str(error) else type(error).__name__}; is the disk full?"


def replace_folder(fresh: Path, path: Path) -> None:
    """Give a finished folder the name ``path``; a folder of that name is removed after the two were exchanged.

    At every moment there is a whole folder under the name, or, where the file system cannot exchange names, the old
    one lies beside it as ``.NAME.replaced`` until the new one is there.

    Raises:
        OSError: a name cannot be changed.
    """
    if not os.path.lexists(path):
        fresh.rename(path)
        return
    if _exchange(fresh, path):
        temporary.forget(fresh)
        return
    old = path.with_name(f".{path.name}.replaced")
    temporary.forget(old)
    path.rename(old)
    fresh.rename(path)
    temporary.forget(old)


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step; tell whether the system can (Linux, most file systems)."""
    library = _libc()
    if library is None:
        return False
    done = library.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE)
    return bool(done == 0)


@cache
def _libc() -> Any:
    try:
        library = ctypes.CDLL(None, use_errno=True)
        library.renameat2.argtypes = [
            *(ctypes.c_int, ctypes.c_char_p),
            *(ctypes.c_int, ctypes.c_char_p),
            ctypes.c_uint,
        ]
    except (OSError, AttributeError):
        return None
    return library


def beside(path: Path, name: str, key: str) -> Path:
    """Return the file called ``name`` in the folder of ``path``, which names it under ``key``.

    Raises:
        InputError: the name climbs out of the folder, which would let a header read any file, or there is none.
    """
    if Path(name).name != name or "\0" in name:
        raise InputError(f"{path}: {key}: found {name[:80]!r}, expected a file in the same folder")
    source = path.parent / name
    try:
        found = source.is_file()
    except OSError:  # longer than a name may be
        found = False
    if not found:
        raise InputError(f"{path}: {key}: {name[:80]} does not exist beside the header")
    check_within(path.parent, [source])
    note_read(source)
    return source
