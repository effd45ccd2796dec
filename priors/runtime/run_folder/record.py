"""The run folder: everything needed to know how a result was made, and to make it again.

    config.yaml        the resolved configuration; running it again gives the same result
    versions.json      Python, platform, packages, git revision
    inputs.json        name, size and SHA-256 of every input, the command, the seed
    fingerprint.json   hashes of everything that decides the result, checked by a resume
    metrics.json       figures of the result
    log.txt            what was printed
    run.json           which files in this folder a run wrote: nothing else is ever removed
    run.lock           who is writing, while a run is in progress

No file holds a path of the machine or a field of a patient's record: inputs appear by file name only.
"""

import contextlib
import hashlib
import json
import math
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any

from pydantic import BaseModel

from priors.runtime.config import read_yaml
from priors.runtime.errors import InputError
from priors.runtime.files import temporary
from priors.runtime.files.permissions import allow_nonsense
from priors.runtime.files.protect import check_output
from priors.runtime.files.writing import atomic
from priors.runtime.run_folder import manifest as run_manifest
from priors.runtime.run_folder.fingerprint import FILE as FINGERPRINT
from priors.runtime.run_folder.fingerprint import check_same, read_fingerprint
from priors.runtime.run_folder.lock import FolderLock
from priors.runtime.run_folder.manifest import MANIFEST, claimed, empty, held_in, matches, names_in
from priors.runtime.run_folder.privacy import portable, public, public_yaml, without_paths

_RECORD = ("config.yaml", "versions.json", "inputs.json", FINGERPRINT, "metrics.json", "log.txt")


