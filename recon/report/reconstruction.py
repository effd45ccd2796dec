"""The report of a reconstruction: slices, curves, scores, configuration and versions in one file."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from priors.runtime.report.charts import lines
from priors.runtime.report.page import Notice, Page
from priors.runtime.report.tables import html_number, html_table, is_number
from recon.report.volumes import Unsure, display
from recon.score.metrics import METRICS, Metric


@dataclass(frozen=True, eq=False)
class Report:
    """What a report shows.

    Attributes:
        title: heading.
        volumes: label -> (z, y, x) values in ``unit``, one grid; the first is shown first.
        affine: index (x, y, z) -> mm (patient RAS for HU).
        unit: "HU", "1/mm" or "unknown".
        facts: short statements under the heading, label -> text.
        curves: figure -> (iteration, value) pairs.
        scores: row -> figure -> number or None, with ``reasons`` beside them (see ``recon.score.metrics.score``).
        pictures: heading -> PNG.
        warnings: sentences on what looks wrong with the measurement.
        unsure: deviation of the first volume, of a run with draws.
        notice: what stands at the head.
        configuration: YAML text.
        versions: what ``priors.runtime.run_folder.record.versions`` returned.
    """

    title: str
    volumes: Mapping[str, Float[np.ndarray, "z y x"]]
    affine: Float[np.ndarray, "4 4"]
    unit: str = "HU"
    facts: Mapping[str, str] = field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    unsure: Unsure | None = None
    notice: Notice | None = None
    configuration: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)


def write_report(path: Path, report: Report) -> None:
    """Write the HTML file.

    Raises:
        InputError: it cannot be written.
    """
    _page(report).write(path)


def render(report: Report) -> str:
    """Return the HTML text."""
    return _page(report).render()


def _page(report: Report) -> Page:
    shown = display(report.volumes, report.affine, unit=report.unit, unsure=report.unsure)
    versions = json.dumps(report.versions, indent=2) if report.versions else ""
    return Page(
        "recon",
        report.title,
        shown.data,
        report.facts,
        shown.note,
        sections=_convergence(report) + _scores(report) + _pictures(report),
        details={"Configuration": report.configuration, "Versions": versions},
        notice=report.notice,
        foot=f"Made by tomocast {report.versions.get('tomocast') or ''}. Not for diagnostic use.",
    )


def _convergence(report: Report) -> str:
    """Return the section with one chart per figure, "" where there is none."""
    charts = ""
    for name, points in report.curves.items():
        iterations, values = [at for at, _ in points], [value for _, value in points]
        heading = name.replace("_", " ")
        charts += lines(heading, iterations, {heading: values}, x_label="iteration", logarithmic="auto")
    return f'<section><h2>Convergence</h2><div class="charts">{charts}</div></section>' if charts else ""


def _scores(report: Report) -> str:
    """Return the table of scores, one row per volume, "" where there are none."""
    shown = [metric for metric in METRICS if any(metric.key in row for row in report.scores.values())]
    if not shown:
        return ""
    rows = [(label, [_cell(row, metric) for metric in shown]) for label, row in report.scores.items()]
    table = html_table("Volume", [metric.heading for metric in shown], rows)
    windows = [row["window_hu"] for row in report.scores.values() if "window_hu" in row]
    note = "Both volumes clipped to [{:g}, {:g}] HU, the data range.".format(*windows[0]) if windows else ""
    return f'<section><h2>Scores</h2>{table}<p class="hint">{note}</p></section>'


def _cell(row: Mapping[str, Any], metric: Metric) -> str:
    """Return one number of the table; a missing one says why."""
    if is_number(row.get(metric.key)):
        return metric.cell(row)
    return html_number(None, why=row.get("reasons", {}).get(metric.key, "not computed"))


def _pictures(report: Report) -> str:
    """Return a section per picture, the warnings above the first."""
    sentences = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in report.warnings)
    warnings = f'<ul class="warnings">{sentences}</ul>' if sentences else ""
    sections = []
    for heading, png in report.pictures.items():
        name = html.escape(heading, quote=True)
        image = f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(png).decode("ascii")}">'
        sections.append(f'<section class="picture"><h2>{name}</h2>{warnings}{image}</section>')
        warnings = ""
    return "".join(sections)
