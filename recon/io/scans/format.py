"""What a file format of scans is. A format is one file of this package; ``recon.io.scans.registry`` lists them all."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py

from priors.runtime.errors import InputError
from priors.runtime.files.hdf5_probe import check_hdf5
from recon.data.scan import Scan

HEAD = 520
"""Bytes of a file that are enough to tell its kind: a MATLAB 7.3 file is HDF5 behind a header of 512."""
_HDF5 = b"\x89HDF\r\n\x1a\n"


@dataclass(frozen=True)
class ScanOptions:
    """Options of a reader beyond the path.

    Attributes:
        pick: from the number of detector rows to the first and the end of those to read; None reads all.
        sample: most rows to read, in the middle of those picked; the scan then says what all of them are (``whole``).
        centre: column of the rotation axis, where a person knows it; None takes it from the file or searches it.
        doubtful_centre: take the best guess, with a warning, where the estimates of the axis disagree.
    """

    pick: Callable[[int], tuple[int, int]] | None = None
    sample: int | None = None
    centre: float | None = None
    doubtful_centre: bool = False


@dataclass(frozen=True)
class ScanFormat:
    """A file format.

    Attributes:
        title: what a message calls it.
        claims: tells from the path and the first ``HEAD`` bytes (none of a folder) whether it is of this kind.
        read: returns the scan.
        read_part: returns the rows asked for without reading the others; None where the file is read whole.
        size: bytes of the measurement, not packed; None where that is the size of the file.
    """

    title: str
    claims: Callable[[Path, bytes], bool]
    read: Callable[[Path], Scan]
    read_part: Callable[[Path, ScanOptions], Scan] | None = None
    size: Callable[[Path], int] | None = None


def is_hdf5(head: bytes) -> bool:
    """Tell from its first bytes whether a file is HDF5, MATLAB 7.3 included."""
    return _HDF5 in (head[:8], head[512:520])


def hdf5_bytes(*names: str) -> Callable[[Path], int]:
    """Return what tells the bytes that arrays of an HDF5 file of these names take, not packed, in any group."""

    def size(path: Path) -> int:
        total = 0

        def add(name: str, member: object) -> None:
            nonlocal total
            if isinstance(member, h5py.Dataset) and f"/{name}".endswith(tuple(f"/{end}" for end in names)):
                total += member.nbytes

        try:
            with h5py.File(path, "r") as file:
                file.visititems(add)
        except Exception:
            # HDF5 reports damage with errors of many kinds; the reader says which.
            return path.stat().st_size
        return max(total, path.stat().st_size)

    return size


def hdf5_holds(path: Path, head: bytes, wanted: Callable[[h5py.File], bool]) -> bool:
    """Tell whether an HDF5 file holds what ``wanted`` looks for.

    Raises:
        InputError: it is damaged.
    """
    if not is_hdf5(head):
        return False
    check_hdf5(path)
    try:
        with h5py.File(path, "r") as file:
            return bool(wanted(file))
    except Exception as error:
        # HDF5 reports damage with errors of many kinds.
        raise InputError(f"{path}: is a damaged or truncated HDF5 file") from error
