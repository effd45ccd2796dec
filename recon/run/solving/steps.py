"""The figures of every iteration, one JSON line each, so that a resumed run keeps its earlier ones."""

import json
import math
from pathlib import Path

from priors.runtime.run_folder.record import to_json
from recon.reconstructors.base import StepRecord

Curves = dict[str, list[tuple[float, float]]]


class StepLog:
    """The iterations of a run, in memory and in a file."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        """Continue the file or start it afresh."""
        self._path = path
        self._rows: list[dict[str, float]] = []
        if resume and path.exists():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            self._rows = [row for line in lines if (row := _row(line)) is not None]
        path.unlink(missing_ok=True)
        for row in self._rows:
            self._append(row)

    def add(self, record: StepRecord) -> None:
        """Keep one record; a step that was done before being interrupted is replaced."""
        row = {"iteration": float(record.iteration), **{k: float(v) for k, v in record.figures.items()}}
        self._rows = [old for old in self._rows if old["iteration"] < row["iteration"]] + [row]
        self._append(row)

    def last(self) -> int:
        """Return the number of the last step, 0 before the first."""
        return int(self._rows[-1]["iteration"]) if self._rows else 0

    def curves(self) -> Curves:
        """Return figure -> (iteration, value) pairs."""
        curves: Curves = {}
        for row in self._rows:
            for name, value in row.items():
                if name != "iteration":
                    curves.setdefault(name, []).append((row["iteration"], value))
        return curves

    def _append(self, row: dict[str, float]) -> None:
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(to_json(row, indent=None) + "\n")


def _row(line: str) -> dict[str, float] | None:
    """Return a line of the file, None for one that a kill cut short."""
    try:
        row = json.loads(line)
        figures = {str(name): math.nan if value is None else float(value) for name, value in row.items()}
    except (ValueError, TypeError, AttributeError):
        return None
    return figures if "iteration" in figures else None