class RunFolder:
    """A folder that collects the record of one job: ``with open_run(path) as run: ...``.

    What a run writes it claims first (`claim`), so that the manifest knows every file even of a run that was killed.
    """

    def __init__(self, path: Path) -> None:
        """Name the folder; ``open_run`` creates it."""
        self.path = Path(path)
        self._lock: FolderLock | None = None
        self._made = False

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes use the folder."""
        if self._lock is None or not self._lock.is_ours:
            return
        bare = self._made and run_manifest.is_bare(self.path)
        with contextlib.suppress(OSError):
            if bare:
                # Refused before it began: a folder that was not there is not left behind.
                self.file(MANIFEST).unlink()
            self._lock.release()
            if bare:
                self.path.rmdir()
        self._lock = None

    def __del__(self) -> None:
        self.close()

    def file(self, name: str) -> Path:
        """Return the path of a file of this run."""
        return self.path / name

    def claim(self, *patterns: str) -> None:
        """Note files as this run's, before they are written.

        Args:
            patterns: names relative to the folder; ``*`` and ``?`` stand for what varies, as in ``dicom/?????.dcm``.

        Raises:
            InputError: something that no run wrote has such a name.
        """
        run_manifest.claim(self.path, patterns)

    def remove(self, *names: str) -> None:
        """Remove files of this run, or folders of such files; what no run wrote stays."""
        held = claimed(self.path)
        for name in list(names_in(self.path)):
            if matches(name, held) and any(name == one or name.startswith(f"{one}/") for one in names):
                run_manifest.remove(self.path, [name])

    def begin(self, parts: Mapping[str, str]) -> None:
        """Note what decides the result; see `priors.runtime.run_folder.fingerprint`."""
        self.write_json(FINGERPRINT, parts)

    def check_same(self, parts: Mapping[str, str], *, state: Iterable[str] = ()) -> None:
        """Check, before anything is written, that a resumed run continues with what it began with.

        Args:
            parts: fingerprint of what is given now.
            state: files from which the run would continue.

        Raises:
            InputError: a part differs, or there is a state but no fingerprint to compare with, or another version of
                tomocast began it and ``--force`` was not given.
        """
        self._check_version()
        if self.file(FINGERPRINT).exists():
            check_same(self.file(FINGERPRINT), parts)
            return
        for name in state:
            if self.file(name).exists():
                raise InputError(
                    f"{self.path}: holds {name} but no {FINGERPRINT}, so that what it was made of is not known; "
                    "start another run"
                )

    def _check_version(self) -> None:
        """Compare the version that began the run with this one.

        A method may change from one version to the next: what the first half was made by and what the second half is
        made by would be in one result, which no version gives. A week of training is worth more than that rule, so
        ``--force`` continues and the record says so.
        """
        if not self.file("versions.json").exists():
            return
        begun, now = self.read_json("versions.json").get("tomocast"), _installed("tomocast")
        if begun != now:
            allow_nonsense(f"{self.path}: was begun with tomocast {begun}, this is {now}; start another run")

    def begun_with(self) -> dict[str, str]:
        """Return the fingerprint noted when the run began, empty where there is none."""
        return read_fingerprint(self.file(FINGERPRINT)) if self.file(FINGERPRINT).exists() else {}

    def write_config(self, settings: BaseModel) -> None:
        """Save the resolved configuration, without paths of the machine."""
        with atomic(self.file("config.yaml")) as temporary_file:
            temporary_file.write_text(public_yaml(settings), encoding="utf-8", errors="backslashreplace")

    def write_inputs(
        self, inputs: Mapping[str, Path | Mapping[str, Any]], *, command: str, seed: int
    ) -> None:
        """Save name, size and hash of every input beside the command and the seed.

        Args:
            inputs: role -> file or folder, or what `describe_input` returned of it.
            command: the verb.
            seed: of every random draw.
        """
        described = {
            role: describe_input(given) if isinstance(given, Path) else given
            for role, given in inputs.items()
        }
        self.write_json("inputs.json", {"command": without_paths(command), "seed": seed, "inputs": described})
        self.write_json("versions.json", versions())

    def write_json(self, name: str, data: Mapping[str, Any]) -> None:
        """Save a mapping; a number that is not finite becomes null, since JSON has no word for it."""
        with atomic(self.file(name)) as temporary_file:
            temporary_file.write_text(to_json(data) + "\n", encoding="utf-8")

    def read_json(self, name: str) -> dict[str, Any]:
        """Return a mapping saved by `write_json`.

        Raises:
            InputError: the file is absent or damaged.
        """
        try:
            found = json.loads(self.file(name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{self.file(name)}: is missing or damaged; start another run") from error
        if not isinstance(found, dict):
            raise InputError(f"{self.file(name)}: found no mapping; start another run")
        return found

    def log(self, text: str) -> None:
        """Append one time-stamped line to log.txt."""
        with self.file("log.txt").open("a", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {without_paths(text)}\n")


def open_run(
    path: Path, *, resume: bool = False, overwrite: bool = False, inputs: Iterable[Path | None] = ()
) -> RunFolder:
    """Create the folder of a run and lock it, until it is closed.

    Args:
        path: where.
        resume: continue in a folder that already holds a run.
        overwrite: remove the files of an earlier run first. Only what its manifest lists goes; other files stay.
        inputs: files and folders that the job reads, which must not lie in the folder.

    Raises:
        InputError: it holds files and neither option was given, it holds no run, an input lies in it, another
            process is writing into it, or it cannot be created.
    """
    path = Path(path)
    check_output(path, inputs, folder=True)
    try:
        held = held_in(path)
        if held and not (resume or overwrite):
            raise InputError(f"{path}: already holds {held[0]}; give --resume, --overwrite or another folder")
        if held and MANIFEST not in held:
            what = "emptied" if overwrite and not resume else "continued in"
            raise InputError(f"{path}: holds files but no run (no {MANIFEST}); it will not be {what}")
        claimed(path)
        run = RunFolder(path)
        run._made = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        run._lock = FolderLock(path)
        temporary.clear_stale(path, again=True)
        # Another process may have come and gone between the look and the lock.
        if not held and held_in(path):
            raise InputError(f"{path}: another run has begun there; give another folder")
        if held and overwrite and not resume:
            empty(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be used as a run folder ({error.strerror or error})") from error
    run.claim(MANIFEST, *_RECORD)
    if run._lock.taken_over:
        run.log(run._lock.taken_over)
        print(f"note: {path}: {run._lock.taken_over}", file=sys.stderr)
    return run


def check_complete(run: RunFolder, names: Iterable[str]) -> None:
    """Check that a run that says it is complete still has its results.

    Raises:
        InputError: one is gone.
    """
    for name in names:
        if not run.file(name).exists():
            raise InputError(
                f"{run.path}: metrics.json says that this run is complete, but {name} is missing; start it again with "
                "--overwrite"
            )


def check_same_config(run: RunFolder, settings: BaseModel) -> None:
    """Check that a resumed run continues with the configuration it began with.

    Raises:
        InputError: a key differs; the message names the first one.
    """
    if not run.file("config.yaml").exists():
        return
    begun, now, moved = (
        _flat(tree) for tree in (read_yaml(run.file("config.yaml")), public(settings), portable(settings))
    )
    for key in sorted(begun.keys() | now.keys()):
        found = begun.get(key)
        # A file may have another place by now; whether it is the same one, the fingerprint knows.
        name = PurePath(found).name if isinstance(found, str) and "/" in found else found
        if found != now.get(key) and name != moved.get(key):
            raise InputError(
                f"{run.file('config.yaml')}: {key} was {begun.get(key)!r} when the run began, found "
                f"{now.get(key)!r}; resume with the same configuration or start another run"
            )


def describe_input(path: Path, others: Iterable[Path] = ()) -> dict[str, Any]:
    """Return ``{file, bytes, sha256}``; a folder's hash covers the sorted files in it, unnamed.

    Args:
        path: file or folder.
        others: files that were read because this one names them or they stand beside it; listed under ``with``.

    Raises:
        InputError: a file cannot be read.
    """
    path = Path(path)
    named = [describe_input(other) for other in others]
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
    described = {"file": path.name, "bytes": size, "sha256": digest.hexdigest()}
    return {**described, "with": named} if named else described


def versions() -> dict[str, Any]:
    """Return Python, platform, package versions and the git state of the source tree."""
    packages: dict[str, str | None] = {}
    for text in metadata.requires("tomocast") or [] if _installed("tomocast") else []:
        name = re.split(r"[^A-Za-z0-9_.-]", text, maxsplit=1)[0]
        if "extra ==" not in text:
            packages[name] = _installed(name)
    return {
        "tomocast": _installed("tomocast"),
        "git": _git_state(Path(__file__).resolve().parents[3]),
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
