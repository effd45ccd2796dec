"""What ``tomocast data get`` and ``check`` do."""

from fnmatch import fnmatch
from pathlib import Path

from priors.datasets.fetch import agrees, fetch
from priors.datasets.manifest import DataFile, Manifest, manifest
from priors.runtime.errors import InputError


def get_files(name: str, out: Path, patterns: list[str]) -> list[Path]:
    """Download the files of a data set that have a direct URL.

    Raises:
        InputError: none has one (the message says how to get them), no path matches, or a download fails.
    """
    found = manifest(name)
    chosen = [item for item in found.files if _matches(item, patterns)]
    if patterns and not chosen:
        raise InputError(f"--file: found no file like {', '.join(patterns)} in the manifest of {found.name}")
    direct = [item for item in chosen if item.url]
    if not direct:
        raise InputError(
            f"{found.name}: cannot be downloaded without you. {_way(found)} Licence: {found.licence}."
        )
    print(f"{found.title}\nlicence: {found.licence}\nplease cite: {found.citation}")
    paths = []
    for item in direct:
        path = fetch(item, out)
        told = "checked" if item.checksum else "no checksum is published, not checked"
        print(f"{path}: {told}")
        paths.append(path)
    if len(direct) < len(chosen):
        print(f"{len(chosen) - len(direct)} files have no direct URL. {_way(found)}")
    return paths


def check_files(name: str, folder: Path) -> None:
    """Compare the files in a folder with a manifest, and print a line for each.

    Raises:
        InputError: one is missing or differs, or the manifest lists none.
    """
    found = manifest(name)
    if not found.files:
        raise InputError(
            f"{found.name}: its manifest lists no files, since its publisher states none to compare with"
        )
    bad = []
    for item in found.files:
        state = _state(folder / item.path, item)
        print(f"{item.path}: {state}")
        if state in ("missing", "differs"):
            bad.append(item.path)
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise InputError(
            f"{folder}: {len(bad)} of {len(found.files)} files are missing or differ ({', '.join(bad[:3])}{more})"
        )


def _state(path: Path, item: DataFile) -> str:
    if not path.is_file():
        return "missing"
    same = agrees(path, item)
    return "there (no published checksum)" if same is None else "as published" if same else "differs"


def _matches(item: DataFile, patterns: list[str]) -> bool:
    return not patterns or any(fnmatch(item.path, pattern) for pattern in patterns)


def _way(found: Manifest) -> str:
    """Return how to get the data otherwise, on one line."""
    return " ".join((found.instructions or f"See {found.source}").split()).rstrip(".") + "."
