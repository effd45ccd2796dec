"""Reading what a run needs from files: observations and a background, or the start of a forecast."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from assimilation.fields.fields import Ensemble, Fields
from assimilation.fields.resample import to_step_from_the_end
from assimilation.fields.streams import FieldStream
from assimilation.fields.units import affine
from assimilation.fields.variables import column_of
from assimilation.inference.domain import (
    check_grid,
    check_variables,
    own_grid,
    reach_of,
    state_variables,
    step_of,
    trajectory_card,
)
from assimilation.inference.problem import Problem, analysis_problem, forecast_problem
from assimilation.io.archive import analysis_path
from assimilation.io.observations.observed import Observations
from assimilation.io.radar.frame import DEFAULT_RELATION
from assimilation.io.registry import open_stream
from assimilation.observation.base import ObservationStream
from assimilation.observation.quality import CheckedStream
from assimilation.observation.withheld import withheld_parts
from assimilation.run.observe import ObserveSettings, observed_part
from assimilation.run.settings import AssimilateSettings, ForecastSettings
from priors.card import Prior
from priors.runtime.errors import InputError


def read_problem(
    settings: AssimilateSettings | ForecastSettings, inputs: Mapping[str, Path], prior: Prior
) -> Problem:
    """Return the problem of a run.

    Args:
        settings: of the run; their class says whether it is an assimilation or a forecast.
        inputs: ``observations`` and maybe ``background``, or ``start``.
        prior: loaded.

    Raises:
        InputError: a file cannot be read or does not fit the prior.
    """
    if isinstance(settings, AssimilateSettings):
        return read_assimilation(inputs["observations"], inputs.get("background"), prior, settings)
    return read_forecast(inputs["start"], prior, settings)


def read_assimilation(
    observations: Path | Observations | ObservationStream,
    background: Path | Ensemble | None,
    prior: Prior,
    settings: AssimilateSettings,
) -> Problem:
    """Read observations and, if there is one, a background; either may be in memory already.

    Args:
        observations: what was observed.
        background: frames before the first observation.
        prior: of trajectories.
        settings: ``gross_error``, and ``withhold`` with its ``seed``.

    Raises:
        InputError: a file cannot be read or does not fit the prior.
    """
    trajectory_card(prior)
    known = None if background is None else read_state(background, prior)
    if isinstance(observations, ObservationStream):
        stream, source = observations, "observations"
    else:
        stream, source = observation_stream(observations, known, prior)
    problem = analysis_problem(
        stream, prior, background=known, source=source, background_source=_name(background)
    )
    limit = settings.gross_error
    if limit is not None:
        state, deviation = expected_state(prior, known, problem, limit)
        checked = CheckedStream(stream, state, deviation, limit=limit, source=source)
        stream = checked if checked.rejected else stream
    if settings.withhold == 0:
        return replace(problem, stream=stream)
    used, passive = withheld_parts(stream, settings.withhold, seed=settings.seed, source=source)
    return replace(problem, stream=used, passive=passive)


def observation_stream(
    given: Path | Observations, known: Ensemble | None, prior: Prior
) -> tuple[ObservationStream, str]:
    """Return observations on the state of a prior, and what messages call them."""
    observed = given if isinstance(given, Observations) else Observations(given)
    card = trajectory_card(prior)
    grid = None if known is None else known.grid
    if grid is None and observed.tabular:
        grid = own_grid(prior.card)
    stream = observed.stream(
        grid=grid,
        variables=state_variables(prior.fields),
        step_s=card.step_s,
        spacing=card.spacing,
    )
    return stream, str(observed.source)


def expected_state(
    prior: Prior, background: Ensemble | None, problem: Problem, limit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return what is expected of a state before any observation, and the deviation of states from it, (k, y, x).

    With a background its last frame and the climate's deviation; without one the middle of the training data, and a
    deviation whose ``limit``-fold is one and a half times their range.
    """
    shape = problem.shape[1:]
    ranges = [1.5 * (variable.high - variable.low) / limit for variable in prior.fields.variables]
    middle = [np.full(shape, (variable.low + variable.high) / 2) for variable in prior.fields.variables]
    if background is None or background.grid.shape != shape:
        wide = [np.full(shape, each) for each in ranges]
        return np.stack(middle).astype(np.float32), np.stack(wide).astype(np.float32)
    state = background.members[:, :, -1].mean(axis=(0, 1))
    scales = [
        variable.scale if variable.transform == "none" else each
        for variable, each in zip(prior.fields.variables, ranges, strict=True)
    ]
    return state.astype(np.float32), np.stack([np.full(shape, each) for each in scales]).astype(np.float32)


