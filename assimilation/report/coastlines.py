"""Coastlines and borders on maps: Natural Earth 1:50m (public domain), cut to a grid.

The asset holds longitudes and latitudes as whole hundredths of a degree, differences along each line, 16 bits. Every
line is brought to the grid's own map (pyproj), and its parts on the grid are given as shares of the panel,

    x = (column + 1/2) / columns,    y = 1 - (row + 1/2) / rows        from the left and from the top

so that they fit a panel of any size. A grid that says no place on Earth has no lines.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from assimilation.fields.grid import Grid

ASSET = Path(__file__).with_name("assets") / "coastlines.npz"
HUNDREDTH = 0.01
MARGIN = 0.05
"""Of the grid's size: lines go on past its edges a little."""
LONGEST_STEP = 0.9
"""Of the grid's size: two points further apart than that are on both sides of a cut of the map, not neighbours."""
LONGEST_DEGREES = 60.0
"""The same in longitude, where a sphere is shown."""

Line = Float[np.ndarray, "n 2"]


def write_lines(path: Path, lines: Sequence[Line]) -> None:
    """Write lines of (longitude, latitude) in degrees."""
    whole = [np.rint(np.asarray(line) / HUNDREDTH).astype(np.int32) for line in lines]
    # Points that fall together on hundredths add nothing.
    kept = [line[np.append(True, (np.diff(line, axis=0) != 0).any(axis=1))] for line in whole]
    steps = np.concatenate([np.diff(line, axis=0, prepend=line[:1]) for line in kept])
    np.savez_compressed(
        path,
        starts=np.array([line[0] for line in kept], np.int16),
        counts=np.array([len(line) for line in kept], np.int16),
        steps=steps.astype(np.int16),
    )


@cache
def lines() -> tuple[Line, ...]:
    """Return all lines as (longitude, latitude) in degrees."""
    with np.load(ASSET, allow_pickle=False) as asset:
        starts, counts, steps = (asset[name].astype(np.int64) for name in ("starts", "counts", "steps"))
    parts = np.split(steps, np.cumsum(counts)[:-1])
    return tuple(
        HUNDREDTH * (start + np.cumsum(part, axis=0)) for start, part in zip(starts, parts, strict=True)
    )


def lines_on(grid: Grid) -> list[list[float]]:
    """Return the parts of lines on a grid, each x0, y0, x1, y1, ... as shares of a panel; see the module."""
    if min(grid.shape) < 2 or not (grid.kind == "sphere" or grid.projection):
        return []
    longest = LONGEST_STEP
    if grid.kind == "sphere":
        longest = min(longest, LONGEST_DEGREES / (grid.spacing[1] * grid.shape[1]))
    found = []
    for line in lines():
        for places in _on_map(line, grid):
            found += [_thinned(part) for part in _cut(_shares(places, grid), longest)]
    return [part.ravel().tolist() for part in found if len(part) > 1]


def _on_map(line: Line, grid: Grid) -> Iterator[Line]:
    """Yield a line in the grid's coordinates (x, y)."""
    if grid.kind == "sphere":
        for turn in (-360.0, 0.0, 360.0):
            yield line + np.array([turn, 0.0])
        return
    import pyproj

    transform = _transform(grid.projection)
    if transform is None:
        return
    try:
        x, y = transform.transform(line[:, 0], line[:, 1], errcheck=False)
    except pyproj.exceptions.ProjError:
        return
    yield np.stack([x, y], axis=1)


@cache
def _transform(projection: str) -> Any:
    """Return the map from longitude and latitude, None where pyproj does not know the text."""
    import pyproj

    try:
        return pyproj.Transformer.from_crs("EPSG:4326", projection, always_xy=True)
    except pyproj.exceptions.CRSError:
        return None


def _shares(places: Line, grid: Grid) -> Line:
    """Return coordinates as shares of a panel; infinite ones stay."""
    (rows, columns), (dy, dx) = grid.shape, grid.spacing
    x = ((places[:, 0] - grid.x[0]) / dx + 0.5) / columns
    y = 1 - ((places[:, 1] - grid.y[0]) / dy + 0.5) / rows
    return np.stack([x, y], axis=1)


def _thinned(line: Line) -> Float[np.ndarray, "m 2"]:
    """Return a line in thousandths of the panel, without points that fall together on them."""
    rounded = np.round(line, 3)
    return np.asarray(rounded[np.append(True, (np.diff(rounded, axis=0) != 0).any(axis=1))])


def _cut(line: Line, longest: float) -> Iterator[Line]:
    """Yield the parts of a line on a panel, with the segments that lead in and out."""
    near = (np.isfinite(line) & (line > -MARGIN) & (line < 1 + MARGIN)).all(axis=1)
    steps = np.abs(np.diff(np.nan_to_num(line, posinf=1e9, neginf=-1e9), axis=0)).max(axis=1)
    joined = (near[:-1] | near[1:]) & (steps < longest)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], joined.astype(np.int8), [0]])))
    for first, last in zip(edges[0::2], edges[1::2], strict=True):
        yield line[first : last + 1]
