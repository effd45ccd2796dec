"""One process per run folder: ``run.lock`` says who, on which machine, since when.

The operating system holds the lock (``flock``) for as long as the process lives, and lets go of it however that ends.
Where a file system does not carry such locks from one machine to another, the file's time does: its owner renews it
every 20 seconds, and another machine takes it over only after two minutes without a sign of life, by the file
system's own clock.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from priors.runtime.errors import InputError
from priors.runtime.files import temporary

NAME = "run.lock"
RENEWED_S = 20.0
GONE_S = 120.0


class FolderLock:
    """Holds a folder until `release`, or the end of the process.

    Attributes:
        taken_over: a sentence about an owner that is gone without letting go, None where there was none.
    """

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            InputError: another process has it; the message says which.
            OSError: the file cannot be written.
        """
        self.path = folder / NAME
        self.taken_over: str | None = None
        self._owner = os.getpid()
        self._descriptor = self._open()
        self._ended = threading.Event()
        threading.Thread(target=self._renew, daemon=True, name="run lock").start()

    @property
    def is_ours(self) -> bool:
        """Tell whether this process holds it; a fork of the owner does not."""
        return not self._ended.is_set() and self._owner == os.getpid()

    def release(self) -> None:
        """Let go; the file disappears."""
        if not self.is_ours:
            return
        self._ended.set()
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self._descriptor)

    def _open(self) -> int:
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
            try:
                free = _try_lock(descriptor)
                if not _is(descriptor, self.path):
                    # Its owner let go of it and removed it in this moment.
                    os.close(descriptor)
                    continue
                found = _read(descriptor)
                if not free or _lives(found, descriptor, self.path):
                    raise InputError(
                        f"{self.path.parent}: {_holder(found)} is writing into this folder; wait for it, stop it, or "
                        "choose another folder"
                    )
                if found:
                    self.taken_over = f"took over the lock of {_holder(found)}, which is gone"
                _write(descriptor)
                return descriptor
            except BaseException:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
                raise

    def _renew(self) -> None:
        while not self._ended.wait(RENEWED_S):
            with contextlib.suppress(OSError):
                os.utime(self.path)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        # No locks on this file system: the content and the time of the file have to do.
    return True


def _is(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _lives(found: dict[str, Any], descriptor: int, path: Path) -> bool:
    """Tell whether the owner named in a file that is not locked may still be at work."""
    if not found:
        return False
    if found.get("machine") == temporary.host():
        process = found.get("pid")
        started = found.get("started")
        return (
            isinstance(process, int)
            and temporary.is_alive(process)
            and started is not None
            and started == _started(process)
            and process != os.getpid()
        )
    return _now(path.parent) - os.fstat(descriptor).st_mtime < GONE_S


def _now(folder: Path) -> float:
    """Return the time by the clock of the file system."""
    probe = temporary.fresh(folder)
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        temporary.forget(probe)


def _started(process: int) -> str | None:
    """Return when a process began, in the kernel's ticks: numbers of processes come again."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()[19]


def _read(descriptor: int) -> dict[str, Any]:
    content = os.pread(descriptor, 4096, 0)
    try:
        found = json.loads(content)
    except ValueError:
        return {"pid": "unknown"} if content else {}
    return found if isinstance(found, dict) else {"pid": "unknown"}


def _write(descriptor: int) -> None:
    owner = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "machine": temporary.host(),
        "started": _started(os.getpid()),
        "since": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, (json.dumps(owner) + "\n").encode(), 0)


def _holder(found: dict[str, Any]) -> str:
    if "pid" not in found:
        return "another process"
    return f"process {found['pid']} on {found.get('host', 'an unknown host')} (since {found.get('since', 'unknown')})"