def read_forecast(start: Path | Ensemble, prior: Prior, settings: ForecastSettings) -> Problem:
    """Read the fields a forecast starts from; they may be in memory already.

    Raises:
        InputError: the file cannot be read, does not fit the prior, or motion cannot be told from it.
    """
    return forecast_problem(
        read_state(start, prior, settings),
        prior,
        frames=settings.frames,
        longest=settings.context,
        motion=settings.motion,
        source=_name(start),
    )


def read_state(path: Path | Ensemble, prior: Prior, cut: ForecastSettings | None = None) -> Ensemble:
    """Return fields or an ensemble that fit the prior; of a file, the last frames that a network can see.

    Args:
        path: file, folder or run, or what is in memory already.
        prior: of trajectories.
        cut: how a start is brought to other steps, cells and parts of the grid.

    Raises:
        InputError: the file cannot be read, or does not fit.
    """
    name = _name(path)
    if isinstance(path, Ensemble):
        known = path
    else:
        with open_stream(analysis_path(path), rain=DEFAULT_RELATION if cut is None else cut.rain) as stream:
            if stream.starts is not None:
                raise InputError(f"{name}: found several starts by several leads, expected one trajectory")
            known = _latest(stream, prior).ensemble()
    known = in_state(known, prior, source=name)
    if cut is not None:
        known = _resampled(known, cut, source=name)
    check_variables(known.variables, prior, source=name)
    try:
        check_grid(known.grid, prior, source=name)
    except InputError as error:
        if cut is None:
            raise
        raise InputError(f"{error} (--spacing averages cells, --crop cuts a part of the grid)") from error
    return known


def _latest(stream: FieldStream, prior: Prior) -> FieldStream:
    """Return the last frames of a stream: as many steps as the network can see, and the room to fill one between."""
    reach = (reach_of(prior) + 3) * step_of(prior)
    first = int(np.searchsorted(stream.times, stream.times[-1] - reach))
    return replace(
        stream,
        times=stream.times[first:],
        read=lambda trajectory, time: stream.read(trajectory, first + time),
    )


def in_state(known: Ensemble, prior: Prior, *, source: str) -> Ensemble:
    """Return the prior's variables, found by name, in its order and units.

    Raises:
        InputError: one is not there, or measures something else.
    """
    wanted = state_variables(prior.fields)
    members = []
    for variable in wanted:
        try:
            column = column_of(variable, known.variables)
        except InputError as error:
            raise InputError(f"{source}: {error} (a variable of prior {prior.card.name!r})") from error
        scale, offset = affine(
            known.variables[column].unit, variable.unit, label=f"{source}: {variable.name}"
        )
        members.append(known.members[:, :, :, column] * np.float32(scale) + np.float32(offset))
    return replace(known, members=np.stack(members, axis=3), variables=wanted)


def _resampled(known: Ensemble, cut: ForecastSettings, *, source: str) -> Ensemble:
    """Return an ensemble at other steps, on other cells, on a part of its grid."""
    n, m = known.members.shape[:2]
    flat = known.members.reshape(n * m, *known.members.shape[2:])
    fields = Fields(flat, known.times, known.variables, known.grid, known.attributes)
    if cut.step_s is not None:
        fields = to_step_from_the_end(fields, cut.step_s, source=source)
    fields = observed_part(fields, ObserveSettings(spacing=cut.spacing, crop=cut.crop), source=source)
    members = fields.values.reshape(n, m, *fields.values.shape[1:])
    return Ensemble(members, fields.times, fields.variables, fields.grid, fields.attributes)


def _name(given: Path | Ensemble | None) -> str:
    """Return what messages call fields."""
    return "fields in memory" if isinstance(given, Ensemble) else str(given)
