"""What a CT file is: `inspect_volume` and `inspect_scan` say it, this module tells which of them to ask."""

from pathlib import Path

from priors.runtime.inspection import Inspection
from recon import inspect_scan, inspect_volume


def claims(path: Path) -> bool:
    """Tell, from names and signatures, whether a path is a CT volume or scan rather than anything else."""
    return inspect_scan.claims(path) or inspect_volume.claims(path)


def inspect_file(path: Path) -> Inspection:
    """Describe a CT volume or scan.

    Raises:
        InputError: it is damaged, or must be refused; the message says why.
    """
    if inspect_scan.claims(path):
        return inspect_scan.inspect_file(path)
    return inspect_volume.inspect_file(path)
