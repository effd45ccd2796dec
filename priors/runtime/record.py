"""The run folder: everything needed to know how a result was made, and to make it again.

    config.yaml     the resolved configuration; running it again gives the same result
    versions.json   Python, platform, packages, git revision
    inputs.json     name, size and SHA-256 of every input, the command, the seed
    metrics.json    figures of the result
    log.txt         what was printed

No file holds a path of the machine or a field of a patient's record: inputs appear by file name only.
"""

import hashlib
import json
import math
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from priors.runtime.config import read_yaml, to_yaml
from priors.runtime.errors import InputError
from priors.runtime.files import atomic


class RunFolder:
    """A folder that collects the record of one job."""

    def __init__(self, path: Path) -> None:
        """Name the folder; ``open_run`` creates it."""
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def file(self, name: str) -> Path:
        """Return the path of a file of this run."""
        return self.path / name

    def write_config(self, settings: BaseModel) -> None:
        """Save the resolved configuration."""
        with atomic(self.file("config.yaml")) as temporary:
            temporary.write_text(to_yaml(settings), encoding="utf-8")

    def write_inputs(self, inputs: Mapping[str, Path], *, command: str, seed: int) -> None:
        """Save name, size and hash of every input beside the command and the seed."""
        described = {role: describe_input(path) for role, path in inputs.items()}
        self.write_json("inputs.json", {"command": command, "seed": seed, "inputs": described})
        self.write_json("versions.json", versions())

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        """Save a mapping; a number that is not finite becomes null, since JSON has no word for it."""
        with atomic(self.file(name)) as temporary:
            temporary.write_text(to_json(data) + "\n", encoding="utf-8")

    def log(self, text: str) -> None:
        """Append one time-stamped line to log.txt."""
        with self.file("log.txt").open("a", encoding="utf-8") as stream:
            stream.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}\n")


def open_run(path: Path, *, resume: bool = False, overwrite: bool = False) -> RunFolder:
    """Create the folder of a run.

    Args:
        path: where.
        resume: continue in a folder that already holds a run.
        overwrite: empty a folder that holds a run first; a folder without config.yaml is never emptied.

    Raises:
        InputError: it holds files and neither option was given, or it cannot be created.
    """
    path = Path(path)
    try:
        held = sorted(item.name for item in path.iterdir()) if path.exists() else []
        if held and overwrite and not resume:
            if "config.yaml" not in held:
                raise InputError(f"{path}: holds files but no run (no config.yaml); it will not be emptied")
            shutil.rmtree(path)
        elif held and not resume:
            raise InputError(f"{path}: already holds {held[0]}; give --resume, --overwrite or another folder")
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be used as a run folder ({error.strerror or error})") from error
    return RunFolder(path)


def check_same_config(run: RunFolder, settings: BaseModel) -> None:
    """Check that a resumed run continues with the configuration it began with.

    Raises:
        InputError: a key differs; the message names the first one.
    """
    if not run.file("config.yaml").exists():
        return
    begun, now = _flat(read_yaml(run.file("config.yaml"))), _flat(settings.model_dump(mode="json"))
    for key in sorted(begun.keys() | now.keys()):
        if begun.get(key) != now.get(key):
            raise InputError(
                f"{run.file('config.yaml')}: {key} was {begun.get(key)!r} when the run began, found "
                f"{now.get(key)!r}; resume with the same configuration or start another run"
            )


def describe_input(path: Path) -> dict[str, Any]:
    """Return ``{file, bytes, sha256}``; a folder's hash covers the sorted files in it, unnamed."""
    path = Path(path)
    files = sorted(item for item in path.rglob("*") if item.is_file()) if path.is_dir() else [path]
    digest, size = hashlib.sha256(), 0
    try:
        for item in files:
            with item.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
                    size += len(block)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    return {"file": path.name, "bytes": size, "sha256": digest.hexdigest()}


def versions() -> dict[str, Any]:
    """Return Python, platform, package versions and the git state of the source tree."""
    packages: dict[str, str | None] = {}
    for text in metadata.requires("tomocast") or [] if _installed("tomocast") else []:
        name = re.split(r"[^A-Za-z0-9_.-]", text, maxsplit=1)[0]
        if "extra ==" not in text:
            packages[name] = _installed(name)
    return {
        "tomocast": _installed("tomocast"),
        "git": _git_state(Path(__file__).resolve().parents[2]),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "packages": packages,
    }


def to_json(data: Any, *, indent: int | None = 2) -> str:
    """Return strict JSON; NaN and infinity become null."""
    return json.dumps(_finite(data), indent=indent, allow_nan=False)


def _finite(data: Any) -> Any:
    """Replace numbers JSON cannot hold by None."""
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data


def _installed(name: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _git_state(root: Path) -> dict[str, Any] | None:
    """Return revision and whether files differ from it; None outside a git checkout."""
    if not (root / ".git").exists():
        return None
    try:
        revision = _git(root, "rev-parse", "HEAD")
        return {"revision": revision, "changed": bool(_git(root, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    """Run one git command and return what it prints."""
    done = subprocess.run(
        ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=20
    )
    return done.stdout.strip()


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Return ``{a.b.c: value}``."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        key: value
        for name, sub in tree.items()
        for key, value in _flat(sub, f"{prefix}.{name}" if prefix else str(name)).items()
    }
