"""What a CT file is: the modules ``recon.inspect_*`` say it, each of its own kind; this one tells whom to ask."""

from pathlib import Path

from priors.runtime.errors import InputError
from priors.runtime.inspection import Inspection
from recon.inspect import radiographs as inspect_radiographs
from recon.inspect import scan as inspect_scan
from recon.inspect import volume as inspect_volume


def claims(path: Path) -> bool:
    """Tell, from names and signatures, whether a path is a CT volume or scan rather than anything else."""
    return any(kind.claims(path) for kind in (inspect_scan, inspect_radiographs, inspect_volume))


def inspect_file(path: Path) -> Inspection:
    """Describe a CT volume or scan.

    Raises:
        InputError: it is damaged, or must be refused; the message says why.
    """
    if inspect_scan.claims(path):
        return inspect_scan.inspect_file(path)
    # A folder of TIFF radiographs could also be a stack of slices: the more particular kind is asked first.
    if inspect_radiographs.claims(path):
        return inspect_radiographs.inspect_file(path)
    return inspect_volume.inspect_file(path)


def draw(path: Path, png: Path) -> None:
    """Draw the scanner of a scan.

    Raises:
        InputError: it is no scan, or cannot be read.
    """
    if not inspect_scan.claims(path):
        raise InputError(f"{path}: is no scan with a geometry, so there is no scanner to draw")
    inspect_scan.draw(path, png)
