"""Progress: plain lines in a log, a bar on a terminal, and no estimate before the pace is known."""

import io
import re

import pytest

from priors.runtime import progress as module
from priors.runtime.progress import Progress, clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock's reading, to be changed."""
    reading = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: reading[0])
    return reading


def test_a_log_gets_plain_lines_and_the_last_one_always():
    stream = io.StringIO()
    with Progress(50, "fit", stream=stream, every_s=1000.0) as progress:
        for step in range(50):
            progress.step(chi2=2.0 / (step + 1))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0] == "fit 1/50  chi2 2"
    assert re.fullmatch(r"fit 50/50  \S+/s  0:00 left  chi2 0\.04", lines[1])
    assert "\r" not in stream.getvalue()


def test_a_terminal_gets_a_bar_with_the_remaining_time(time):
    stream = Terminal()
    with Progress(4, "fit", stream=stream) as progress:
        for time[0] in (9.0, 19.0, 29.0):
            progress.step(chi2=1.5)
    shown = stream.getvalue()
    assert "fit" in shown
    assert "3/4" in shown
    assert "10 s each  0:10 left  chi2 1.5" in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert shown.endswith("\n") or shown.endswith("\x1b[?25h")


def test_there_is_no_estimate_before_the_pace_is_known(time):
    stream = io.StringIO()
    progress = Progress(None, "tv", stream=stream, every_s=0.0)
    # An hour of start-up: counted as a step, 399 such would be left.
    time[0] = 3600.0
    progress.total = 400
    progress.step()
    assert stream.getvalue() == "tv 1/400\n"
    time[0] += 2.0
    progress.step()
    assert stream.getvalue().splitlines()[1] == "tv 2/400  2 s each  13:16 left"
    progress.total = None
    time[0] += 2.0
    progress.step()
    assert stream.getvalue().splitlines()[2] == "tv 3  2 s each"


def test_a_resumed_job_does_not_count_what_an_earlier_process_did(time):
    stream = io.StringIO()
    progress = Progress(100, "fit", stream=stream, every_s=0.0)
    progress.step(done=81)
    time[0] += 10.0
    progress.step(done=82)
    # One step took ten seconds, 18 are left: 180 s. Counting 82 steps would give 2 s.
    assert "fit 82/100" in stream.getvalue()
    assert "3:00 left" in stream.getvalue()


def test_durations_read_as_a_clock():
    assert [clock(s) for s in (0.0, 61.2, 3600.0, 36061.0)] == ["0:00", "1:01", "1:00:00", "10:01:01"]
