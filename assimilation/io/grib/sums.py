"""Sums and means since the start of a forecast, made into those of the steps between.

    sums      a(k) = s(k) - s(k-1)                          s over [b, e(k)], a over [e(k-1), e(k)]
    means     a(k) = (l(k) m(k) - l(k-1) m(k-1)) / (l(k) - l(k-1))      l(k) = e(k) - b

A message says the interval it is about (startStep, endStep). Intervals that begin together and end at one time after
another are such sums; intervals that follow each other are amounts already. Of two that end together the shorter
counts. Extremes since the start cannot be taken apart: that is told.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from assimilation.io.grib.messages import Field
from priors.runtime.errors import warn

_SUMS, _MEANS, _EXTREMES = ("accum",), ("avg",), ("max", "min")


@dataclass(frozen=True)
class Cell:
    """What one frame is made of: fields with their weights, and the length of time it is about in seconds."""

    terms: tuple[tuple[float, Field], ...]
    length: int

    @property
    def field(self) -> Field:
        """Return the field that ends with the frame."""
        return self.terms[0][1]


def cells_of(fields: Sequence[Field], label: str) -> list[Cell]:
    """Return the frames of one variable; what was done to sums, and what was left out, is told.

    Args:
        fields: of one variable on one grid.
        label: file and variable, for the warnings.
    """
    kept = _shortest(fields, label)
    runs: dict[tuple[int, object, int], list[Field]] = defaultdict(list)
    for field in kept:
        runs[field.number, field.start, field.begin].append(field)
    cells, taken_apart = [], False
    for run in runs.values():
        run.sort(key=lambda field: field.end)
        before: Field | None = None
        for field in run:
            cell = _cell(field, before)
            taken_apart |= len(cell.terms) > 1
            cells.append(cell)
            before = field if field.end > field.begin else before
    lengths = sorted({cell.length for cell in cells if cell.length})
    kind = fields[0].step_type
    if taken_apart:
        what = "sums" if kind in _SUMS else "means"
        each = " to ".join(f"{length:g}" for length in dict.fromkeys((lengths[0], lengths[-1])))
        warn(f"{label}: {what} since the start of the forecast are read as those of each step ({each} s)")
    elif kind in _EXTREMES and any(len(run) > 1 for run in runs.values()):
        warn(f"{label}: found the {kind} since the start of the forecast, times of different length")
    if len(lengths) > 1 and kind != "instant":
        warn(f"{label}: found values over {lengths[0]:g} to {lengths[-1]:g} s, which differ in length")
    return cells


def _cell(field: Field, before: Field | None) -> Cell:
    length = field.end - field.begin
    if field.step_type in (*_SUMS, *_MEANS) and length == 0:
        # Nothing has been summed at the start itself.
        return Cell(((float("nan"), field),), 0)
    if before is None or field.step_type not in (*_SUMS, *_MEANS):
        return Cell(((1.0, field),), length)
    earlier = before.end - before.begin
    if field.step_type in _SUMS:
        return Cell(((1.0, field), (-1.0, before)), length - earlier)
    step = length - earlier
    return Cell(((length / step, field), (-earlier / step, before)), step)


def _shortest(fields: Sequence[Field], label: str) -> list[Field]:
    """Return one field for every member, start and end: the one over the shortest time."""
    best: dict[tuple[int, object, int], Field] = {}
    left = 0
    for field in fields:
        key = (field.number, field.start, field.end)
        if key in best:
            left += 1
            if field.begin <= best[key].begin:
                continue
        best[key] = field
    if left:
        warn(
            f"{label}: {left} of {len(fields)} fields end at the time of another; the shorter or first is used"
        )
    return list(best.values())
