"""Observing known fields: y = H(x) + e on what an instrument sees, e ~ N(0, sigma^2), from a seed.

sigma is a share of each variable's standard deviation over all finite values of the file, or a physical value.
A variable with a minimum (rain, at 0) is observed as an instrument would: where it is at its minimum (dry) that
is reported without noise, and elsewhere what noise pushes below the minimum is raised to it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float32, Float64

from assimilation.fields.fields import Fields
from assimilation.fields.grid import Grid, Variable
from assimilation.fields.units import affine
from assimilation.observation.instruments import Instrument
from priors.runtime.errors import InputError


@dataclass(frozen=True, eq=False)
class Observed:
    """Gridded observations of whole trajectories.

    Attributes:
        fields: observed values on the instrument's lattice, NaN where nothing was seen.
        sigma: standard deviation of the error, physical units, broadcast to ``fields.values``.
        instrument: what observed.
        variables: of the state.
        grid: of the state.
    """

    fields: Fields
    sigma: Float32[np.ndarray, "..."]
    instrument: Instrument
    variables: tuple[Variable, ...]
    grid: Grid


def observe(fields: Fields, instrument: Instrument, *, sigma: str, seed: int) -> Observed:
    """Return observations of known fields.

    Args:
        fields: the truth.
        instrument: what observes it.
        sigma: error, "0.1" of the standard deviation or a value with its unit, "0.5 K".
        seed: of the places and of the noise.

    Raises:
        InputError: the instrument does not fit the fields, or sigma cannot be used.
    """
    variables, grid = instrument.lattice(fields.variables, fields.grid)
    count, frames = fields.values.shape[:2]
    clean = np.empty((count, frames, len(variables), *grid.shape), np.float32)
    operator = instrument.operator(fields.variables)
    for index in np.ndindex(count, frames):
        state = torch.from_numpy(np.ascontiguousarray(fields.values[index]))
        clean[index] = operator(state).numpy().reshape(clean.shape[2:])
    errors = absolute_sigma(sigma, variables, references(fields, variables, clean))
    values = np.full_like(clean, np.nan)
    for n in range(count):
        # One stream of numbers per trajectory: the first ones stay the same when more are added.
        generator = np.random.default_rng([seed, n])
        seen = instrument.seen(frames, grid.shape, generator)
        for frame in range(frames):
            noise = generator.standard_normal(clean.shape[2:], dtype=np.float32) * errors
            noisy = _measured(clean[n, frame], noise, variables)
            values[n, frame] = np.where(seen[frame], noisy, np.nan)
    observed = replace(fields, values=values, variables=variables, grid=grid)
    return Observed(observed, errors, instrument, fields.variables, fields.grid)


def references(
    fields: Fields, variables: tuple[Variable, ...], clean: Float32[np.ndarray, "n time k y x"]
) -> Float64[np.ndarray, "k"]:
    """Return the standard deviation relative errors refer to: of the state's variable, or of what is derived."""
    own = {variable.name: k for k, variable in enumerate(fields.variables)}

    def deviation(values: np.ndarray) -> float:
        finite = values[np.isfinite(values)]
        return float(finite.std(dtype=np.float64)) if finite.size else 0.0

    return np.array(
        [
            deviation(fields.values[:, :, own[variable.name]] if variable.name in own else clean[:, :, k])
            for k, variable in enumerate(variables)
        ]
    )


def absolute_sigma(
    text: str, variables: tuple[Variable, ...], deviations: Float64[np.ndarray, "k"]
) -> Float32[np.ndarray, "k 1 1"]:
    """Return the error of every variable in its unit.

    A constant field has no deviation to refer to; its errors are then the plain number in its own unit.

    Raises:
        InputError: no positive number, or a unit that does not fit a variable.
    """
    match = re.fullmatch(r"\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*(.*?)\s*", text)
    try:
        number, unit = (float(match[1]), match[2]) if match else (float("nan"), "")
    except ValueError:
        number, unit = float("nan"), ""
    if not 0 < number < float("inf"):
        raise InputError(
            f"sigma: found '{text}', expected a positive number such as 0.1, or 0.5K with a unit"
        )
    if not unit:
        scales = [float(deviation) or 1.0 for deviation in deviations]
    else:
        scales = [affine(unit, variable.unit, label=f"sigma of {variable.name}")[0] for variable in variables]
    return np.array([number * scale for scale in scales], np.float32)[:, None, None]


def _measured(
    clean: Float32[np.ndarray, "k y x"], noise: Float32[np.ndarray, "k y x"], variables: tuple[Variable, ...]
) -> Float32[np.ndarray, "k y x"]:
    """Add noise and respect the minimum of each variable."""
    noisy: np.ndarray = clean + noise
    for k, least in _minima(variables):
        noisy[k] = np.where(clean[k] <= least, clean[k], np.maximum(noisy[k], least))
    return noisy


def _minima(variables: tuple[Variable, ...]) -> Iterator[tuple[int, float]]:
    for k, variable in enumerate(variables):
        if variable.minimum is not None:
            yield k, variable.minimum
