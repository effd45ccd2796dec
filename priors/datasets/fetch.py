"""Downloads that continue: NAME.part grows until it is whole, is checked, and only then gets its name.

The server is asked for the bytes from the length of NAME.part on, on the condition that the file is still the one
whose validator (ETag or date) lies in NAME.part.json. It answers with those bytes (206), with everything, because the
file changed or ranges are not known (200), or says that there are no more (416). pooch compares the checksum, and
a file with a wrong one is removed.
"""

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from priors.datasets.manifest import DataFile
from priors.runtime.errors import InputError
from priors.runtime.progress import Progress
from priors.runtime.system.memory import human

PART = ".part"
_CHUNK = 1 << 20
_TIMEOUT_S = (20, 60)


def fetch(item: DataFile, folder: Path) -> Path:
    """Download one file, or find it there already.

    Raises:
        InputError: it cannot be had, its checksum is wrong (nothing is left then), or the disk is full; what came
            before an interruption stays for the next call.
    """
    import pooch

    target = folder / item.path
    if item.url is None:
        raise InputError(f"{item.path}: has no direct URL")
    if os.path.lexists(target):
        if target.is_file() and agrees(target, item) is not False:
            return target
        raise InputError(
            f"{target}: is there and is not the published file; it will not be written over: remove it, or choose "
            "another folder"
        )
    _check_part(_part(target))
    logging.getLogger("pooch").setLevel(logging.ERROR)
    pooch.get_logger().setLevel("ERROR")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        pooch.retrieve(
            item.url, item.checksum, fname=target.name, path=target.parent, downloader=_resuming(target, item)
        )
    except ValueError as error:
        raise InputError(
            f"{item.url}: what came is not the published file ({item.checksum}); nothing was kept"
        ) from error
    except OSError as error:
        raise InputError(f"{target}: could not be written ({error.strerror or error})") from error
    _part(target, ".json").unlink(missing_ok=True)
    return target


def _check_part(part: Path) -> None:
    """Refuse to continue a file that no download of ours left.

    Raises:
        InputError: it is such a file.
    """
    if os.path.lexists(part) and not _part(part, ".json").is_file():
        raise InputError(f"{part}: no download left it; remove it, or choose another folder")


def agrees(path: Path, item: DataFile) -> bool | None:
    """Tell whether a file has the published checksum, and size; None where nothing is published to compare."""
    import pooch

    if item.bytes is not None and path.stat().st_size != item.bytes:
        return False
    if item.checksum is None:
        return None
    algorithm, digest = item.checksum.split(":")
    return bool(pooch.file_hash(str(path), alg=algorithm) == digest)


def _resuming(target: Path, item: DataFile) -> Any:
    """Return the downloader that pooch calls with the URL and the temporary file to fill."""

    def download(url: str, output: str, _: Any) -> None:
        part = _part(target)
        _grow(url, part, item)
        part.replace(output)

    return download


def _grow(url: str, part: Path, item: DataFile) -> None:
    """Append to the part until it is whole."""
    import requests

    held = part.stat().st_size if part.is_file() else 0
    headers = {"Accept-Encoding": "identity", **_condition(part, held)}
    held = held if "Range" in headers else 0
    try:
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as answer:
            if answer.status_code == 416:
                _ended(answer, part, held, url)
                return
            if answer.status_code not in (200, 206):
                raise InputError(f"{url}: the server answered {answer.status_code} {answer.reason}")
            held = _start(answer, held, url)
            total = held + int(answer.headers.get("Content-Length", 0)) or None
            _require_space(part, (total or item.bytes or 0) - held)
            _part(part, ".json").write_text(json.dumps(_validator(answer)), encoding="utf-8")
            _append(answer, part, held, total=total, most=item.bytes or total)
    except requests.RequestException as error:
        size = human(part.stat().st_size) if part.is_file() else "nothing"
        raise InputError(
            f"{url}: the connection failed after {size} ({type(error).__name__}); run the same command to continue"
        ) from error


def _condition(part: Path, held: int) -> dict[str, str]:
    """Return the headers that ask for the rest; none where the file might be another by now."""
    note = _part(part, ".json")
    if not held or not note.is_file():
        return {}
    try:
        validator = str(json.loads(note.read_text(encoding="utf-8"))["validator"])
    except (ValueError, KeyError, OSError):
        return {}
    return {"Range": f"bytes={held}-", "If-Range": validator} if validator else {}


def _validator(answer: Any) -> dict[str, str]:
    """Return what tells whether the file is still the same: a strong ETag, else its date."""
    tag = answer.headers.get("ETag", "")
    return {"validator": tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")}


def _start(answer: Any, held: int, url: str) -> int:
    """Return from which byte on the answer is."""
    if answer.status_code == 200:
        return 0
    told = answer.headers.get("Content-Range", "")
    if not told.startswith(f"bytes {held}-"):
        raise InputError(f"{url}: asked for the bytes from {held} on, the server sent '{told}'")
    return held


def _ended(answer: Any, part: Path, held: int, url: str) -> None:
    """Accept a part that is whole; remove one that is longer than the file."""
    if answer.headers.get("Content-Range", "").endswith(f"/{held}"):
        return
    part.unlink()
    raise InputError(
        f"{url}: the part that was there is no beginning of the file; run the same command again"
    )


def _append(answer: Any, part: Path, held: int, *, total: int | None, most: int | None) -> None:
    """Write the answer behind the first ``held`` bytes of the part."""
    with part.open("r+b" if held else "wb") as stream, Progress(_chunks(total), part.name) as progress:
        stream.seek(held)
        for block in answer.iter_content(_CHUNK):
            if most is not None and stream.tell() + len(block) > most:
                raise InputError(
                    f"{part.name}: the server sends more than the {human(most)} of the published file"
                )
            stream.write(block)
            progress.step(done=_chunks(stream.tell()))
        stream.truncate()
    size = part.stat().st_size
    if total is not None and size != total:
        raise InputError(
            f"{part.name}: the connection ended after {human(size)} of {human(total)}; run the same command to continue"
        )


def _require_space(part: Path, size: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if size > free:
        raise InputError(f"{part.parent}: {human(size)} are needed, {human(free)} are free on this disk")


def _chunks(size: int | None) -> int:
    return max(1, -(-(size or 0) // _CHUNK))


def _part(target: Path, ending: str = PART) -> Path:
    """Return the file that grows beside a target, or what is noted of it."""
    base = target if target.name.endswith(PART) else target.with_name(target.name + PART)
    return base if ending == PART else base.with_name(base.name + ending)
