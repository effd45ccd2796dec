"""What ``tomocast observation-errors`` does: errors and biases of observations from a finished filter run.

The run's analyses are continued by the prior to the next frame, which is the background the observations there are
compared with; see `assimilation.verification.observation_errors` for what follows from it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assimilation.fields.grid import Grid
from assimilation.fields.streams import FieldStream
from assimilation.io.archive import analysis_path
from assimilation.io.observations.corrected import Biases, write_corrected
from assimilation.io.observations.observed import Observations
from assimilation.io.registry import open_stream
from assimilation.observation.places import SEVERAL, Places
from assimilation.run.departures.departures import Collected, collected, of_variables
from assimilation.run.problem import observation_stream, read_assimilation
from assimilation.run.settings import AssimilateSettings
from assimilation.verification.observation_errors import (
    StationBias,
    desroziers,
    station_biases,
    withheld_error,
)
from priors.card import Prior, load_prior
from priors.diffusion.denoiser import resolved_device
from priors.runtime.config import load, read_yaml
from priors.runtime.errors import InputError
from priors.runtime.files.protect import check_output
from priors.runtime.output import check_json, emit_json
from priors.runtime.report.tables import number, text_table

SHOWN = 10
"""Stations in the printed table, the surest biases first."""


@dataclass(frozen=True)
class Request:
    """What to estimate from.

    Attributes:
        run: folder of a filter run.
        observations: those it was given, or others of the same times.
        prior: that the run used; None is the one its configuration names.
        skip: first frames left out.
        out: file for the corrected observations.
    """

    run: Path
    observations: Path
    prior: str | None = None
    skip: int = 3
    out: Path | None = None


def run(request: Request, *, as_json: str | None) -> dict[str, Any]:
    """Estimate, print or write the estimates, and write the corrected observations where asked.

    Raises:
        InputError: the run is no finished filter, a file cannot be read, or nothing can be estimated.
    """
    settings = _settings(request)
    archive = analysis_path(request.run)
    read = [archive, request.observations]
    check_json(as_json, read)
    if request.out is not None:
        check_output(request.out, read)
    prior = load_prior(settings.prior, device=resolved_device(settings.device).type)
    with open_stream(archive) as analyses:
        _check_prior(analyses, prior, request.run)
        estimates, corrections = _estimated(request, settings, prior, analyses)
    if request.out is not None:
        stream, _ = observation_stream(Observations(request.observations), None, prior)
        write_corrected(stream, request.out, **corrections)
    if not emit_json(estimates, as_json):
        print(told(estimates))
        if request.out is not None:
            print(f"corrected observations {request.out}")
    return estimates


def _settings(request: Request) -> AssimilateSettings:
    """Return the settings of a filter run.

    Raises:
        InputError: it is something else.
    """
    folder, config = request.run, request.run / "config.yaml"
    if not config.is_file():
        raise InputError(f"{folder}: found no config.yaml, expected the run folder of an assimilation")
    if "lag" not in read_yaml(config):
        raise InputError(f"{folder}: found a forecast, expected the run folder of an assimilation")
    settings = load(AssimilateSettings, [config, {} if request.prior is None else {"prior": request.prior}])
    if settings.lag != 0:
        raise InputError(
            f"{folder}: found lag {settings.lag}, expected 0: analyses that know later observations give no background "
            "for them"
        )
    return settings


def _check_prior(analyses: FieldStream, prior: Prior, folder: Path) -> None:
    made = analyses.attributes.get("prior_sha256")
    if made is not None and made != prior.card.sha256:
        raise InputError(
            f"{folder}: was made with other weights than prior {prior.card.name!r} has now; start it again"
        )


def _estimated(
    request: Request, settings: AssimilateSettings, prior: Prior, analyses: FieldStream
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the estimates as JSON, and the corrections that follow from them."""
    problem = read_assimilation(request.observations, None, prior, settings)
    stream = problem.stream
    assert stream is not None
    if not stream.grid.same_as(analyses.grid) or stream.trajectories != analyses.trajectories:
        raise InputError(
            f"{request.observations}: found {stream.trajectories} trajectories on {stream.grid.shape}, expected "
            f"{analyses.trajectories} on {analyses.grid.shape}, as in {request.run}"
        )
    found = collected(stream, analyses, prior, skip=request.skip)
    samples = found.samples()
    if not len(samples.innovation):
        raise InputError(
            f"{request.observations}: found no observation after the first {request.skip + 1} frames of {request.run}"
        )
    names = {k: one.name for k, one in enumerate(stream.variables)} | {SEVERAL: "several variables"}
    told: dict[str, Any] = {"command": "observation-errors", "variables": {}}
    corrections: dict[str, Any] = {"factors": {}, "biases": {}}
    for variable in of_variables(samples):
        own = samples.of(variable)
        estimate = desroziers(own)
        common, spread, biases = station_biases(own)
        stations = _stations(found, biases, stream.grid)
        told["variables"][names[variable]] = {
            **estimate.as_dict(),
            "common_bias": common,
            "bias_deviation": spread,
            "stations": stations,
        }
        if estimate.factor is not None:
            corrections["factors"][variable] = estimate.factor
        corrections["biases"][variable] = _biases(found, biases)
    if problem.passive is not None:
        told["withheld"] = _withheld(problem.passive, analyses, prior, request.skip, names)
    return told, corrections


