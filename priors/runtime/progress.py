"""Progress on standard error: rate, remaining time and the latest figures.

On a terminal one line is rewritten; elsewhere (a log file, CI) plain lines appear, at most one every few
seconds, so a log stays readable. The remaining time is (elapsed / done) * left, over this process's steps.
"""

import io
import sys
import time
from types import TracebackType
from typing import Any


class Progress:
    """Context that counts steps: ``with Progress(20, "nerd") as progress: progress.step(chi2=1.01)``."""

    def __init__(
        self, total: int, label: str, *, stream: io.TextIOBase | None = None, every_s: float = 5.0
    ) -> None:
        """Start counting.

        Args:
            total: number of steps expected.
            label: what is being done; printed first.
            stream: where to print (default: standard error).
            every_s: least number of seconds between two plain lines.
        """
        self.total, self.label, self.every_s = total, label, every_s
        self.done = self._start_at = 0
        self._stream: Any = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._begin = time.monotonic()
        self._last = float("-inf")

    def __enter__(self) -> "Progress":
        """Restart the clock."""
        self._begin = time.monotonic()
        return self

    def step(self, *, done: int | None = None, **figures: float) -> None:
        """Count one step, or set the count to ``done``, and print the ``figures`` when it is time to."""
        if done is not None and self.done == 0:
            # A resumed job: the steps of an earlier process took no time in this one.
            self._start_at = done - 1
        self.done = self.done + 1 if done is None else done
        now = time.monotonic()
        if self.done >= self.total or now - self._last >= (0.1 if self._terminal else self.every_s):
            self._last = now
            self._write(self._line(now - self._begin, figures))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal on a fresh line."""
        if self._terminal and self.done:
            print(file=self._stream, flush=True)

    def _line(self, elapsed: float, figures: dict[str, float]) -> str:
        """Return ``label done/total rate eta figures``."""
        fresh = max(1, self.done - self._start_at)
        pace = elapsed / fresh
        rate = f"{1 / pace:.3g}/s" if 0 < pace < 1 else f"{pace:.3g} s each"
        remaining = clock(pace * max(0, self.total - self.done))
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        return f"{self.label} {self.done}/{self.total}  {rate}  {remaining} left  {shown}".rstrip()

    def _write(self, line: str) -> None:
        """Print one line, over the last one on a terminal."""
        if self._terminal:
            self._stream.write("\r\x1b[K" + line)
        else:
            self._stream.write(line + "\n")
        self._stream.flush()


def clock(seconds: float) -> str:
    """Return a duration as ``m:ss`` or ``h:mm:ss``."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
