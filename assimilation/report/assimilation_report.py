"""The report of an assimilation or forecast: animated fields, scores, configuration and provenance in one file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from assimilation.fields.fields import Ensemble, Fields
from assimilation.io.archive import read_fields, write_fields
from assimilation.io.registry import open_stream
from assimilation.observation.base import ObservationStream
from assimilation.report.fields import display
from assimilation.report.observed import observed_fields
from assimilation.report.scores import scores_section
from assimilation.verification.matching import match
from priors.audits.verdict import notice
from priors.runtime.config import read_yaml
from priors.runtime.report.page import Page
from priors.runtime.run_folder.record import RunFolder, to_json, versions

REPORT_BYTES = 2**30
"""Of members that a report is made from; a longer archive is shown at some of its times."""
OBSERVED = "observed.nc"
"""In a run folder: what the run was given, on the points of the state."""


@dataclass(frozen=True)
class RunReport:
    """What a report is made from.

    Attributes:
        ensemble: analyses or forecasts.
        config: settings of the run.
        provenance: versions, inputs and measured figures of the run.
        truth: fields that hold the ensemble's times; shown beside it.
        scores: what ``assimilation.verification`` returned.
        observations: on the grid and at the times of the ensemble, NaN where nothing was observed.
    """

    ensemble: Ensemble
    config: Mapping[str, Any] | None = None
    provenance: Mapping[str, Any] | None = None
    truth: Fields | None = None
    scores: Mapping[str, Any] | None = None
    observations: Fields | None = None

    def completed(self, folder: Path) -> "RunReport":
        """Return the report with what is left out taken from a run folder, where it is one."""
        config, provenance, observations = self.config, self.provenance, self.observations
        if config is None and (folder / "config.yaml").exists():
            config = read_yaml(folder / "config.yaml")
        if provenance is None:
            files = {name: folder / f"{name}.json" for name in ("metrics", "inputs", "versions")}
            provenance = {
                name: json.loads(path.read_text("utf-8")) for name, path in files.items() if path.exists()
            }
        if observations is None and (folder / OBSERVED).exists():
            observations = read_fields(folder / OBSERVED)
        return replace(self, config=config, provenance=provenance, observations=observations)


def write_run_report(
    folder: RunFolder, path: Path, *, stream: ObservationStream | None, figures: Mapping[str, Any]
) -> None:
    """Write the report of a run folder.

    Args:
        folder: of the run.
        path: its archive.
        stream: the observations used, None for a forecast.
        figures: what the run measured of itself.

    Raises:
        InputError: the archive cannot be read or the report not be written.
    """
    with open_stream(path) as archive:
        ensemble = archive.thinned(REPORT_BYTES).ensemble()
    observations = None
    if stream is not None:
        observations = observed_fields(stream, ensemble)
        write_fields(observations, folder.file(OBSERVED))
    provenance = {"figures": dict(figures), "versions": versions()}
    report = RunReport(ensemble, provenance=provenance, observations=observations)
    write_report(folder.file("report.html"), report)


def write_report(path: Path, report: RunReport) -> None:
    """Write the HTML file; what is left out is taken from the run folder the file lies in, if it is one.

    Raises:
        InputError: the truth does not fit the ensemble, or the file cannot be written.
    """
    report_page(report.completed(Path(path).parent)).write(Path(path))


def report_page(report: RunReport) -> Page:
    """Return the page.

    Raises:
        InputError: the truth does not fit the ensemble.
    """
    ensemble, truth, observations = report.ensemble, report.truth, report.observations
    if truth is not None:
        matched = match(ensemble, truth)
        ensemble, truth = matched.ensemble.ensemble(), matched.truth.fields()
    if observations is not None:
        observations = observations.select(times=ensemble.times)
    data, note = display(ensemble, truth, observations)
    judged = (report.provenance or {}).get("figures", {}).get("familiarity")
    details = {"Configuration": report.config, "Provenance": report.provenance}
    return Page(
        "assimilation",
        ensemble.attributes.get("title", "Assimilation"),
        data,
        _facts(ensemble),
        note,
        sections=scores_section(report.scores or {}),
        details={name: to_json(dict(content)) if content else "" for name, content in details.items()},
        notice=None if judged is None else notice(judged),
        foot=f"Made by {ensemble.attributes.get('source', 'tomocast')}.",
    )


def _facts(ensemble: Ensemble) -> dict[str, str]:
    """Return what stands under the heading."""
    n, m, frames, _, height, width = ensemble.members.shape
    labels = {
        "prior": "Prior",
        "lag": "Lag",
        "seed": "Seed",
        "forecast_reference_time": "Forecast from",
        "times_shown": "Times shown",
    }
    stated = {label: ensemble.attributes[key] for key, label in labels.items() if key in ensemble.attributes}
    names = ", ".join(f"{variable.name} ({variable.unit})" for variable in ensemble.variables)
    first, last = (str(np.datetime_as_string(ensemble.times[index], unit="ms")) for index in (0, -1))
    period = f"{first.removesuffix('.000')} to {last.removesuffix('.000')}"
    return {
        **stated,
        "Variables": names,
        "Members": str(m),
        **({"Trajectories": str(n)} if n > 1 else {}),
        "Times": f"{frames}, {period}",
        f"Grid ({', '.join(ensemble.grid.names)})": f"{height} x {width}",
    }
