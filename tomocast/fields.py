"""Data assimilation of the public face: observations in, ensembles out; nothing is printed and nothing written."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from assimilation.fields.fields import Ensemble, Fields
from assimilation.fields.grid import Grid as FieldGrid
from assimilation.fields.grid import Variable
from assimilation.fields.streams import FieldStream
from assimilation.inference.assimilator import Analysis
from assimilation.inference.problem import Problem
from assimilation.io.archive import analysis_path, read_ensemble
from assimilation.io.observations.observed import Observations
from assimilation.io.registry import open_stream, read_any_fields, without_infinities
from assimilation.observation.base import Observation, ObservationStream
from assimilation.observation.own import GivenObservations, LinearFunctions, TorchFunction
from assimilation.run.nonsense import check_problem
from assimilation.run.planning import ensemble_plan, memory_plan
from assimilation.run.problem import read_assimilation, read_forecast
from assimilation.run.settings import AssimilateSettings, ForecastSettings
from assimilation.verification.events import Border
from assimilation.verification.verify import VerifyOptions
from assimilation.verification.verify import verify as _verify
from priors.card import AnyPrior, Prior, known, open_prior
from priors.diffusion.denoiser import resolved_device
from priors.runtime.config import load
from priors.runtime.errors import InputError, warnings_checked
from priors.runtime.files.permissions import nonsense_in_python

__all__ = [
    "Analysis",
    "Ensemble",
    "FieldGrid",
    "Fields",
    "GivenObservations",
    "LinearFunctions",
    "Observation",
    "Observations",
    "TorchFunction",
    "Variable",
    "analyses",
    "assimilate",
    "forecast",
    "read_ensemble",
    "read_fields",
    "read_observations",
    "verify",
]

AnyObservations = Observations | ObservationStream | xr.Dataset | xr.DataArray | str | Path
AnyState = Ensemble | Fields | xr.Dataset | str | Path


def read_observations(path: str | Path) -> Observations:
    """Return the observations in a file: NetCDF, Zarr, CSV or Parquet. Values are read when a prior uses them.

    Raises:
        InputError: it does not exist, or is of an unknown kind.
    """
    return Observations(path)


def read_fields(path: str | Path) -> Fields:
    """Return the fields in a file or folder: NetCDF, Zarr, GRIB, radar composites.

    Raises:
        InputError: it cannot be read.
    """
    return read_any_fields(Path(path))


def analyses(
    observations: AnyObservations,
    prior: AnyPrior,
    *,
    background: AnyState | None = None,
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
    **options: Any,
) -> Iterator[Analysis]:
    """Yield the members of one time after the other, as they are finished, as ``tomocast assimilate`` computes them.

    Args:
        observations: with errors; see `Observations`, or `GivenObservations` with operators of your own.
        prior: of trajectories: the name of an embedded one, a folder with a card, a loaded `Prior`, or a `Denoiser`
            that knows its units.
        background: fields or an ensemble that end one step before the first observation.
        settings: of the job, nested, such as ``{"sampler": {"steps": 8}}``.
        force: go on with what cannot be right (the checks of ``--force`` on the command line), with a warning.
        options: of the job: ``lag`` (later frames whose observations reach an analysis, or ``"inf"``), ``members``,
            ``seed``, ``overlap`` and others of ``tomocast config schema --job assimilate``.

    Yields:
        Trajectory, frame, time and members (m, k, y, x) in physical units.

    Raises:
        InputError: observations, background or a setting do not fit the prior, lie far beyond it, or hold no value; or
            the memory does not suffice.
    """
    loaded, job = _job(AssimilateSettings, prior, settings, options)
    with nonsense_in_python(force=force):
        problem = _problem(observations, background, loaded, job)
    yield from _run(problem, loaded, job)


def assimilate(
    observations: AnyObservations,
    prior: AnyPrior,
    *,
    background: AnyState | None = None,
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
    **options: Any,
) -> Ensemble:
    """Return the ensemble of analyses; the arguments are those of `analyses`.

    Raises:
        InputError: see `analyses`.
    """
    loaded, job = _job(AssimilateSettings, prior, settings, options)
    with nonsense_in_python(force=force):
        problem = _problem(observations, background, loaded, job)
    return _collected(problem, loaded, job)


def forecast(
    start: AnyState,
    prior: AnyPrior,
    *,
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
    **options: Any,
) -> Ensemble:
    """Return a forecast from the last frames of ``start``, as ``tomocast forecast`` computes it.

    Args:
        start: fields or an ensemble.
        prior: see `analyses`.
        settings: see `analyses`.
        force: see `analyses`.
        options: ``frames``, ``members``, ``seed``, ``motion`` and others of ``tomocast config schema --job forecast``.

    Raises:
        InputError: the start or a setting does not fit the prior, or the memory does not suffice.
    """
    loaded, job = _job(ForecastSettings, prior, settings, options)
    state = _state(start)
    assert state is not None
    with nonsense_in_python(force=force), warnings_checked(strict=job.strict):
        problem = read_forecast(state, loaded, job)
        check_problem(problem, loaded)
    return _collected(problem, loaded, job)


def verify(
    ensemble: AnyState,
    truth: AnyState,
    *,
    thresholds: tuple[float, ...] | None = None,
    scales: tuple[int, ...] = (1, 5, 11, 21),
    fss_border: Border = "valid",
    seed: int = 0,
    force: bool = False,
) -> dict[str, Any]:
    """Score an ensemble against the truth, as ``tomocast score ensemble`` does.

    Args:
        ensemble: analyses or a forecast, a file of them, or a run folder.
        truth: fields on the same or a finer grid.
        thresholds: of events, in the variable's unit; by default those of rain.
        scales: of the fractions skill score, odd numbers of cells.
        fss_border: where a neighbourhood leaves the field: ``valid`` takes the share of the valid cells, ``zeros``
            counts cells outside as no event (pysteps), ``cut`` counts whole neighbourhoods only (``scores``).
        seed: of the bootstrap.
        force: take infinite values as missing, with a warning; they are refused otherwise.

    Returns:
        RMSE, CRPS, spread-skill and others by name, with intervals, by variable, time and region.

    Raises:
        InputError: a file cannot be read, or the two cannot be compared.
    """
    options = VerifyOptions(thresholds=thresholds, scales=scales, seed=seed, fss_border=fss_border)
    with nonsense_in_python(force=force):
        if isinstance(ensemble, str | Path):
            with open_stream(analysis_path(Path(ensemble))) as stream:
                return verify_stream(stream, truth, options)
        return verify_stream(_stream(ensemble, "ensemble"), truth, options)


def verify_stream(ensemble: FieldStream, truth: AnyState, options: VerifyOptions) -> dict[str, Any]:
    """Score a stream; files are read one frame at a time."""
    if isinstance(truth, str | Path):
        with open_stream(Path(truth)) as stream:
            return _verify(ensemble, stream, options)
    return _verify(ensemble, _stream(truth, "truth"), options)


def _job(kind: Any, prior: AnyPrior, settings: Mapping[str, Any] | None, options: Any) -> tuple[Prior, Any]:
    """Return the loaded prior and the validated settings."""
    reference = known(prior)
    name = reference if isinstance(reference, str) else reference.card.name
    job = load(kind, [{"prior": name, **(settings or {}), **options}])
    return open_prior(reference, device=resolved_device(job.device).type), job


def _problem(
    observations: AnyObservations, background: AnyState | None, prior: Prior, job: AssimilateSettings
) -> Problem:
    """Return the problem, without observations that are gross errors where the settings say so.

    Raises:
        InputError: something does not fit the prior; with ``strict``, there is something to warn of.
    """
    with warnings_checked(strict=job.strict):
        problem = read_assimilation(_given(observations), _state(background), prior, job)
        check_problem(problem, prior)
        return problem


def _given(observations: AnyObservations) -> Observations | ObservationStream:
    if isinstance(observations, Observations | ObservationStream):
        return observations
    return Observations(observations)


def _run(problem: Problem, prior: Prior, job: AssimilateSettings | ForecastSettings) -> Iterator[Analysis]:
    assimilator = job.assimilator(prior, problem)
    plan = ensemble_plan(assimilator, problem, members=job.members, seed=job.seed, chunk=job.chunk)
    memory_plan(assimilator, problem, plan).require()
    yield from assimilator.run(problem, plan)


def _collected(problem: Problem, prior: Prior, job: AssimilateSettings | ForecastSettings) -> Ensemble:
    shape = (problem.trajectories, job.members, problem.frames, *problem.shape)
    members = np.empty(shape, np.float32)
    for analysis in _run(problem, prior, job):
        members[analysis.trajectory, :, analysis.frame] = analysis.members
    attributes = {"prior": prior.card.name, "prior_sha256": prior.card.sha256, "seed": str(job.seed)}
    return Ensemble(members, problem.times, problem.variables, problem.grid, attributes)


def _state(given: AnyState | None) -> Path | Ensemble | None:
    """Return a state as a file to read, or in memory as an ensemble of at least one member."""
    if given is None or isinstance(given, Ensemble):
        return given
    if isinstance(given, str | Path):
        return Path(given)
    if isinstance(given, xr.Dataset):
        return Ensemble.from_dataset(given)
    if isinstance(given, Fields):
        return Ensemble(given.values[:, None], given.times, given.variables, given.grid, given.attributes)
    raise InputError(f"state: found {type(given).__name__}, expected fields, an ensemble, xarray or a file")


def _stream(given: AnyState, name: str) -> FieldStream:
    """Return a state in memory as a stream without infinite values."""
    state = _state(given)
    assert isinstance(state, Ensemble)
    return FieldStream.of(replace(state, members=without_infinities(state.members, name)))
