"""What `tomocast inspect` tells of one thing: its kind, its facts in reading order, what looks wrong with it.

Every package inspects its own files: `recon.inspect.files` volumes and scans, `assimilation.inspect.files` fields and
observations. Both answer two questions: is a path theirs (cheaply, by signature, ending or content), and what is it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from priors.runtime.terminal import visible


@dataclass(frozen=True)
class Inspection:
    """One thing, described for a person.

    Attributes:
        kind: what it is, such as ``CT volume``.
        facts: label to value, in reading order; no patient identifiers.
        warnings: what looks wrong, one sentence each.
    """

    kind: str
    facts: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def text(self) -> str:
        """Return lines for a terminal."""
        rows = {"kind": self.kind, **self.facts}
        width = max(map(len, rows)) + 2
        lines = [f"{label + ':':<{width}}{value}" for label, value in rows.items()]
        return visible("\n".join([*lines, *(f"warning: {sentence}" for sentence in self.warnings)]) + "\n")

    def record(self) -> dict[str, Any]:
        """Return the same as plain data for JSON."""
        return {"kind": self.kind, "facts": dict(self.facts), "warnings": list(self.warnings)}
