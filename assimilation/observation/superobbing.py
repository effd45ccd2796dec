"""Observations brought to the grid and the time step of a coarser state.

On f x f cells of the observations' own state grid lies one cell of the coarser state. What was seen inside it
becomes one observation, the mean over its m values, with the error of a mean of independent errors,

    y = (1/m) sum y_i,    sigma^2 = (1/m^2) sum sigma_i^2.

That the mean of a few points differs from the mean of the cell (the error of representativeness) is not known
here and not added. Block averages on a finer grid are block averages of fewer cells on the coarser one. Frames
between the coarser steps are left out: moving a field in time is the model's task.
"""

from dataclasses import replace

import numpy as np

from assimilation.fields.grid import Grid
from assimilation.fields.resample import SPACING_TOLERANCE, block_grid
from assimilation.observation.instruments import ChannelSubset, Coarse, Everything
from assimilation.observation.observing import Observed
from priors.blocks import block_means
from priors.runtime.errors import InputError

_SECOND = np.timedelta64(1, "s")


def coarser_by(grid: Grid, spacing: tuple[float, float]) -> int:
    """Return how many cells of a grid make one of ``spacing`` along both axes; 1 where they do not fit evenly."""
    ratios = [wanted / own for wanted, own in zip(spacing, grid.spacing, strict=True)]
    factor = round(ratios[0])
    fits = all(abs(ratio - factor) <= SPACING_TOLERANCE * factor for ratio in ratios)
    return factor if 1 < factor <= min(grid.shape) and fits else 1


def coarser(grid: Grid, factor: int) -> Grid:
    """Return the grid of the blocks' centres."""
    return block_grid(grid, (factor, factor))


def on_steps(observed: Observed, step_s: float) -> Observed:
    """Return the frames at multiples of ``step_s`` after the first one; all where the step is not finer."""
    since = (observed.fields.times - observed.fields.times[0]) / _SECOND
    steps = since / step_s
    kept = np.flatnonzero(np.abs(steps - np.round(steps)) < 1e-6)
    own = np.diff(since).min() if since.size > 1 else step_s
    if own >= step_s * (1 - 1e-6) or np.round(step_s / own) != step_s / own:
        return observed
    sigma = np.broadcast_to(observed.sigma, observed.fields.values.shape)[:, kept]
    return replace(observed, fields=observed.fields.select(times=kept), sigma=np.ascontiguousarray(sigma))


def on_coarser_grid(observed: Observed, factor: int) -> Observed:
    """Return observations of the state on blocks of ``factor`` cells.

    Raises:
        InputError: the instrument does more than select values (wind speed), or its blocks are no multiple.
    """
    instrument = observed.instrument
    if factor == 1:
        return observed
    state = coarser(observed.grid, factor)
    if isinstance(instrument, Coarse):
        if instrument.factor % factor:
            raise InputError(
                f"coarse: found blocks of {instrument.factor} cells, expected a multiple of {factor}, the cells of "
                "the observations' grid in one of the prior's"
            )
        finer = Coarse(factor=instrument.factor // factor)
        if state.shape[0] % finer.factor or state.shape[1] % finer.factor:
            raise InputError(
                f"coarse: blocks do not tile the prior's grid of {state.shape[0]} x {state.shape[1]}"
            )
        return replace(observed, instrument=finer, grid=state)
    if not instrument.selects:
        raise InputError(
            f"{instrument.name}: found a grid {factor} times finer than the prior's, expected the same: what this "
            "instrument sees of a mean state is not the mean of what it sees (the speed of a mean wind is not the mean "
            "speed)"
        )
    values, count = block_means(observed.fields.values, (factor, factor))
    squares = np.where(np.isfinite(observed.fields.values), observed.sigma, np.nan) ** 2
    variance, _ = block_means(squares, (factor, factor))
    fields = replace(observed.fields, values=values, grid=state)
    sigma = np.sqrt(variance / np.maximum(count, 1)).astype(np.float32)
    kept = instrument if isinstance(instrument, ChannelSubset) else Everything()
    return Observed(fields, sigma, kept, observed.variables, state)
