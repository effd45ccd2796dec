"""Fields on coarser grids and time steps.

    coarse[j] = mean of the finite cells of block j, NaN where fewer than half are finite
    times     = first, first + step, ...; a time without a frame becomes a frame of missing values

Blocks begin at the first grid line; what is left at the other end is cut.
"""

from dataclasses import replace

import numpy as np

from assimilation.fields.fields import Fields
from assimilation.fields.grid import Grid
from assimilation.fields.times import SAME
from priors.blocks import block_means
from priors.runtime.errors import InputError, warn

# Grids called "1 km" may have cells of 999.6 m; that is no reason to interpolate.
SPACING_TOLERANCE = 0.02
# Share of a block that must be known.
HALF = 0.5
_SECOND = np.timedelta64(1, "s")


def to_spacing(fields: Fields, spacing: float, *, source: str) -> Fields:
    """Return block means whose cells are ``spacing`` grid units wide along both axes.

    Raises:
        InputError: the spacing is no multiple of the fields' own.
    """
    factors = []
    for name, own in zip(fields.grid.names, fields.grid.spacing, strict=True):
        factor = round(spacing / own)
        if factor < 1 or abs(spacing / own - factor) > SPACING_TOLERANCE * factor:
            raise InputError(
                f"{source}: {name}: found spacing {own:g} {fields.grid.unit}, expected one that divides {spacing:g}"
            )
        factors.append(factor)
    return block_averages(fields, (factors[0], factors[1]))


def block_grid(grid: Grid, factors: tuple[int, int]) -> Grid:
    """Return the grid of the centres of blocks of ``factors`` (y, x) cells.

    Raises:
        InputError: a block is larger than the grid.
    """
    if factors[0] > grid.shape[0] or factors[1] > grid.shape[1]:
        raise InputError(
            f"spacing: found a grid of {grid.shape[0]} x {grid.shape[1]}, expected one block of {factors[0]} x "
            f"{factors[1]} cells at least"
        )
    axes, closed = [], []
    for axis, factor, periodic in zip((grid.y, grid.x), factors, grid.periodic, strict=True):
        axes.append(axis[: axis.size // factor * factor].reshape(-1, factor).mean(axis=1))
        # An axis that is cut no longer closes on itself.
        closed.append(periodic and axis.size % factor == 0)
    return Grid(axes[0], axes[1], grid.kind, grid.unit, (closed[0], closed[1]), grid.projection)


def block_averages(fields: Fields, factors: tuple[int, int]) -> Fields:
    """Return means over blocks of ``factors`` (y, x) cells.

    Raises:
        InputError: a block is larger than the grid.
    """
    if factors == (1, 1):
        return fields
    coarse = block_grid(fields.grid, factors)
    values = np.empty((*fields.values.shape[:3], *coarse.shape), np.float32)
    # One field at a time: the mean of a whole archive would need several copies of it.
    for index in np.ndindex(fields.values.shape[:3]):
        values[index], _ = block_means(fields.values[index], factors, least=HALF)
    return replace(fields, values=values, grid=coarse)


def frames_on_step(times: np.ndarray, step_s: float, *, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the times ``step_s`` seconds apart after the first one, and which of ``times`` is at each; -1 for none.

    Raises:
        InputError: no second frame is a multiple of the step away, as when the fields' own step is longer.
    """
    since = (times - times[0]) / _SECOND
    places = np.round(since / step_s).astype(int)
    on_step = np.abs(since - places * step_s) <= SAME * step_s
    if times.size > 1 and (on_step.sum() < 2 or np.diff(places[on_step]).min() > 1):
        own = float(np.diff(since).min())
        raise InputError(
            f"{source}: time: found steps of {own:g} s, expected a divisor of {step_s:g} s (choose another --step)"
        )
    count = int(places[on_step].max()) + 1
    found = np.full(count, -1)
    found[places[on_step]] = np.flatnonzero(on_step)
    return times[0] + np.arange(count) * np.timedelta64(round(step_s * 1e9), "ns"), found


def to_step_from_the_end(fields: Fields, step_s: float, *, source: str) -> Fields:
    """Return the frames a multiple of ``step_s`` seconds before the last one; all where the step does not fit evenly.

    A start of other steps is filled along the motion (``inference.starts``), for which every frame is of use.
    """
    back = (fields.times[-1] - fields.times) / _SECOND / step_s
    on_step = np.abs(back - np.round(back)) <= SAME
    if on_step.sum() < 2 and fields.times.size > 1:
        warn(f"{source}: time: no other frame lies a multiple of {step_s:g} s before the last; all are used")
        return fields
    return fields.select(times=np.flatnonzero(on_step))


def to_step(fields: Fields, step_s: float, *, source: str) -> Fields:
    """Return the frames at multiples of ``step_s`` seconds after the first one.

    Raises:
        InputError: no second frame is a multiple of the step away, as when the fields' own step is longer.
    """
    times, places = frames_on_step(fields.times, step_s, source=source)
    values = np.full((fields.values.shape[0], times.size, *fields.values.shape[2:]), np.nan, np.float32)
    values[:, places >= 0] = fields.values[:, places[places >= 0]]
    return replace(fields, values=values, times=times)
