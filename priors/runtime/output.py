"""What a command prints for programs: JSON on standard output or into a file."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from priors.runtime.files.protect import check_output
from priors.runtime.files.writing import atomic
from priors.runtime.run_folder.record import to_json

STDOUT = "-"


def check_json(target: str | None, inputs: Iterable[Path | None]) -> None:
    """Refuse a ``--json`` file that is an input of the command.

    Raises:
        InputError: it is.
    """
    if target not in (None, STDOUT):
        check_output(Path(str(target)), inputs)


def emit_json(data: Mapping[str, Any] | Sequence[Any], target: str | None) -> bool:
    """Write ``data`` as JSON where ``--json`` said, and return whether standard output is taken by it.

    Args:
        data: what to write; numbers that are not finite become null.
        target: ``-`` for standard output, the name of a file, or None for nowhere.
    """
    if target is None:
        return False
    text = to_json(data) + "\n"
    if target == STDOUT:
        sys.stdout.write(text)
        return True
    with atomic(Path(target)) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return False
