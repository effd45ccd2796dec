"""Scans in files: every format, listed once, and how one is chosen.

The format is known by content: the signature of HDF5 and what the file holds, the header of MATLAB 5, the private tags
of DICOM, else the ending; the first in the list that claims a file reads it.
"""

from pathlib import Path

import h5py

from priors.runtime.errors import InputError
from recon.data.scan import Scan
from recon.io.scans import ct_pd, data_exchange, htc2022, nxtomo, scan_file
from recon.io.scans.arrays import scan as arrays
from recon.io.scans.format import HEAD, ScanFormat, ScanOptions, is_hdf5
from recon.io.scans.hdf5_access import check_links
from recon.io.scans.scan_file import write_scan

__all__ = ["FORMATS", "Scan", "ScanOptions", "format_of", "read_scan", "write_scan"]

FORMATS: tuple[ScanFormat, ...] = (
    scan_file.FORMAT,
    htc2022.FORMAT,
    data_exchange.FORMAT,
    nxtomo.FORMAT,
    arrays.FORMAT,
    ct_pd.FORMAT,
)
_KINDS = ", ".join(kind.title for kind in FORMATS)


def read_scan(path: Path, options: ScanOptions = ScanOptions()) -> Scan:  # noqa: B008 (frozen)
    """Return the scan in ``path``, or the detector rows of it that the options pick.

    Raises:
        InputError: the file does not exist, is of an unknown kind or damaged, or holds what no scanner
            measures.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: does not exist, expected {_KINDS}")
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: is neither a file nor a folder (a pipe or a device), expected {_KINDS}")
    head = _head(path)
    kind = format_of(path)
    if kind is not None:
        if kind.read_part is not None:
            return kind.read_part(path, options)
        scan = kind.read(path)
        return scan if options.pick is None else scan.rows(*options.pick(scan.grid.shape[0]))
    if path.is_dir():
        raise InputError(f"{path}: is a folder without projections, expected {_KINDS}")
    if not head:
        raise InputError(f"{path}: is empty, expected {_KINDS}")
    if path.suffix.lower() in (".npy", ".tif", ".tiff", ".raw", ".bin"):
        raise InputError(
            f"{path}: has no geometry; give the .yaml that names it as data (see docs/formats/scans.md)"
        )
    if is_hdf5(head):
        with h5py.File(path, "r") as file:
            try:
                for name in file:
                    check_links(path, file, str(name))
            except InputError as error:
                raise InputError(f"{path}: {error}") from error
            # A damaged name comes as bytes.
            keys = ", ".join(sorted(str(key)[:40] for key in file)) or "nothing"
        raise InputError(f"{path}: HDF5 file with {keys} inside, expected {_KINDS}")
    raise InputError(f"{path}: unknown kind of file, expected {_KINDS}")


def reads_parts(path: Path) -> bool:
    """Tell whether some rows of a scan can be read without the others."""
    if not Path(path).is_file():
        return False
    kind = format_of(Path(path))
    return kind is not None and kind.read_part is not None


def stored_bytes(path: Path) -> int:
    """Return the size of a scan's measurement as it is stored, but not packed.

    Raises:
        InputError: they are named by a file that is damaged.
    """
    kind = format_of(path)
    return path.stat().st_size if kind is None or kind.size is None else kind.size(path)


def format_of(path: Path) -> ScanFormat | None:
    """Return the format that claims ``path``, None where none does.

    Raises:
        InputError: an HDF5 file is damaged.
    """
    head = _head(path)
    return next((kind for kind in FORMATS if kind.claims(path, head)), None)


def _head(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(HEAD)
