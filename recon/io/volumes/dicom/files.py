"""DICOM files in a folder, a zip archive or one file.

Of a file on disk only the header is read: pixels are read where they are needed, so that a series is in memory once.
Messages carry file names, never a patient's name, number or date.
"""

import io
import os
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_partial, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from priors.runtime.errors import InputError
from priors.runtime.files.bounds import check_fits, check_regular, check_within
from priors.runtime.system.memory import human

Item = TypeVar("Item")
Made = TypeVar("Made")
Named = tuple[str, FileDataset]
_NOT_SLICES = ("DICOMDIR",)
_SHOWN = 3
"""Names of files passed over that are told."""
_DEFERRED = 2**15
"""Bytes above which an element stays in its file until it is asked for."""
_ELEMENTS = 10_000
"""Elements of a data set, those in sequences not counted; a slice has some hundred."""
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_LARGEST_DEFLATED = 2**28
_INFLATED = 2**31
"""Bytes of the largest file an archive may hold: more is an archive made to exhaust the memory."""


def in_threads(work: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
    """Return ``work`` of every item, in order; an error of the first that fails is raised."""
    workers = min(
        8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, items))


def is_dicom(head: bytes) -> bool:
    """Tell from the first 132 bytes whether a file is DICOM."""
    return head[128:132] == b"DICM"


def read_files(path: Path, remarks: list[str] | None = None) -> list[Named]:
    """Return the data sets in ``path`` with the names of their files; other files are passed over.

    Args:
        path: folder, zip archive or file.
        remarks: takes what was passed over and why.

    Raises:
        InputError: a damaged file or archive, or a single file that is not DICOM.
    """
    if path.is_dir():
        members = sorted(path.rglob("*"))
        check_regular(path, members)
        files = [p for p in members if p.is_file() and p.name not in _NOT_SLICES]
        check_within(path, files)
        named = [(file.name, parse_file(file)) for file in files if _is_dicom_file(file)]
        if remarks is not None:
            others = [file.name for file in files if not _is_dicom_file(file)]
            remarks += _passed_over(others, "files that are not DICOM")
            linked = sorted(p.name for p in path.rglob("*") if p.is_symlink() and p.is_dir())
            remarks += _passed_over(linked, "links to folders, which are not followed")
        return _images(named, remarks)
    if zipfile.is_zipfile(path):
        named = [(name, parse(name, content)) for name, content in _members(path) if is_dicom(content[:132])]
        return _images(named, remarks)
    only = parse_file(path)
    if _is_directory(path.name, only):
        raise InputError(
            f"{path}: is a DICOM directory (DICOMDIR), no image; give the folder of the files it lists"
        )
    return [(path.name, only)]


def _images(named: list[Named], remarks: list[str] | None) -> list[Named]:
    """Return what is no directory record, which lists files and holds no image."""
    images, records = [], []
    for name, data in named:
        if _is_directory(name, data):
            records.append(name)
        else:
            images.append((name, data))
    if remarks is not None:
        remarks += _passed_over(records, "directory records (Media Storage Directory)")
    return images


def _is_directory(name: str, data: FileDataset) -> bool:
    return _stated(name, data, "MediaStorageSOPClassUID") == MediaStorageDirectoryStorage


def _stated(name: str, data: FileDataset, keyword: str) -> object:
    """Return an element of the file's own header, None where it has none.

    Raises:
        InputError: it cannot be decoded, which shows when it is asked for.
    """
    meta = getattr(data, "file_meta", None) or {}
    try:
        return meta.get(keyword)
    except Exception as error:
        # As in `parse`: damage shows in many ways.
        raise InputError(f"{name}: is a damaged or truncated DICOM file ({type(error).__name__})") from error


def _passed_over(names: list[str], what: str) -> list[str]:
    if not names:
        return []
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    return [f"passed over {len(names)} {what}: {shown}"]


