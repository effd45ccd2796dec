"""Progress lines: plain ones in a log, one rewritten line on a terminal."""

import io
import re

from priors.runtime.progress import Progress, clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_plain_lines_and_the_last_one_always():
    stream = io.StringIO()
    with Progress(50, "fit", stream=stream, every_s=1000.0) as progress:
        for step in range(50):
            progress.step(chi2=2.0 / (step + 1))
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("fit 1/50")
    assert re.fullmatch(r"fit 50/50  \S+/s  0:00 left  chi2 0\.04", lines[1])
    assert "\r" not in stream.getvalue()


def test_a_terminal_gets_one_line_rewritten():
    stream = Terminal()
    with Progress(2, "fit", stream=stream) as progress:
        progress.step()
        progress.step()
    assert stream.getvalue().startswith("\r\x1b[Kfit 1/2")
    assert stream.getvalue().endswith("\n")


def test_a_resumed_job_does_not_count_what_an_earlier_process_did():
    stream = io.StringIO()
    progress = Progress(100, "fit", stream=stream, every_s=0.0)
    progress._begin -= 10.0  # ten seconds ago
    progress.step(done=81)
    # One step took ten seconds, 19 are left: 190 s. Counting 81 steps would give 2 s.
    assert "fit 81/100" in stream.getvalue()
    assert "3:10 left" in stream.getvalue()


def test_durations_read_as_a_clock():
    assert [clock(s) for s in (0.0, 61.2, 3600.0, 36061.0)] == ["0:00", "1:01", "1:00:00", "10:01:01"]
