"""Writing files so that a reader never sees half of one: write to a temporary name, then rename. And following a
name that a file states no further than its folder."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from priors.runtime.errors import InputError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` (same suffixes) that replaces it when the block ends well.

    Raises:
        InputError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    path = Path(path)
    suffix = "".join(path.suffixes[-2:])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".partial-", suffix=suffix)
        os.close(handle)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path`` that becomes it when the block ends well.

    Raises:
        InputError: ``path`` exists and is not an empty folder, or cannot be written; nothing is left behind.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: exists already, expected a new or empty folder to write into")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=".partial-"))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    try:
        yield temporary
        os.chmod(temporary, 0o755)
        os.replace(temporary, path)
    except OSError as error:
        raise InputError(f"{path}: could not be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def beside(path: Path, name: str, key: str) -> Path:
    """Return the file called ``name`` in the folder of ``path``, which names it under ``key``.

    Raises:
        InputError: the name climbs out of the folder, which would let a header read any file, or there is none.
    """
    if Path(name).name != name:
        raise InputError(f"{path}: {key}: found {name[:80]!r}, expected a file in the same folder")
    source = path.parent / name
    try:
        found = source.is_file()
    except OSError:  # longer than a name may be
        found = False
    if not found:
        raise InputError(f"{path}: {key}: {name[:80]} does not exist beside the header")
    return source
