"""A folder of TIFF radiographs with their dark and flat fields: what is there, and whether the fields are swapped.

Such a folder has no geometry; a scan.yaml that names the files gives it one. Fields are known by their names.
"""

from pathlib import Path

import numpy as np

from priors.runtime.inspection import Inspection
from recon.io.volumes.tiff.pages import ENDINGS, load_tiff, natural_order

_DARK, _FLAT = ("dark",), ("flat", "white", "open", "ffield")


def claims(path: Path) -> bool:
    """Tell whether a path is a folder of TIFF files with fields among them."""
    if not path.is_dir():
        return False
    names = [file.name.lower() for file in path.iterdir()]
    pages = [name for name in names if name.endswith(ENDINGS)]
    return any(name.startswith(_DARK) for name in pages) and any(name.startswith(_FLAT) for name in pages)


def inspect_file(path: Path) -> Inspection:
    """Describe the radiographs and fields of a folder.

    Raises:
        InputError: a file cannot be read.
    """
    files = natural_order(path)
    dark, flat = (_mean_median(files, words) for words in (_DARK, _FLAT))
    rest = [file for file in files if not file.name.lower().startswith(_DARK + _FLAT)]
    facts = {"dark field": f"median {dark:.5g}", "flat field": f"median {flat:.5g}"}
    if rest:
        first = load_tiff(rest[0]).values
        shape = " x ".join(map(str, first.shape))
        facts = {"radiographs": f"{len(rest)} of {shape} (row, column), {first.dtype}", **facts}
        facts["first radiograph"] = f"{first.min():.5g} .. {first.max():.5g}, median {np.median(first):.5g}"
    warnings = ["no geometry: name these files in a scan.yaml (docs/formats/scans.md)"]
    if dark >= flat:
        warnings.append(
            f"the dark field ({dark:.5g}) is brighter than the flat field ({flat:.5g}): are they swapped?"
        )
    return Inspection("radiographs", facts, tuple(warnings))


def _mean_median(files: list[Path], words: tuple[str, ...]) -> float:
    return float(
        np.mean([np.median(load_tiff(file).values) for file in files if file.name.lower().startswith(words)])
    )
