"""What the benchmarks of assimilation share: observing, running tomocast, timing, scoring, tables."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from assimilation.fields.fields import Ensemble, Fields
from assimilation.verification.verify import VerifyOptions, verify
from priors.runtime.run_folder.record import to_json

TOMOCAST = [sys.executable, "-m", "tomocast"]
COLUMNS = ("rmse", "crps", "spread_skill", "bias")


def tomocast(*arguments: object) -> float:
    """Run the command line; return its CPU seconds. A failure stops the benchmark."""
    before = _children()
    subprocess.run([*TOMOCAST, *map(str, arguments)], check=True)
    return _children() - before


def timed(work: Callable[[], Ensemble]) -> tuple[Ensemble, float]:
    """Return a result and the CPU seconds of this process it took."""
    before = time.process_time()
    return work(), time.process_time() - before


def stacked(parts: Iterable[Iterable[tuple[np.datetime64, Any]]], like: Fields) -> Ensemble:
    """Return the ensemble of analyses given trajectory by trajectory, time by time."""
    members = [np.stack([np.asarray(state) for _, state in part], axis=1) for part in parts]
    return Ensemble(np.stack(members).astype(np.float32), like.times, like.variables, like.grid, {})


def scored(
    ensemble: Ensemble, truth: Fields, *, skip: int = 0, options: VerifyOptions | None = None
) -> dict[str, Any]:
    """Return every score after the first ``skip`` times."""
    times = truth.times[skip:]
    places = np.isin(ensemble.times, times)
    kept = replace(ensemble, members=ensemble.members[:, :, places], times=ensemble.times[places])
    return verify(kept, truth, options or VerifyOptions(draws=200))


def row(scores: dict[str, Any], cpu_s: float) -> dict[str, Any]:
    """Return what a table shows of one method."""
    held = {name: scores[name] for name in COLUMNS}
    return {
        **held,
        "members": scores["members"],
        "cpu_s": cpu_s,
        "intervals": scores["intervals"],
        "by_time": scores["by_time"],
        "rank_histogram": scores["rank_histogram"],
    }


def keep(record: Path | None, key: str, entry: dict[str, Any]) -> None:
    """Add one entry to the JSON record, so that a benchmark can be continued."""
    if record is None:
        return
    rows = read(record)
    rows[key] = entry
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(to_json(rows, indent=1))


def read(record: Path | None) -> dict[str, Any]:
    """Return the entries a record holds."""
    if record is None or not record.is_file():
        return {}
    found: dict[str, Any] = json.loads(record.read_text())
    return found


def table(rows: dict[str, dict[str, Any]], columns: tuple[str, ...] = (*COLUMNS, "members", "cpu_s")) -> str:
    """Return the rows as a Markdown table, intervals in brackets where there are some."""
    lines = ["| method | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, entry in rows.items():
        lines.append(f"| {name} | " + " | ".join(_cell(entry, column) for column in columns) + " |")
    return "\n".join(lines)


def report(text: str, out: Path | None) -> None:
    """Print Markdown, and write it where asked."""
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n", encoding="utf-8")


def number(value: float | None) -> str:
    """Return three digits, a dash where there is no value."""
    return "-" if value is None or value != value else f"{value:.3g}"


def _cell(entry: dict[str, Any], column: str) -> str:
    value = entry.get(column)
    text = str(value) if isinstance(value, int) else number(value)
    span = (entry.get("intervals") or {}).get(column)
    if span and column in ("rmse", "crps"):
        text += f" [{number(span[0])}, {number(span[1])}]"
    return text


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
