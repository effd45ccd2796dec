"""One verdict from all checks: familiar, unfamiliar, do-not-believe; unknown where nothing could be checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from priors.runtime.report.page import Notice

Name = Literal["familiar", "unknown", "unfamiliar", "do-not-believe"]
ORDER: tuple[Name, ...] = ("familiar", "unknown", "unfamiliar", "do-not-believe")
UNFAMILIAR = 3.0
"""Score above which a volume is not like those of training ..."""
NOT_BELIEVED = 4.0
"""... and above which what the prior added is not to be believed."""

HEADINGS: dict[Name, str] = {
    "familiar": "As in training",
    "unknown": "Not known whether this is as in training",
    "unfamiliar": "Unfamiliar: unlike what the prior was trained on",
    "do-not-believe": "Do not believe this: far from what the prior was trained on",
}


@dataclass(frozen=True)
class Check:
    """What one check says: the verdict it alone would give, and why."""

    verdict: Name
    reason: str


@dataclass(frozen=True)
class Verdict:
    """The worst of all checks.

    Attributes:
        name: the verdict.
        score: distance from the reference in deviations, None where there is no reference.
        reasons: one sentence for every check that does not find things familiar.
    """

    name: Name
    score: float | None
    reasons: tuple[str, ...]

    @classmethod
    def of(cls, checks: Sequence[Check], score: float | None) -> "Verdict":
        """Return the worst verdict of the checks, with their reasons, worst first."""
        told = sorted(checks, key=lambda check: -ORDER.index(check.verdict))
        worst: Name = told[0].verdict if told else "familiar"
        return cls(worst, score, tuple(check.reason for check in told))

    def metrics(self) -> dict[str, Any]:
        """Return what ``metrics.json`` holds."""
        return {"verdict": self.name, "score": self.score, "reasons": list(self.reasons)}


def worst_of(verdicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return ``{"familiarity": ...}`` of parts of a volume, the worst of theirs; nothing of none."""
    if not verdicts:
        return {}
    return {
        "familiarity": max(verdicts, key=lambda each: (ORDER.index(each["verdict"]), each["score"] or 0.0))
    }


def score_check(score: float | None, farthest: str) -> list[Check]:
    """Return what a score says; ``farthest`` names the figure that is farthest off."""
    if score is None or score <= UNFAMILIAR:
        return []
    name: Name = "do-not-believe" if score > NOT_BELIEVED else "unfamiliar"
    return [
        Check(
            name,
            f"the prior's residual lies {score:.1f} deviations from that of its training data ({farthest}), "
            f"over {UNFAMILIAR:g} is unfamiliar, over {NOT_BELIEVED:g} not to be believed",
        )
    ]


def sentence(familiarity: Mapping[str, Any]) -> str:
    """Return one line for the terminal."""
    score = "" if familiarity["score"] is None else f" (score {familiarity['score']:.2g})"
    reasons = f": {'; '.join(familiarity['reasons'])}" if familiarity["reasons"] else ""
    return f"familiarity: {familiarity['verdict']}{score}{reasons}"


def notice(familiarity: Mapping[str, Any]) -> Notice:
    """Return the head of a report."""
    name: Name = familiarity["verdict"]
    score = familiarity["score"]
    heading = HEADINGS[name] + ("" if score is None else f" (score {score:.2g})")
    kind: Literal["good", "doubtful", "bad"] = {
        "familiar": "good",
        "unknown": "doubtful",
        "unfamiliar": "doubtful",
        "do-not-believe": "bad",
    }[name]  # type: ignore[assignment]
    return Notice(kind, heading, familiarity["reasons"])
