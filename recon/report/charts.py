"""Curves as inline SVG: one small chart per figure, iteration across, logarithmic over decades."""

import html
import math
from collections.abc import Sequence

WIDTH, HEIGHT = 360, 210
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 12, 30


def chart(name: str, points: Sequence[tuple[float, float]]) -> str:
    """Return a ``<figure>`` with the curve through ``points`` (iteration, value), the finite ones."""
    held = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not held:
        return ""
    xs, ys = [x for x, _ in held], [y for _, y in held]
    logarithmic = min(ys) > 0 and max(ys) / min(ys) > 20
    y_ticks = _decades(min(ys), max(ys)) if logarithmic else _round_ticks(min(ys), max(ys))
    x_ticks = _round_ticks(min(xs), max(xs), whole=True)
    low, high = min(*ys, y_ticks[0]), max(*ys, y_ticks[-1])

    def across(x: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * _fraction(x, min(xs), max(xs))

    def up(y: float) -> float:
        part = _fraction(*map(math.log10, (y, low, high))) if logarithmic else _fraction(y, low, high)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part

    drawn = [_horizontal(up(y), _number(y)) for y in y_ticks] + [
        _below(across(x), _number(x)) for x in x_ticks
    ]
    line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in held)
    dots = [held[-1]] if len(held) > 40 else held
    drawn.append(_below(LEFT - 26.0, "iteration"))
    drawn.append(f'<polyline points="{line}"/>')
    drawn += [f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="2.4"/>' for x, y in dots]
    scale = ", logarithmic" if logarithmic else ""
    label = f"{name}: from {_number(ys[0])} to {_number(ys[-1])} over {len(held)} iterations"
    return (
        f'<figure class="chart"><h3>{html.escape(name.replace("_", " "))}{scale}</h3>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(label, quote=True)}">'
        + "".join(drawn)
        + "</svg></figure>"
    )


def _fraction(value: float, low: float, high: float) -> float:
    """Return where ``value`` lies between the ends; the middle where they are equal."""
    return (value - low) / (high - low) if high > low else 0.5


def _horizontal(y: float, label: str) -> str:
    """Return a grid line with its value."""
    line = f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return line + f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>'


def _below(x: float, label: str) -> str:
    """Return a label of the iteration axis."""
    return f'<text x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{label}</text>'


def _decades(low: float, high: float) -> list[float]:
    """Return at most six powers of ten around the range."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**power for power in range(first, last + 1, max(1, math.ceil((last - first) / 5)))]


def _round_ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return three to six round numbers inside the range (its lower end where it is a point)."""
    if not high > low:
        return [low]
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * k for k in range(first, last + 1)] or [low]


def _number(value: float) -> str:
    """Return a short text for an axis label."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
