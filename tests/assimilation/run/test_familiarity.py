"""Verdicts on analyses: how far from the card's forecast error, how far from the observations."""

import pytest

from assimilation.run.familiarity import _of_departures, _of_surprise, needs_warning
from priors.audits.verdict import Verdict, worst_of


@pytest.mark.parametrize(
    ("surprise", "verdict"),
    [
        (1.0, "familiar"),
        (1.9, "familiar"),
        (0.6, "familiar"),
        (2.5, "unfamiliar"),
        # Fields that hardly move are as strange as fields that jump.
        (0.3, "unfamiliar"),
        (5.0, "do-not-believe"),
        (0.1, "do-not-believe"),
    ],
)
def test_a_surprise_is_judged_by_its_factor(surprise: float, verdict: str) -> None:
    found = Verdict.of(_of_surprise(surprise), None)
    assert found.name == verdict
    assert needs_warning(found.metrics()) == (verdict != "familiar")


def test_departures_above_what_is_expected_are_told() -> None:
    assert _of_departures(0.4) == _of_departures(2.0) == []
    assert [check.verdict for check in _of_departures(3.0)] == ["unfamiliar"]
    assert [check.verdict for check in _of_departures(30.0)] == ["do-not-believe"]


def test_of_parts_the_worst_verdict_stands_for_the_whole() -> None:
    parts = [
        {"verdict": "familiar", "score": 2.9, "reasons": []},
        {"verdict": "unfamiliar", "score": 3.1, "reasons": ["a"]},
        {"verdict": "unfamiliar", "score": 3.4, "reasons": ["b"]},
        {"verdict": "unknown", "score": None, "reasons": []},
    ]
    assert worst_of(parts) == {"familiarity": parts[2]}
    assert worst_of([]) == {}
