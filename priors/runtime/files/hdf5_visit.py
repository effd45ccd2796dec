"""The process that visits HDF5 files for `hdf5_probe`: started afresh, without threads, it forks a child per file.

    request   one line, {"path": ..., "seconds": processor time, "room": bytes, "whole": bytes, "follow": bool}
    answer    one line, {"status": 0, "outside": [names of files that the file refers to]}

Status 0: read, or an error that the library reports; 1: looped or ended violently; 2: wanted more memory than the room.
It imports h5py and nothing else of ours: a fork of a process with threads may hang, and a heap that other work has
grown would serve the child below its limit.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py

STARVED = 2


def main() -> None:
    """Answer requests until the input ends."""
    # Ctrl-C reaches every process of a terminal; this one ends with its parent, whose pipe closes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Damage is judged here; what the library prints about it is nobody's.
    for line in sys.stdin:
        print(json.dumps(_judge(json.loads(line))), flush=True)


def _judge(request: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        status = 1
        try:
            # The default action ends the process even inside the library.
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_PROF, request["seconds"])
            _limit_memory(request["room"])
            os.write(writing, json.dumps(_outside(request["path"])[:100]).encode())
            os.close(writing)
            status = 0 if _visit(request["path"], request["whole"]) else STARVED
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        told = stream.read()
    _, code = os.waitpid(child, 0)
    # Errors that the library reports are the reader's to tell; only a violent end or hunger is judged here.
    starved = not os.WIFSIGNALED(code) and os.WEXITSTATUS(code) == STARVED
    status = 1 if os.WIFSIGNALED(code) else STARVED if starved else 0
    return {"status": status, "outside": json.loads(told) if told else []}


def _limit_memory(room: int) -> None:
    """Let this process allocate ``room`` more; beyond, the library gets no memory and says so."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    wanted = held + room
    resource.setrlimit(
        resource.RLIMIT_AS, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most)
    )


def _outside(path: str) -> list[str]:
    """Return the names of other files that a file refers to; none is opened."""
    found: list[str] = []

    def link(name: str, kind: Any) -> None:
        if isinstance(kind, h5py.ExternalLink):
            found.append(str(kind.filename))

    def item(name: str, held: Any) -> None:
        if not isinstance(held, h5py.Dataset):
            return
        layout = held.id.get_create_plist()
        count = layout.get_external_count()
        found.extend(os.fsdecode(layout.get_external(number)[0]) for number in range(count))
        if layout.get_layout() == h5py.h5d.VIRTUAL:
            for number in range(layout.get_virtual_count()):
                name = layout.get_virtual_filename(number)
                if name != ".":
                    found.append(str(name))

    try:
        with h5py.File(path, "r") as file:
            file.visititems_links(link)
            file.visititems(item)
    except Exception:
        # A damaged file: the visit that follows judges it.
        pass
    return list(dict.fromkeys(found))


def _visit(path: str, whole: int) -> bool:
    """Read what a file holds, data sets whole up to some bytes; tell whether the memory sufficed."""
    left, enough = whole, True

    def attempt(work: Callable[[], object]) -> None:
        nonlocal enough
        try:
            work()
        except Exception as error:
            # One damaged object does not tell of the others.
            enough = enough and not (isinstance(error, MemoryError) or "allocation failed" in str(error))

    def read(name: str, item: Any) -> None:
        nonlocal left
        attempt(lambda: dict(item.attrs))
        if not isinstance(item, h5py.Dataset) or item.shape is None or item.external or item.is_virtual:
            return
        if item.nbytes <= left:
            left -= item.nbytes
            attempt(lambda: item[()])
        elif item.size:
            attempt(lambda: (item[(0,) * item.ndim], item[(-1,) * item.ndim]))

    try:
        with h5py.File(path, "r") as file:
            attempt(lambda: dict(file.attrs))
            file.visititems(read)
    except Exception as error:
        enough = enough and not (isinstance(error, MemoryError) or "allocation failed" in str(error))
    return enough


if __name__ == "__main__":
    main()
