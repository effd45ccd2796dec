"""One fingerprint of everything that decides a result, part by part, so that a run never continues with other data.

A run writes ``{part: SHA-256}`` into ``fingerprint.json`` when it begins: settings, the values that were read (after
every reader, sidecar and selection), the grid, the prior's card and weights. A resume computes it again before
anything is written, and names the first part that differs.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel

from priors.runtime.errors import InputError
from priors.runtime.run_folder.privacy import portable

FILE = "fingerprint.json"


def fingerprint(parts: Mapping[str, Any]) -> dict[str, str]:
    """Return a hash of every part.

    Args:
        parts: name -> arrays, tensors, numbers, texts, settings, dataclasses, paths (a file's content, or every
            file of a folder with its name), and mappings and sequences of these.

    Raises:
        InputError: a file cannot be read.
        TypeError: a part holds something that has no stable bytes.
    """
    found = {}
    for name, part in parts.items():
        digest = hashlib.sha256()
        _feed(digest, part)
        found[name] = digest.hexdigest()
    return found


def check_same(path: Path, now: Mapping[str, str]) -> None:
    """Check that a run continues with what it began with.

    Args:
        path: the ``fingerprint.json`` of the run.
        now: the fingerprint of what is given.

    Raises:
        InputError: the file is damaged, or a part differs.
    """
    begun = read_fingerprint(path)
    for name in [*now, *(set(begun) - set(now))]:
        if begun.get(name) != now.get(name):
            raise InputError(
                f"{path.parent}: {name}: is not the same as when this run began; resume with what it began with, or "
                "start another run"
            )


def read_fingerprint(path: Path) -> dict[str, str]:
    """Return what a run noted when it began.

    Raises:
        InputError: the file is damaged.
    """
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): str(value) for name, value in begun.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: is damaged, so that this run cannot be continued; start another one"
        ) from error


def _feed(digest: Any, part: Any) -> None:
    """Add the type, the size and the bytes of a part, so that no two parts look alike."""
    if isinstance(part, torch.Tensor):
        part = part.detach().cpu().numpy()
    if isinstance(part, np.ndarray):
        if part.dtype.hasobject:
            part = part.astype(str)
        digest.update(f"array {part.dtype.str} {part.shape} ".encode())
        # Slice by slice: a copy of the whole would double the memory of a scan.
        rows = part if part.ndim else part[None]
        for row in rows:
            digest.update(
                np.ascontiguousarray(row).tobytes() if row.ndim < 2 else np.ascontiguousarray(row).data
            )
    elif isinstance(part, BaseModel):
        _feed(digest, portable(part))
    elif isinstance(part, Path):
        _feed_files(digest, part)
    elif isinstance(part, Mapping):
        digest.update(f"mapping {len(part)} ".encode())
        for key in sorted(part, key=str):
            _feed(digest, str(key))
            _feed(digest, part[key])
    elif isinstance(part, str | bytes):
        content = part.encode() if isinstance(part, str) else part
        digest.update(f"text {len(content)} ".encode() + content)
    elif part is None or isinstance(part, bool | int | float | np.generic):
        digest.update(f"{type(part).__name__} {part!r} ".encode())
    elif isinstance(part, Sequence):
        digest.update(f"sequence {len(part)} ".encode())
        for one in part:
            _feed(digest, one)
    elif isinstance(part, Set):
        _feed(digest, sorted(map(str, part)))
    elif dataclasses.is_dataclass(part):
        for field in dataclasses.fields(part):
            _feed(digest, field.name)
            _feed(digest, getattr(part, field.name))
    else:
        raise TypeError(f"a {type(part).__name__} has no fingerprint")


def _feed_files(digest: Any, path: Path) -> None:
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    digest.update(f"files {len(files)} ".encode())
    for item in files:
        _feed(digest, item.relative_to(path).as_posix() if item != path else "")
        content = hashlib.sha256()
        try:
            with item.open("rb") as stream:
                while block := stream.read(1 << 20):
                    content.update(block)
        except OSError as error:
            raise InputError(f"{item}: cannot be read ({error.strerror or error})") from error
        digest.update(content.digest())
