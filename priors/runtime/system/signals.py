"""Signals that end a program: they become exceptions, so that what is half-written is removed and states are kept.

Ctrl-C (SIGINT), SIGTERM (batch systems, ``kill``, container runtimes) and SIGHUP (a closed terminal) raise `Stopped`
in the main thread. A second signal ends the program at once, after removing the temporary files of this process. A
shell starts background jobs with SIGINT ignored; the handler is set all the same, since whoever sends the signal means
it. SIGHUP stays ignored where it is: that is what ``nohup`` asks for.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from priors.runtime.files.temporary import remove_own

_GRACEFUL = ("SIGINT", "SIGTERM", "SIGHUP")
_received: dict[str, int] = {}


class Stopped(KeyboardInterrupt):
    """A signal asked the program to end; ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        """Keep the number."""
        super().__init__()
        self.number = number


@contextmanager
def graceful() -> Iterator[None]:
    """Let the signals that end a program raise `Stopped` within the block; the second one ends it at once.

    Temporary files of this process are removed when the block ends, however it does.
    """
    before = {}
    _received.clear()
    for name in _GRACEFUL:
        number = getattr(signal, name, None)
        if number is None or (name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN):
            continue
        # Only the main thread can set handlers; a program that calls from another one has its own.
        with suppress(ValueError):
            before[number] = signal.signal(number, _first)
    try:
        yield
    finally:
        remove_own()
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def received() -> bool:
    """Tell whether a signal has asked the program to end."""
    return bool(_received)


def status() -> int:
    """Return the exit status of a program that was stopped: 128 and the number of the last signal."""
    return 128 + _received.get("number", signal.SIGINT)


def _first(number: int, _: FrameType | None) -> None:
    _received["number"] = number
    for name in _GRACEFUL:
        other = getattr(signal, name, None)
        if other is not None and signal.getsignal(other) is _first:
            signal.signal(other, _second)
    raise Stopped(number)


def _second(number: int, _: FrameType | None) -> None:
    remove_own()
    os._exit(128 + number)
