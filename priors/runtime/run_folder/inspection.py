"""What a run folder is: the job, its inputs, its figures, what it said, and whether it is complete."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from priors.runtime.inspection import Inspection
from priors.runtime.run_folder.manifest import MANIFEST, claimed, matches, names_in
from priors.runtime.run_folder.record import RunFolder
from priors.runtime.system.memory import human

_METRICS, _INPUTS = "metrics.json", "inputs.json"
_LARGEST = 20  # facts of metrics.json, results listed


def is_run(path: Path) -> bool:
    """Tell whether a path is a run folder: one with a manifest."""
    return path.is_dir() and (path / MANIFEST).is_file()


def inspect_run(path: Path) -> Inspection:
    """Describe a run folder of either half.

    Raises:
        InputError: a record in it is damaged.
    """
    run = RunFolder(path)
    inputs = run.read_json(_INPUTS) if run.file(_INPUTS).exists() else {}
    metrics = run.read_json(_METRICS) if run.file(_METRICS).exists() else {}
    facts = {
        "command": str(inputs.get("command", metrics.get("command", "not recorded"))),
        "state": "complete" if metrics else "not complete (--resume continues it)",
        **{f"input {role}": _input(entry) for role, entry in dict(inputs.get("inputs", {})).items()},
        "seed": str(inputs.get("seed", "not recorded")),
        **_figures(metrics),
        **_results(path),
    }
    warnings = [str(text) for text in metrics.get("warnings", [])]
    if "command" not in inputs:
        warnings.append(
            "found no record of inputs: the run was stopped before it began, or files were removed"
        )
    return Inspection("run folder", facts, tuple(warnings))


def _input(entry: Any) -> str:
    """Return name, size and hash of an input."""
    if not isinstance(entry, Mapping):
        return str(entry)
    size = f", {human(int(entry['bytes']))}" if "bytes" in entry else ""
    return f"{entry.get('file', '?')}{size}, sha256 {str(entry.get('sha256', '?'))[:12]}..."


def _figures(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the plain numbers and words of metrics.json."""
    plain = {
        key: value
        for key, value in metrics.items()
        if key != "command" and isinstance(value, str | int | float | bool)
    }
    return {key: f"{value:.6g}" if isinstance(value, float) else str(value) for key, value in plain.items()}


def _results(path: Path) -> dict[str, str]:
    """Return what the run wrote, with sizes: folders as a whole."""
    held = claimed(path)
    sizes: dict[str, int] = {}
    for name in names_in(path):
        if matches(name, held):
            top = name.split("/")[0]
            sizes[top] = sizes.get(top, 0) + (path / name).stat().st_size
    listed = [f"{name} ({human(size)})" for name, size in sorted(sizes.items()) if name != MANIFEST]
    more = len(listed) - _LARGEST
    return {"files": ", ".join(listed[:_LARGEST]) + (f" and {more} more" if more > 0 else "")}
