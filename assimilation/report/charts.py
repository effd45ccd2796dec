"""Scores as inline SVG: lines over time or lead, and bars for a histogram."""

import html
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 380.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 12.0, 12.0, 34.0


def lines(
    title: str,
    x: Sequence[float],
    series: Mapping[str, Sequence[float | None]],
    *,
    x_label: str,
    logarithmic: bool = False,
) -> str:
    """Return a figure with one line per series, "" where nothing is finite.

    Args:
        title: heading.
        x: common to all series.
        series: name -> values; what is not finite is left out.
        x_label: under the axis.
        logarithmic: both axes.
    """
    held = {name: _points(x, values, logarithmic) for name, values in series.items()}
    held = {name: points for name, points in held.items() if points}
    if not held:
        return ""
    xs = [a for points in held.values() for a, _ in points]
    ys = [b for points in held.values() for _, b in points]
    across = _scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    ticks = _decades(min(ys), max(ys)) if logarithmic else _ticks(min(ys), max(ys))
    up = _scale(min(*ys, ticks[0]), max(*ys, ticks[-1]), HEIGHT - BOTTOM, TOP)
    drawn = [_horizontal(up(y), _number(10**y if logarithmic else y)) for y in ticks]
    x_ticks = _decades(min(xs), max(xs)) if logarithmic else _ticks(min(xs), max(xs))
    drawn += [
        _below(across(a), _number(10**a if logarithmic else a)) for a in x_ticks if min(xs) <= a <= max(xs)
    ]
    for place, points in enumerate(held.values()):
        path = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in points)
        drawn.append(f'<polyline class="series-{place % 4}" points="{path}"/>')
        if len(points) <= 40:
            drawn += [
                f'<circle class="series-{place % 4}" cx="{across(a):.1f}" cy="{up(b):.1f}" r="2.2"/>'
                for a, b in points
            ]
    drawn.append(
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{html.escape(x_label)}</text>'
    )
    return _figure(title, drawn, list(held) if len(held) > 1 else [])


def bars(title: str, values: Sequence[float], *, level: float, x_label: str) -> str:
    """Return a figure of bars with the ``level`` they should reach, "" where nothing is finite."""
    if not values or not all(map(math.isfinite, values)):
        return ""
    ticks = _ticks(0.0, max(*values, level))
    up = _scale(0.0, max(*values, level, ticks[-1]), HEIGHT - BOTTOM, TOP)
    pitch = (WIDTH - LEFT - RIGHT) / len(values)
    drawn = [_horizontal(up(y), _number(y)) for y in ticks]
    for place, value in enumerate(values):
        drawn.append(
            f'<rect class="series-0" x="{LEFT + place * pitch + 0.08 * pitch:.1f}" y="{up(value):.1f}" '
            f'width="{0.84 * pitch:.1f}" height="{HEIGHT - BOTTOM - up(value):.1f}"/>'
        )
    y = up(level)
    drawn.append(f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
    step = max(1, math.ceil(len(values) / 12))
    drawn += [_below(LEFT + (k + 0.5) * pitch, str(k)) for k in range(0, len(values), step)]
    drawn.append(
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{html.escape(x_label)}</text>'
    )
    return _figure(title, drawn, [])


def _points(
    x: Sequence[float], values: Sequence[float | None], logarithmic: bool
) -> list[tuple[float, float]]:
    """Return the points that can be drawn."""
    pairs = [(float(a), float(b)) for a, b in zip(x, values, strict=True) if b is not None]
    pairs = [(a, b) for a, b in pairs if math.isfinite(a) and math.isfinite(b)]
    if not logarithmic:
        return pairs
    # Beyond eight decades below the largest lies rounding: it would flatten everything above it.
    least = 1e-8 * max((b for _, b in pairs), default=0.0)
    return [(math.log10(a), math.log10(b)) for a, b in pairs if a > 0 and b > least]


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Return a linear map from a range of values to a range of the picture; a point goes to the middle."""

    def place(value: float) -> float:
        part = (value - low) / (high - low) if high > low else 0.5
        return start + (end - start) * part

    return place


def _ticks(low: float, high: float) -> list[float]:
    """Return three to six round numbers around the range."""
    if not high > low:
        return [low]
    return [float(tick) for tick in MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]


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
        f'<span class="key series-{place % 4}">{html.escape(name)}</span>'
        for place, name in enumerate(legend)
    )
    return (
        f'<figure class="chart"><h3>{html.escape(title)}</h3>'
        f'<svg viewBox="0 0 {WIDTH:g} {HEIGHT:g}" role="img" aria-label="{html.escape(title, quote=True)}">'
        + "".join(drawn)
        + f'</svg><p class="legend">{names}</p></figure>'
    )


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
