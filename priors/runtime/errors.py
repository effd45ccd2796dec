"""What a user can cause: an input that cannot be used, one that is used with a warning, and an interruption."""

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from priors.runtime.terminal import visible


class InputError(Exception):
    """A mistake in a file, an option or a resource, as one line.

    The message names the file or key, what was found and what was expected. The command line prints it as
    ``error: ...`` and exits with status 2; it never shows a traceback.
    """


class Interrupted(Exception):  # noqa: N818 (a wish of the user, not an error)
    """The user stopped a job that can be continued; the message says how. Exit status 130 (Ctrl-C) or 143
    (SIGTERM)."""


class InputWarning(UserWarning):
    """Something about an input that a user should know although it is used, as one line.

    The command line prints it as ``warning: ...``; ``inspect`` lists it; a job writes it into its log and metrics.
    """


def warn(text: str) -> None:
    """Tell a user about an input that is used in spite of what the text says."""
    # The line of the reader that noticed it means nothing to the user: the text names the file.
    warnings.warn(" ".join(text.split()), InputWarning, stacklevel=2)


def refuse_warnings(texts: Sequence[str], *, strict: bool) -> None:
    """Make warnings an error where a person asked for that.

    Raises:
        InputError: there are some, and ``strict`` is set.
    """
    if strict and texts:
        more = f" (and {len(texts) - 1} more)" if len(texts) > 1 else ""
        raise InputError(f"strict: {texts[0]}{more}")


def show_warnings() -> None:
    """Print warnings about inputs as lines ``warning: ...`` on standard error, each once."""
    warnings.simplefilter("always", InputWarning)
    told: set[str] = set()
    others = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
        if not issubclass(category, InputWarning):
            others(message, category, *place, **more)
        elif str(message) not in told:
            told.add(str(message))
            print(f"warning: {visible(str(message))}", file=sys.stderr)

    warnings.showwarning = show


@contextmanager
def warnings_kept() -> Iterator[list[str]]:
    """Yield a list that fills with the texts of the warnings inside the block, each once; they are not shown."""
    texts: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always", InputWarning)
        shown = warnings.showwarning

        def keep(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, InputWarning):
                shown(message, category, *place, **more)
            elif str(message) not in texts:
                texts.append(str(message))

        warnings.showwarning = keep
        yield texts


@contextmanager
def warnings_checked(*, strict: bool) -> Iterator[list[str]]:
    """Yield a list of the warnings inside the block; after it they are shown, or with ``strict`` are an error.

    Raises:
        InputError: ``strict`` is set, and there are some.
    """
    with warnings_kept() as texts:
        yield texts
    refuse_warnings(texts, strict=strict)
    for text in texts:
        warn(text)
