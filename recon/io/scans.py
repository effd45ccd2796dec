"""Scans in files: our own HDF5, HTC 2022 MATLAB files, HDF5 Data Exchange, and NumPy with a geometry in YAML.

The format is told by content: the signature of HDF5 and what the file holds, the header of MATLAB 5, else the
ending.
"""

from collections.abc import Callable
from pathlib import Path

import h5py

from priors.runtime.errors import InputError
from recon.io.array_scan import read_array_scan
from recon.io.data_exchange import read_data_exchange
from recon.io.htc2022 import read_htc2022
from recon.io.scan_data import ScanData
from recon.io.scan_file import FORMAT, read_scan_file, write_scan

__all__ = ["ScanData", "read_scan", "write_scan"]

_KINDS = "a tomocast scan (.h5), HTC 2022 (.mat), HDF5 Data Exchange (.h5) or a scan.yaml beside a .npy"


def read_scan(path: Path) -> ScanData:
    """Return the scan in ``path``.

    Raises:
        InputError: the file does not exist, is of an unknown kind or damaged, or holds what no scanner
            measures.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected {_KINDS}")
    if not path.is_file():
        raise InputError(f"{path}: does not exist, expected {_KINDS}")
    return _reader(path)(path)


def _reader(path: Path) -> Callable[[Path], ScanData]:
    with path.open("rb") as file:
        head = file.read(520)
    if not head:
        raise InputError(f"{path}: is empty, expected {_KINDS}")
    if head.startswith(b"MATLAB 5.0"):
        return read_htc2022
    # A MATLAB 7.3 file is HDF5 behind a header of 512 bytes.
    if b"\x89HDF\r\n\x1a\n" in (head[:8], head[512:520]):
        return _hdf5_reader(path)
    if path.suffix.lower() in (".yaml", ".yml"):
        return read_array_scan
    if path.suffix.lower() == ".npy":
        raise InputError(
            f"{path}: has no geometry; give the .yaml that names it as data (see docs/scan-format.md)"
        )
    raise InputError(f"{path}: unknown kind of file, expected {_KINDS}")


def _hdf5_reader(path: Path) -> Callable[[Path], ScanData]:
    try:
        with h5py.File(path, "r") as file:
            kind, keys = file.attrs.get("format"), sorted(file.keys())
            exchange = isinstance(file.get("exchange"), h5py.Group)
    except (OSError, RuntimeError, KeyError) as error:
        raise InputError(f"{path}: is a damaged or truncated HDF5 file") from error
    if kind == FORMAT:
        return read_scan_file
    if "CtDataLimited" in keys or "CtDataFull" in keys:
        return read_htc2022
    if exchange:
        return read_data_exchange
    raise InputError(f"{path}: HDF5 file with {', '.join(keys) or 'nothing'} inside, expected {_KINDS}")
