"""Names of files that are being written, and what becomes of those whose writer is gone.

    .partial-HOST-PID-RANDOM[.suffix]      HOST is a hash of the machine's name and its process namespace

A name says who writes it. This process removes its own at the end, whatever ends it but SIGKILL. What a killed process
left is removed by the next one that writes into the same folder: its process number is no longer alive on this
machine, or, where another machine wrote it, it has not changed for a day.
"""

import hashlib
import os
import re
import shutil
import socket
import time
import uuid
from functools import cache
from pathlib import Path

_NAME = re.compile(r"\.partial-([0-9a-f]{8})-(\d+)-[0-9a-f]{8}(\.[^/]*)?")
_FOREIGN_S = 24 * 3600.0
_own: set[Path] = set()
_cleared: set[Path] = set()


@cache
def host() -> str:
    """Return eight digits for this machine and process namespace (a container has its own)."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def fresh(folder: Path, suffix: str = "") -> Path:
    """Return a new name in ``folder`` that belongs to this process until `forget`; nothing is created."""
    clear_stale(folder)
    path = folder / f".partial-{host()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{suffix}"
    _own.add(path)
    return path


def forget(path: Path) -> None:
    """Remove a temporary file or folder if it is still there; its name is no longer this process's."""
    _remove(path)
    _own.discard(path)


def remove_own() -> None:
    """Remove every temporary file and folder of this process."""
    for path in list(_own):
        if path.name.split("-")[2] == str(os.getpid()):
            forget(path)


def clear_stale(folder: Path, *, again: bool = False) -> None:
    """Remove what killed processes left in ``folder``; looked for once per folder and process, or ``again``."""
    folder = Path(os.path.abspath(folder))
    if folder in _cleared and not again:
        return
    _cleared.add(folder)
    try:
        entries = [entry for entry in os.scandir(folder) if entry.name.startswith(".partial-")]
    except OSError:
        return
    for entry in entries:
        if is_stale(Path(entry.path)):
            _remove(Path(entry.path))


def is_stale(path: Path) -> bool:
    """Tell whether a path is a temporary one of ours whose writer is gone."""
    found = _NAME.fullmatch(path.name)
    if found is None:
        return False
    if found[1] == host():
        return not is_alive(int(found[2]))
    try:
        return time.time() - path.lstat().st_mtime > _FOREIGN_S
    except OSError:
        return False


def is_alive(process: int) -> bool:
    """Tell whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _remove(path: Path) -> None:
    # A thread of a library may still be writing into the folder: what it adds is removed by another pass.
    for _ in range(5):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        if not os.path.lexists(path):
            return
        time.sleep(0.05)
