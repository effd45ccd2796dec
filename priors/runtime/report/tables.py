"""Tables of figures: aligned text for a terminal, HTML for a report. Their columns come from the metric registries.

A row is its label and one cell per column; what is not a number is "n/a" in both.
"""

import html
from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

GAP = 2
"""Spaces between two columns of text."""


def number(value: Any, form: str = ".4g") -> str:
    """Return a number as text, "n/a" for None and NaN; ``form`` is a format specification."""
    return format(value, form) if is_number(value) else "n/a"


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a cell holds a number that is not NaN."""
    return isinstance(value, int | float) and value == value


def text_table(first: str, headings: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Return aligned text: labels to the left, cells to the right, every column as wide as its widest cell.

    Args:
        first: heading of the labels.
        headings: of the other columns.
        rows: label, and one cell per heading.
    """
    lines = [(first, list(headings)), *((label, list(cells)) for label, cells in rows)]
    widest = max(len(label) for label, _ in lines)
    widths = [max(map(len, column)) for column in zip(*(cells for _, cells in lines), strict=True)]
    return "\n".join(
        label.ljust(widest)
        + "".join(" " * GAP + cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        for label, cells in lines
    )


def html_table(first: str, headings: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Return a table that scrolls sideways where it is too wide; labels and headings are text, cells are HTML."""
    head = "".join(f'<th scope="col">{html.escape(heading)}</th>' for heading in (first, *headings))
    body = "".join(
        f'<tr><th scope="row">{html.escape(label)}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for label, cells in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def html_number(value: Any, form: str = ".4g", *, why: str = "not defined on these data") -> str:
    """Return a cell of a number; a missing one says why when it is pointed at."""
    if is_number(value):
        return format(value, form)
    return f'<abbr title="{html.escape(why, quote=True)}">n/a</abbr>'
