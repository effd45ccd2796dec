"""What a scan is: beam, views, detector, range of the line integrals."""

from pathlib import Path

from priors.runtime.errors import InputError
from priors.runtime.inspection import Inspection
from recon.io.scans import format_of, read_scan


def claims(path: Path) -> bool:
    """Tell whether a path looks like a scan: see the formats of ``recon.io.scans``."""
    try:
        return format_of(path) is not None
    except InputError:
        return False


def inspect_file(path: Path) -> Inspection:
    """Describe a scan.

    Raises:
        InputError: it is damaged, of an unknown kind, or holds what no scanner measures.
    """
    data = read_scan(path)
    rows, columns = data.scan.shape
    kind = format_of(path)
    bad = 100 * float((data.weights <= 0).mean())
    facts = {
        "format": "" if kind is None else kind.title,
        "beam": f"{data.scan.beam}, {data.scan.detector} detector",
        "views": str(data.scan.views),
        "detector": f"{rows} rows x {columns} columns",
        "line integrals": f"{data.sinogram.min():.4g} .. {data.sinogram.max():.4g}",
        "unit of a reconstruction": data.unit,
        "suggested grid": " x ".join(map(str, data.volume.shape)) + " (z, y, x)",
        "rays of weight 0": f"{bad:.3g} %",
        **{key.replace("_", " "): str(value)[:100] for key, value in data.provenance.items()},
    }
    return Inspection("CT scan", facts)
