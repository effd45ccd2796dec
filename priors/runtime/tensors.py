"""Saving tensors with torch, so that what the system says about the disk comes through.

torch's archive writer calls a full disk a ``RuntimeError``, and other mistakes too: through a stream of Python's the
system's own error is the one it was caught on.
"""

from pathlib import Path
from typing import Any

import torch


def save_tensors(state: Any, path: Path) -> None:
    """Write tensors and plain data to a file.

    Raises:
        OSError: the system could not write, with its reason.
    """
    try:
        with path.open("wb") as stream:
            torch.save(state, stream)
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, OSError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise
