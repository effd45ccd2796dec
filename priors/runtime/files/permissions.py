"""What a user allows a command to do that it refuses otherwise: follow links out of a file, go on in spite of nonsense.

    with permitted(links=True, nonsense=False): ...

``--follow-links`` and ``--force`` of the command line set them. What was allowed and used is said on standard error,
and `used` lists it for the record of the run.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from priors.runtime.errors import InputError, warn
from priors.runtime.terminal import visible


@dataclass
class _Permissions:
    links: bool = False
    nonsense: bool = False
    python: bool = False
    used: list[str] = field(default_factory=list)


_NOTHING = _Permissions()
_current: ContextVar[_Permissions] = ContextVar("permissions", default=_NOTHING)


@contextmanager
def permitted(*, links: bool = False, nonsense: bool = False) -> Iterator[None]:
    """Allow things within the block."""
    with _set(_Permissions(links, nonsense)):
        yield


@contextmanager
def nonsense_in_python(*, force: bool) -> Iterator[None]:
    """Allow or refuse nonsense within a call of the Python face: messages name its argument, warnings are Python's."""
    current = _current.get()
    with _set(_Permissions(current.links, force or current.nonsense, python=True)):
        yield


@contextmanager
def _set(permissions: _Permissions) -> Iterator[None]:
    token = _current.set(permissions)
    try:
        yield
    finally:
        _current.reset(token)


def allow_links(sentence: str) -> None:
    """Go on where a file leads to others, if that is allowed.

    Args:
        sentence: what leads where.

    Raises:
        InputError: it is not allowed.
    """
    _go_on(sentence, _current.get().links, "--follow-links", "read them, if you trust the file")


def allow_nonsense(sentence: str) -> None:
    """Go on with a result or an input that cannot be right, if that is allowed.

    Args:
        sentence: what was found, and what was expected.

    Raises:
        InputError: it is not allowed.
    """
    current = _current.get()
    option = "force=True" if current.python else "--force"
    _go_on(sentence, current.nonsense, option, "go on all the same")


def options() -> list[str]:
    """Return what is allowed as options of the command line, for a command that runs another one."""
    current = _current.get()
    return [*(["--follow-links"] if current.links else []), *(["--force"] if current.nonsense else [])]


def used() -> list[str]:
    """Return what was allowed and used so far, for the record of a run."""
    return list(_current.get().used)


def _go_on(sentence: str, allowed: bool, option: str, why: str) -> None:
    if not allowed:
        raise InputError(f"{sentence}; give {option} to {why}")
    held = _current.get().used
    if sentence not in held:
        held.append(sentence)
        if _current.get().python:
            warn(f"{sentence} ({option})")
        else:
            print(visible(f"warning: {sentence} ({option})"), file=sys.stderr)
