"""Runs the command line in this process and keeps what it printed."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tomocast import cli


@dataclass(frozen=True)
class Answer:
    """Exit status and output of one call."""

    status: int
    out: str
    err: str


def call(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Answer:
    """Return the answer of ``tomocast ARGUMENTS``; output of compiled decoders counts as well."""
    monkeypatch.setattr(sys, "argv", ["tomocast", *arguments])
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capfd.readouterr()
    return Answer(int(stopped.value.code or 0), out, err)


def assert_refused(answer: Answer, *, told: str, unwritten: Path) -> None:
    """One line that tells what is wrong, status 2, and nothing half-written."""
    assert answer.status == 2, answer
    lines = answer.err.strip().splitlines()
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("error: ")
    assert told in lines[0], lines[0]
    assert not unwritten.exists() or not any(unwritten.iterdir())
    assert not list(unwritten.parent.glob(".partial-*"))