def parse_file(path: Path) -> FileDataset:
    """Return the data set of a file, whose large elements stay in the file until they are asked for.

    Raises:
        InputError: it is not DICOM, or damaged.
    """
    data = parse(path.name, path)
    if _stated(path.name, data, "TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        # What was inflated has no place in the file to come back to.
        return parse(path.name, path.read_bytes())
    return data


def parse(name: str, content: bytes | Path) -> FileDataset:
    """Return the data set in ``content``, bytes or a file; an element is decoded when it is asked for.

    Raises:
        InputError: it is not DICOM, or damaged.
    """
    try:
        if isinstance(content, bytes):
            return read_bounded(name, io.BytesIO(content))
        with content.open("rb") as stream:
            return read_bounded(name, stream, defer_size=_DEFERRED)
    except InputError:
        raise
    except InvalidDicomError as error:
        raise InputError(f"{name}: is not a DICOM file (no DICM after 128 bytes)") from error
    except Exception as error:
        # A damaged file makes pydicom fail in many ways (EOFError, KeyError, struct.error, ...).
        raise InputError(f"{name}: is a damaged or truncated DICOM file ({type(error).__name__})") from error


def read_bounded(
    name: str,
    stream: BufferedIOBase,
    *,
    defer_size: int | None = None,
    header: bool = False,
    tags: list[int] | None = None,
) -> FileDataset:
    """Return the data set of a stream, whose size after inflation and number of elements are bounded.

    A data set of zeros is one of empty elements without end, each of which pydicom would keep.

    Args:
        name: what messages call it.
        stream: at its start; it can go back there.
        defer_size: bytes above which an element stays in the file.
        header: stop before the pixels.
        tags: elements to keep; None keeps all.

    Raises:
        InputError: there is more than a slice holds, or the data set begins with zeros.
        Exception: of many kinds, where it is damaged.
    """
    read = 0

    def stop(tag: Any, vr: str | None, length: int) -> bool:
        nonlocal read
        read += 1
        if read > _ELEMENTS:
            raise InputError(f"{name}: holds more than {_ELEMENTS} elements, which no slice does")
        return header and int(tag) in _PIXELS

    read_preamble(cast(BinaryIO, stream), False)
    syntax = _read_file_meta_info(cast(BinaryIO, stream)).get("TransferSyntaxUID")
    if syntax == DeflatedExplicitVRLittleEndian:
        _check_inflated(name, stream)
    elif stream.read(4) == bytes(4):
        # pydicom looks for a command set first, which no file has, and reads empty elements of it without end.
        raise InputError(f"{name}: is a damaged DICOM file: zeros follow its file meta information")
    stream.seek(0)
    chosen: Any = tags
    return read_partial(cast(BinaryIO, stream), stop, defer_size=defer_size, specific_tags=chosen)


def _check_inflated(name: str, stream: BufferedIOBase) -> None:
    """Inflate a deflated data set piece by piece, keeping nothing, as far as one may be large.

    Raises:
        InputError: it is larger, or begins with zeros.
    """
    inflater, whole = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while piece := stream.read(2**16):
        while piece:
            found = inflater.decompress(piece, 2**20)
            if whole == 0 and found.startswith(bytes(4)):
                raise InputError(f"{name}: is a damaged DICOM file: zeros follow its file meta information")
            whole += len(found)
            piece = inflater.unconsumed_tail
            if whole > _LARGEST_DEFLATED:
                raise InputError(
                    f"{name}: inflates to more than {human(_LARGEST_DEFLATED)}, which no slice does"
                )
    check_fits(name, 2 * whole)


def _is_dicom_file(path: Path) -> bool:
    with path.open("rb") as stream:
        return is_dicom(stream.read(132))


def _members(path: Path) -> list[tuple[str, bytes]]:
    try:
        with zipfile.ZipFile(path) as archive:
            found = []
            whole = sum(member.file_size for member in archive.infolist())
            check_fits(path, whole, hint="; unpack it into a folder, which is read slice by slice")
            for member in sorted(archive.infolist(), key=lambda info: info.filename):
                name = Path(member.filename).name
                if member.is_dir() or name in _NOT_SLICES:
                    continue
                if member.file_size > _INFLATED:
                    raise InputError(
                        f"{path}: {name} unpacks to {member.file_size} bytes, which no slice needs"
                    )
                found.append((name, archive.read(member)))
            return found
    except (
        zipfile.BadZipFile,
        RuntimeError,
        NotImplementedError,
        EOFError,
        OSError,
        ValueError,
        IndexError,  # a member without a name, in Python 3.11
        zlib.error,
    ) as error:
        raise InputError(f"{path}: the archive cannot be unpacked ({error})") from error
