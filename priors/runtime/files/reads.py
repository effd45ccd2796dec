"""Which files a reader opened beside the one it was given: sidecars, detached data, the frames a header names.

    with reading() as others: scan = read_scan(path)

collects them, so that a record of the inputs names and hashes everything the result was made of.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_noted: ContextVar[list[Path] | None] = ContextVar("files read", default=None)


@contextmanager
def reading() -> Iterator[list[Path]]:
    """Yield the list that `note_read` adds to within the block."""
    others: list[Path] = []
    token = _noted.set(others)
    try:
        yield others
    finally:
        _noted.reset(token)


def note_read(path: Path) -> None:
    """Say that a file is read because another one names it, or stands beside it."""
    others = _noted.get()
    if others is not None and path not in others:
        others.append(path)
