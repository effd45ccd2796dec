"""Data that travels with the software: configurations and manifests of data sets.

In a checkout they are folders beside the packages; a wheel carries them inside ``tomocast``, so that it installs no
top-level name that is not a package of ours.
"""

from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def shipped(name: str) -> Path:
    """Return the folder ``configs`` or ``data_manifests``, of a checkout or of an installed wheel."""
    inside = _ROOT / "tomocast" / name
    return inside if inside.is_dir() else _ROOT / name


def shipped_file(path: Path) -> Path:
    """Return ``path``, or the shipped file of that name: ``configs/recon/tv.yaml`` can be named anywhere."""
    first = path.parts[:1]
    if path.exists() or path.is_absolute() or first not in (("configs",), ("data_manifests",)):
        return path
    inside = shipped(first[0]).joinpath(*path.parts[1:])
    return inside if inside.is_file() else path
