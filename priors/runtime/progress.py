"""Progress on standard error: a bar with the remaining time on a terminal, plain lines elsewhere.

In a log file or CI at most one line appears every few seconds, so that a log stays readable. The remaining time is

    left = pace * (total - done),      pace = (now - end of the first step) / (steps since)

over this process's steps only. The first step carries what happens once (compiling, loading, a warm start), so that it
tells nothing about the others: before the second one has ended, and where the total is not known, there is no estimate.
"""

import io
import sys
import time
from types import TracebackType
from typing import Any

from priors.runtime.terminal import verbatim


class Progress:
    """Context that counts steps: ``with Progress(20, "nerd") as progress: progress.step(chi2=1.01)``.

    Attributes:
        total: number of steps expected, None where it is not known (yet); may be set at any time.
        done: steps done, those of an earlier process included.
    """

    def __init__(
        self, total: int | None, label: str, *, stream: io.TextIOBase | None = None, every_s: float = 5.0
    ) -> None:
        """Start counting.

        Args:
            total: number of steps expected, None where it is not known.
            label: what is being done; printed first.
            stream: where to print (default: standard error).
            every_s: least number of seconds between two plain lines.
        """
        self.total, self.label, self.every_s = total, label, every_s
        self.done = 0
        self._first: tuple[int, float] | None = None
        self._stream: Any = stream or sys.stderr
        self._last = float("-inf")
        self._bar = _Bar(label, verbatim(self._stream)) if self._stream.isatty() else None

    def __enter__(self) -> "Progress":
        """Show the bar, where there is one."""
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal on a fresh line."""
        if self._bar is not None:
            self._bar.stop()

    def step(self, *, done: int | None = None, **figures: float) -> None:
        """Count one step, or set the count to ``done``, and print the ``figures`` when it is time to."""
        self.done = self.done + 1 if done is None else done
        now = time.monotonic()
        if self._first is None:
            self._first = self.done, now
        finished = self.total is not None and self.done >= self.total
        if not finished and now - self._last < (0.1 if self._bar else self.every_s):
            return
        self._last = now
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        text = f"{self._pace_text(now)}  {shown}".strip()
        if self._bar is not None:
            self._bar.show(self.done, self.total, text)
            return
        count = f"{self.done}/{self.total}" if self.total is not None else str(self.done)
        self._stream.write(f"{self.label} {count}  {text}".rstrip() + "\n")
        self._stream.flush()

    def pace(self, now: float) -> float | None:
        """Return the seconds of a step, None before it is known."""
        if self._first is None or self.done <= self._first[0]:
            return None
        return (now - self._first[1]) / (self.done - self._first[0])

    def _pace_text(self, now: float) -> str:
        """Return rate and remaining time, as far as they are known."""
        pace = self.pace(now)
        if pace is None:
            return ""
        rate = f"{1 / pace:.3g}/s" if 0 < pace < 1 else f"{pace:.3g} s each"
        if self.total is None:
            return rate
        return f"{rate}  {clock(pace * max(0, self.total - self.done))} left"


class _Bar:
    """The bar of a terminal, by rich; the remaining time is ours."""

    def __init__(self, label: str, stream: Any) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}"),
        )
        self._bars = Bars(*columns, console=Console(file=stream), refresh_per_second=8)
        self._task = self._bars.add_task(label, total=None, text="")

    def start(self) -> None:
        self._bars.start()

    def stop(self) -> None:
        self._bars.stop()

    def show(self, done: int, total: int | None, text: str) -> None:
        # The text holds no markup of rich's: a figure's name could be read as one.
        from rich.markup import escape

        self._bars.update(self._task, completed=done, total=total, text=escape(text))


def clock(seconds: float) -> str:
    """Return a duration as ``m:ss`` or ``h:mm:ss``."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
