r"""Inference schedules: which frames are in flight, and the noise level each of them has, row after row.

Staircase (``overlap`` None): frame k starts o_k = floor(k steps / (lag + 1)) rows after frame 0,

    level(m, k) = clip(steps + o_k - m, 0, steps) / steps

so every frame is denoised once, and exactly ``lag`` later frames are in flight when it ends. The observations of
those frames reach it as they fly. It is cheap, and with an infinite lag (all o_k = 0) it draws from the exact
posterior of the whole trajectory. With a finite lag it does not: member i draws frame k given *its own* finished
frames, which were drawn before the observations of frame k were known and never change again. In law

    q(x_0, x_1, ...) = prod_k p(x_k | x_<k, y_k .. y_k+lag),   the smoother has  p(x_k | y_0 .. y_k+lag)

For the filter (lag 0) each member's gain then comes from the model error Q alone and not from the forecast error
A P A^T + Q: the more deterministic the system, the less its observations say. The ensemble stays calibrated
(truth and members follow the same chain), but its mean has a larger error than the filter's: 2 to 4.4 times the
sampling floor in our linear systems, where the exact answer has 1.

Overlapping windows (``overlap`` = W): for every analysis time k the frames k - W .. k + lag are drawn afresh from
pure noise, all at the same level, given the member's frames before them. Exact but for frame k - W - 1, which did
not know the observations of the ``lag + W + 1`` frames after it; this error dies with the memory of the system,
and W = 4 brings mean and spread of filter and fixed-lag smoother to the sampling floor. The price is a factor
W + lag + 1. An infinite lag over more than ``longest`` frames uses windows too: of ``longest`` frames, of which the
first half is kept each time.

Levels become noise levels s = sigma / alpha by the prior's `NoiseSpacing`, which its card states.

Source of the staircase: ForcingDAS (arXiv 2605.14285).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from priors.diffusion.levels import staircase


@dataclass(frozen=True)
class Row:
    """One step of a run.

    Attributes:
        first: the earliest frame in flight; those before it are finished.
        before: level of every frame in flight before the step; 1 is pure noise, drawn anew.
        after: level after it, 0 for frames that are clean now.
        fresh: frames of this row (counted from ``first``) that start from new noise.
        emit: frames whose analysis is complete after this row.
        keep: the earliest frame that is still to be drawn; frames before it are finished after this row.
    """

    first: int
    before: tuple[float, ...]
    after: tuple[float, ...]
    fresh: range
    emit: range
    keep: int


class InferenceSchedule(BaseModel):
    """The order in which frames are denoised.

    Attributes:
        steps: noise levels between pure noise and clean.
        lag: later frames whose observations may reach an analysis; None is infinite.
        overlap: earlier frames drawn again with every analysis; None draws every frame once, in a staircase.
        longest: most frames in flight with an infinite lag.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(20, ge=1)
    lag: int | None = Field(0, ge=0)
    overlap: int | None = Field(None, ge=0)
    longest: int = Field(64, ge=2)

    @model_validator(mode="after")
    def _overlap_has_a_lag(self) -> "InferenceSchedule":
        if self.lag is None and self.overlap is not None:
            raise ValueError("an infinite lag draws all frames at once: leave overlap out")
        return self

    def levels(self, frames: int) -> Float[Tensor, "rows f"]:
        """Return the staircase of ``frames`` frames, float64: first row 1, last row 0."""
        return staircase(self.steps, self.lag, frames)

    def rows(self, frames: int) -> Iterator[Row]:
        """Yield the steps of a run over ``frames`` frames."""
        if self.lag is None and frames <= self.longest:
            yield from self._window(0, frames, emit=range(frames), keep=frames)
        elif self.lag is None:
            yield from self._blocks(frames)
        elif self.overlap is None:
            yield from self._staircase(frames, self.lag)
        else:
            for k in range(frames):
                first, last = max(0, k - self.overlap), min(frames, k + self.lag + 1)
                keep = max(0, k + 1 - self.overlap)
                # The window that reaches the last frame has all observations there are: all its frames are final.
                done = last == frames
                yield from self._window(
                    first,
                    last,
                    emit=range(k, frames) if done else range(k, k + 1),
                    keep=frames if done else keep,
                )
                if done:
                    return

    def largest(self, frames: int) -> int:
        """Return the most frames in flight at once."""
        if self.lag is None:
            return min(frames, self.longest)
        return min(frames, self.lag + 1 + (self.overlap or 0))

    def evaluations(self, frames: int) -> int:
        """Return how often a run denoises one frame of one member."""
        if self.overlap is None and (self.lag is not None or frames <= self.longest):
            return frames * self.steps
        return sum(len(row.before) for row in self.rows(frames))

    def count(self, frames: int) -> int:
        """Return the number of rows of a run."""
        if self.overlap is None and self.lag is not None:
            return self.steps + (frames - 1) * self.steps // (self.lag + 1)
        return sum(1 for _ in self.rows(frames))

    def _window(self, first: int, last: int, *, emit: range, keep: int) -> Iterator[Row]:
        """Yield the rows of frames that descend at one level from new noise."""
        size, steps = last - first, self.steps
        for m in range(steps):
            final = m == steps - 1
            yield Row(
                first,
                before=(1 - m / steps,) * size,
                after=(1 - (m + 1) / steps,) * size,
                fresh=range(size) if m == 0 else range(0),
                emit=emit if final else range(0),
                keep=keep if final else first,
            )

    def _blocks(self, frames: int) -> Iterator[Row]:
        """Yield windows of ``longest`` frames; the first half of each is kept, the second drawn again."""
        # Frames early in a window have seen most of the observations that matter to them; those near its end have not,
        # so they are drawn again with what follows them.
        first = 0
        while first + self.longest < frames:
            keep = first + self.longest // 2
            yield from self._window(first, first + self.longest, emit=range(first, keep), keep=keep)
            first = keep
        yield from self._window(first, frames, emit=range(first, frames), keep=frames)

    def _staircase(self, frames: int, lag: int) -> Iterator[Row]:
        """Yield the rows of the staircase, only frames in flight in each."""
        steps, first = self.steps, 0
        starts = [k * steps // (lag + 1) for k in range(frames)]
        for m in range(starts[-1] + steps):
            # Frames whose start lies ahead are still pure noise and would cost evaluations without changing.
            last = next((k for k in range(first, frames) if starts[k] > m), frames)
            before = tuple((steps + starts[k] - m) / steps for k in range(first, last))
            after = tuple((steps + starts[k] - m - 1) / steps for k in range(first, last))
            ended = sum(1 for level in after if level == 0)
            entered = next((i for i, level in enumerate(before) if level == 1), len(before))
            emit = range(first, first + ended)
            yield Row(first, before, after, fresh=range(entered, len(before)), emit=emit, keep=first + ended)
            first += ended
