"""What a command prints for programs: JSON on standard output or into a file."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from priors.runtime.files import atomic
from priors.runtime.record import to_json

STDOUT = "-"


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
