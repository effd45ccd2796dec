"""What a scan is: beam, views, detector, range of the line integrals."""

from pathlib import Path

import h5py

from priors.runtime.inspection import Inspection
from recon.io.scans import read_scan


def claims(path: Path) -> bool:
    """Tell whether a path looks like a scan: HDF5 with a scan's content, MATLAB, or YAML."""
    if not path.is_file():
        return False
    if path.suffix.lower() in (".mat", ".yaml", ".yml"):
        return True
    with path.open("rb") as stream:
        if stream.read(8) != b"\x89HDF\r\n\x1a\n":
            return False
    try:
        with h5py.File(path, "r") as file:
            return "format" in file.attrs or "exchange" in file
    except OSError:
        return False


def inspect_file(path: Path) -> Inspection:
    """Describe a scan.

    Raises:
        InputError: it is damaged, of an unknown kind, or holds what no scanner measures.
    """
    data = read_scan(path)
    rows, columns = data.scan.shape
    facts = {
        "beam": f"{data.scan.beam}, {data.scan.detector} detector",
        "views": str(data.scan.views),
        "detector": f"{rows} rows x {columns} columns",
        "line integrals": f"{data.sinogram.min():.4g} .. {data.sinogram.max():.4g}",
        "unit of a reconstruction": data.unit,
    }
    return Inspection("CT scan", facts)
