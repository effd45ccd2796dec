"""One row of an audit, as the card keeps it."""

from collections.abc import Callable, Mapping
from typing import Literal

from priors.card.trust import AuditRow

Step = Callable[[str], None]


def row(
    audit: str, figures: Mapping[str, float], verdict: Literal["ok", "suspect", "informative"], data: str
) -> AuditRow:
    """Return a row with four digits."""
    rounded = {name: float(f"{value:.4g}") for name, value in figures.items()}
    return AuditRow(audit=audit, figures=rounded, verdict=verdict, data=data)
