"""The manifest of a run folder: which files a run wrote. Nothing else in the folder is ever removed or written over.

    run.json     {"kind": "tomocast run 1", "files": ["config.yaml", "dicom/?????.dcm", ...]}

Names are relative to the folder; ``*`` and ``?`` stand for what varies.
"""

import json
import os
import sys
from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from priors.runtime.errors import InputError
from priors.runtime.files import temporary
from priors.runtime.files.writing import atomic
from priors.runtime.run_folder.lock import NAME as LOCK

MANIFEST = "run.json"
_FORMAT = "tomocast run 1"


def claim(path: Path, patterns: Iterable[str]) -> None:
    """Add patterns to the manifest of a folder; see `priors.runtime.run_folder.record.RunFolder.claim`."""
    held = claimed(path)
    new = [pattern for pattern in patterns if pattern not in held]
    if not new:
        return
    for name in names_in(path):
        if matches(name, new) and not matches(name, held):
            raise InputError(f"{path / name}: no run wrote it; it will not be written over")
    _write(path, [*held, *new])


def held_in(path: Path) -> list[str]:
    """Return what a folder holds, but for the lock and what killed processes left."""
    if not os.path.lexists(path):
        return []
    return sorted(item.name for item in path.iterdir() if item.name != LOCK and not temporary.is_stale(item))


def is_bare(path: Path) -> bool:
    """Tell whether a folder holds a manifest and nothing else."""
    try:
        return {item.name for item in path.iterdir()} - {LOCK} == {MANIFEST}
    except OSError:
        return False


def empty(path: Path) -> None:
    """Remove what earlier runs wrote, and say what else there is."""
    held = claimed(path)
    names = list(names_in(path))
    remove(path, [name for name in names if matches(name, held) and name != MANIFEST])
    _write(path, [MANIFEST])
    stale = {name for name in names if temporary.is_stale(Path(name))}
    remove(path, stale)
    kept = [name for name in names if not matches(name, held) and name != LOCK and name not in stale]
    if kept:
        shown = ", ".join(kept[:3]) + (f" and {len(kept) - 3} more" if len(kept) > 3 else "")
        print(f"note: {path}: kept what no run of this folder wrote: {shown}", file=sys.stderr)


def claimed(path: Path) -> list[str]:
    """Return the patterns in the manifest of a folder.

    Raises:
        InputError: the manifest is damaged, or names something outside the folder.
    """
    file = path / MANIFEST
    if not os.path.lexists(file):
        return []
    try:
        tree = json.loads(file.read_text(encoding="utf-8"))
        kind, patterns = tree["kind"], [str(name) for name in tree["files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: is no manifest of a run; nothing will be removed or written here"
        ) from error
    if kind != _FORMAT or any(Path(name).is_absolute() or ".." in Path(name).parts for name in patterns):
        raise InputError(f"{file}: is no manifest of a run; nothing will be removed or written here")
    return patterns


def names_in(path: Path) -> Iterable[str]:
    """Yield the files below a folder, relative to it; links are files and are not followed."""
    for folder, folders, files in os.walk(path):
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in (*files, *linked):
            yield Path(folder, name).relative_to(path).as_posix()


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a name is one of some patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def remove(path: Path, names: Iterable[str]) -> None:
    """Remove files below a folder, and the folders in it that this leaves empty."""
    emptied: set[Path] = set()
    for name in names:
        (path / name).unlink(missing_ok=True)
        emptied.update(parent for parent in Path(name).parents if parent != Path("."))
    for folder in sorted(emptied, key=lambda one: len(one.parts), reverse=True):
        if not any((path / folder).iterdir()):
            (path / folder).rmdir()


def _write(path: Path, patterns: list[str]) -> None:
    with atomic(path / MANIFEST) as partial:
        text = json.dumps({"kind": _FORMAT, "files": patterns}, indent=2)
        partial.write_text(text + "\n", encoding="utf-8")