def _withheld(
    passive: Any, analyses: FieldStream, prior: Prior, skip: int, names: Mapping[int, str]
) -> dict[str, Any]:
    """Return the errors of the withheld observations by variable."""
    found = collected(passive, analyses, prior, skip=skip, blind=True)
    samples, spreads = found.samples(), np.concatenate([np.zeros(0), *found.spreads])
    return {
        names[k]: withheld_error(samples.of(k), float(spreads[samples.variable == k].mean())).as_dict()
        for k in of_variables(samples)
    }


def _keys(found: Collected) -> list[tuple[int, int, int]]:
    return list(found.places)


def _biases(found: Collected, biases: list[StationBias]) -> Biases:
    keys = np.array([_keys(found)[one.place][1:] for one in biases], float).reshape(-1, 2)
    y, x = (Places.index_of(keys[:, axis]) for axis in (0, 1))
    return Biases(y, x, np.array([one.bias for one in biases]))


def _stations(found: Collected, biases: list[StationBias], grid: Grid) -> list[dict[str, float | int]]:
    """Return every station with its coordinates, the surest biases first."""
    keys = _keys(found)
    rows = []
    for one in sorted(biases, key=lambda one: -abs(one.bias) / max(one.error, 1e-30)):
        y, x = Places.index_of(np.asarray(keys[one.place][1:]))
        figures = asdict(one)
        figures.pop("place")
        rows.append(
            {
                grid.names[0]: float(np.interp(y, np.arange(grid.y.size), grid.y)),
                grid.names[1]: float(np.interp(x, np.arange(grid.x.size), grid.x)),
                **figures,
            }
        )
    return rows


def told(estimates: Mapping[str, Any]) -> str:
    """Return the estimates for a person."""
    columns = ("count", "stated", "estimated", "uncertainty", "background", "factor")
    variables = estimates["variables"]
    rows = [(name, [number(entry[key]) for key in columns]) for name, entry in variables.items()]
    rows += [
        (f"{name}, withheld", [number(entry[key]) for key in columns])
        for name, entry in estimates.get("withheld", {}).items()
    ]
    blocks = [text_table("sigma", columns, rows)]
    for name, entry in variables.items():
        stations = entry["stations"]
        if not stations:
            continue
        heads = [*stations[0]]
        shown = [
            (str(index + 1), [number(one[key]) for key in heads])
            for index, one in enumerate(stations[:SHOWN])
        ]
        more = f", the surest {SHOWN} of {len(stations)}" if len(stations) > SHOWN else ""
        blocks.append(
            f"{name}: biases of stations (deviation {number(entry['bias_deviation'])}, common to all "
            f"{number(entry['common_bias'])}){more}\n" + text_table("station", heads, shown)
        )
    return "\n\n".join(blocks)
