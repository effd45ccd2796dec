"""Reading what a run needs from files: observations and a background, or the start of a forecast."""

from collections.abc import Mapping
from pathlib import Path

from assimilation.fields.fields import Ensemble
from assimilation.inference.domain import (
    check_grid,
    check_variables,
    own_grid,
    state_variables,
    trajectory_card,
)
from assimilation.inference.problem import Problem, analysis_problem, forecast_problem
from assimilation.io.archive import read_ensemble
from assimilation.io.observed import Observations
from assimilation.io.registry import read_any_fields
from assimilation.run.settings import AssimilateSettings, ForecastSettings
from priors.card import Prior

ARCHIVES = (".nc", ".zarr")


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
        return read_assimilation(inputs["observations"], inputs.get("background"), prior)
    return read_forecast(inputs["start"], prior, settings)


def read_assimilation(
    observations: Path | Observations, background: Path | Ensemble | None, prior: Prior
) -> Problem:
    """Read observations and, if there is one, a background; either may be in memory already.

    Raises:
        InputError: a file cannot be read or does not fit the prior.
    """
    card = trajectory_card(prior)
    observed = observations if isinstance(observations, Observations) else Observations(observations)
    known = None if background is None else read_state(background, prior)
    grid = None if known is None else known.grid
    if grid is None and observed.tabular:
        grid = own_grid(prior.card)
    stream = observed.stream(
        grid=grid,
        variables=state_variables(prior.fields),
        step_s=card.step_s,
        spacing=card.spacing,
    )
    return analysis_problem(
        stream, prior, background=known, source=str(observed.source), background_source=_name(background)
    )


def read_forecast(start: Path | Ensemble, prior: Prior, settings: ForecastSettings) -> Problem:
    """Read the fields a forecast starts from; they may be in memory already.

    Raises:
        InputError: the file cannot be read, does not fit the prior, or motion cannot be told from it.
    """
    return forecast_problem(
        read_state(start, prior),
        prior,
        frames=settings.frames,
        longest=settings.context,
        motion=settings.motion,
        source=_name(start),
    )


def read_state(path: Path | Ensemble, prior: Prior) -> Ensemble:
    """Return fields or an ensemble that fit the prior.

    Raises:
        InputError: the file cannot be read, or does not fit.
    """
    if isinstance(path, Ensemble):
        known = path
    elif (path.is_dir() and (path / "config.yaml").exists()) or path.suffix in ARCHIVES:
        known = read_ensemble(path)
    else:
        fields = read_any_fields(path)
        known = Ensemble(
            fields.values[:, None], fields.times, fields.variables, fields.grid, fields.attributes
        )
    check_variables(known.variables, prior, source=_name(path))
    check_grid(known.grid, prior, source=_name(path))
    return known


def _name(given: Path | Ensemble | None) -> str:
    """Return what messages call fields."""
    return "fields in memory" if isinstance(given, Ensemble) else str(given)
