"""Charts as inline SVG: lines over an axis, and bars for a histogram. Their colours are classes of the page's style.

What cannot be drawn (NaN, infinities, a logarithm of zero) is left out; a chart of nothing is "".
"""

import html
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 380.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 12.0, 12.0, 34.0
COLOURS = 4
MOST_DOTS = 40


def lines(
    title: str,
    x: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    *,
    x_label: str,
    logarithmic: Literal["both", "y", "auto"] | None = None,
) -> str:
    """Return a figure with one line per series, "" where nothing is finite.

    Args:
        title: heading.
        x: common to all series.
        series: name -> values; what is not finite is left out.
        x_label: under the axis.
        logarithmic: which axes; ``auto`` makes y logarithmic where its values are positive and span a factor of 20.
    """
    if logarithmic == "auto":
        logarithmic = "y" if _spans_decades(series.values()) else None
    log_x, log_y = logarithmic == "both", logarithmic is not None
    kept = {name: _points(x, values, log_x, log_y) for name, values in series.items()}
    kept = {name: points for name, points in kept.items() if points}
    if not kept:
        return ""
    xs = [a for points in kept.values() for a, _ in points]
    ys = [b for points in kept.values() for _, b in points]
    across = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    y_ticks = _decades(min(ys), max(ys)) if log_y else _ticks(min(ys), max(ys))
    up = _scale(min(*ys, y_ticks[0]), max(*ys, y_ticks[-1]), HEIGHT - BOTTOM, TOP)
    drawn = [_horizontal(up(y), _number(10**y if log_y else y)) for y in y_ticks]
    whole = all(float(a).is_integer() for a in xs)
    x_ticks = _decades(min(xs), max(xs)) if log_x else _ticks(min(xs), max(xs), whole=whole)
    inside = [a for a in x_ticks if min(xs) <= a <= max(xs)]
    drawn += [_below(across(a), _number(10**a if log_x else a)) for a in inside]
    for number, points in enumerate(kept.values()):
        drawn += _curve([(across(a), up(b)) for a, b in points], number % COLOURS)
    drawn.append(_caption(x_label))
    heading = f"{title}, logarithmic" if logarithmic == "y" else title
    return _figure(heading, drawn, list(kept) if len(kept) > 1 else [])


def bars(title: str, values: Sequence[float], *, level: float, x_label: str) -> str:
    """Return a figure of bars with the ``level`` they should reach, "" where nothing is finite."""
    if not values or not all(map(math.isfinite, values)):
        return ""
    ticks = _ticks(0.0, max(*values, level))
    up = _scale(0.0, max(*values, level, ticks[-1]), HEIGHT - BOTTOM, TOP)
    pitch = (WIDTH - LEFT - RIGHT) / len(values)
    drawn = [_horizontal(up(y), _number(y)) for y in ticks]
    for rank, value in enumerate(values):
        drawn.append(
            f'<rect class="series-0" x="{LEFT + rank * pitch + 0.08 * pitch:.1f}" y="{up(value):.1f}" '
            f'width="{0.84 * pitch:.1f}" height="{HEIGHT - BOTTOM - up(value):.1f}"/>'
        )
    y = up(level)
    drawn.append(f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    step = max(1, math.ceil(len(values) / 12))
    drawn += [_below(LEFT + (k + 0.5) * pitch, str(k)) for k in range(0, len(values), step)]
    drawn.append(_caption(x_label))
    return _figure(title, drawn, [])


def _spans_decades(series: Iterable[Sequence[float | None]]) -> bool:
    """Return whether all values are positive and the largest is more than 20 times the least."""
    values = [float(v) for one in series for v in one if v is not None and math.isfinite(v)]
    return bool(values) and min(values) > 0 and max(values) / min(values) > 20


def _points(
    x: Sequence[float], values: Sequence[float | None], log_x: bool, log_y: bool
) -> list[tuple[float, float]]:
    """Return the points that can be drawn, as logarithms on logarithmic axes."""
    pairs = [(float(a), float(b)) for a, b in zip(x, values, strict=True) if b is not None]
    pairs = [(a, b) for a, b in pairs if math.isfinite(a) and math.isfinite(b)]
    if log_y:
        # Beyond eight decades below the largest lies rounding: it would flatten everything above it.
        least = 1e-8 * max((b for _, b in pairs), default=0.0)
        pairs = [(a, math.log10(b)) for a, b in pairs if b > least]
    return [(math.log10(a), b) for a, b in pairs if a > 0] if log_x else pairs


def _curve(points: Sequence[tuple[float, float]], colour: int) -> list[str]:
    """Return a line, with a dot on every point where they are few, else on the last one."""
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    dots = points if len(points) <= MOST_DOTS else points[-1:]
    return [f'<polyline class="series-{colour}" points="{path}"/>'] + [
        f'<circle class="series-{colour}" cx="{a:.1f}" cy="{b:.1f}" r="2.2"/>' for a, b in dots
    ]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Return a linear map from a range of values to a range of the picture; a point goes to the middle."""

    def position(value: float) -> float:
        return start + (end - start) * ((value - low) / (high - low) if high > low else 0.5)

    return position


def _ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return three to six round numbers around the range, integers where ``whole``."""
    if not high > low:
        return [low]
    locator = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=whole)
    return [float(tick) for tick in locator.tick_values(low, high)]


def _decades(low: float, high: float) -> list[float]:
    """Return the logarithms of powers of ten around a range, of 1, 2 and 5 times them where it is short."""
    first, last = math.floor(low), math.ceil(high)
    if high - low < 2:
        return [math.log10(step) + power for power in range(first, last) for step in (1, 2, 5)] + [
            float(last)
        ]
    return [float(power) for power in range(first, last + 1, max(1, math.ceil((last - first) / 5)))]


def _figure(title: str, drawn: Sequence[str], legend: Sequence[str]) -> str:
    """Return the figure around what was drawn."""
    names = "".join(
        f'<span class="key series-{number % COLOURS}">{html.escape(name)}</span>'
        for number, name in enumerate(legend)
    )
    return (
        f'<figure class="chart"><h3>{html.escape(title)}</h3>'
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{html.escape(title, quote=True)}">'
        + "".join(drawn)
        + "</svg>"
        + (f'<p class="legend">{names}</p>' if names else "")
        + "</figure>"
    )


def _caption(text: str) -> str:
    """Return what the horizontal axis means."""
    return f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{html.escape(text)}</text>'


def _horizontal(y: float, label: str) -> str:
    """Return a grid line with its value."""
    line = f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'


def _below(x: float, label: str) -> str:
    """Return a label of the horizontal axis."""
    return f'<text x="{x:.1f}" y="{HEIGHT - 18}" text-anchor="middle">{label}</text>'


def _number(value: float) -> str:
    """Return a short text for an axis label."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    return np.format_float_scientific(value, precision=0, trim="-", exp_digits=1)
