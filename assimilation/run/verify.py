"""What ``tomocast score ensemble`` does once its options are read: archives in, scores out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from assimilation.fields.streams import FieldStream
from assimilation.io.radar.frame import DEFAULT_RELATION, RainRelation
from assimilation.verification.aggregation import Region
from assimilation.verification.matching import match
from assimilation.verification.metrics import EVENT_SCORES, SCORES, Metric
from assimilation.verification.verify import VerifyOptions, verify
from priors.runtime.errors import InputError, warnings_checked, warnings_kept
from priors.runtime.output import check_json, emit_json
from priors.runtime.report.tables import is_number, number, text_table
from priors.runtime.run_folder.record import open_run


@dataclass(frozen=True)
class VerifyFiles:
    """What to compare: an archive or run folder, the truth, and what may accompany them."""

    archive: Path
    truth: Path
    variable: str | None = None
    climatology: Path | None = None
    observations: Path | None = None
    lead_hours: float | None = None
    rain: RainRelation = DEFAULT_RELATION


def run(
    files: VerifyFiles,
    options: VerifyOptions,
    *,
    as_json: str | None,
    report: bool = False,
    strict: bool = False,
) -> None:
    """Score, print or write the scores, and add the truth to the run's report where asked.

    Args:
        files: what to compare.
        options: how.
        as_json: file for the scores as JSON, ``-`` for standard output.
        report: write the run's report again.
        strict: make every warning an error, before anything is written.

    Raises:
        InputError: a file cannot be read or the two cannot be compared.
    """
    from assimilation.io.archive import analysis_path

    read = [analysis_path(files.archive), files.truth, files.climatology, files.observations]
    check_json(as_json, read)
    with warnings_checked(strict=strict), _opened(files) as (ensemble, truth):
        scores = verify(ensemble, truth, options, climatology=_climatology(files))
        if files.observations is not None:
            scores["departures"] = _departures(files.observations, ensemble)
    if report:
        with warnings_kept(), _opened(files) as (ensemble, truth):
            _report(files.archive, ensemble, truth, scores)
    if emit_json(scores, as_json):
        return
    print(table(scores))


@contextmanager
def _opened(files: VerifyFiles) -> Iterator[tuple[FieldStream, FieldStream]]:
    """Yield archive and truth, to be read inside the block."""
    from assimilation.io.archive import analysis_path
    from assimilation.io.registry import open_stream

    with (
        open_stream(analysis_path(files.archive), lead=_lead(files.lead_hours)) as ensemble,
        open_stream(files.truth, files.variable, rain=files.rain) as truth,
    ):
        yield ensemble, truth


def table(scores: dict[str, Any]) -> str:
    """Return the scores for a person: one line per variable, one per lead or time, one per threshold."""
    counts = ", ".join(f"{scores[name]} {name}" for name in ("trajectories", "members", "times"))
    counts += f"; {scores['points']} of {scores['points_held']} values compared"
    variables = scores["by_variable"]
    shown = [m for m in SCORES if any(is_number(entry[m.key]) for entry in variables.values())]
    headings = [metric.heading for metric in shown]
    blocks = [counts, text_table("variable", headings, _variable_rows(variables, shown))]
    blocks[-1] += f"\n95 % intervals: {scores['intervals_from']}"
    series = scores["by_lead"] if "by_lead" in scores else scores["by_time"]
    if shown and shown[0].key in series:
        axis = "lead_s" if "lead_s" in series else "time"
        rows = (
            (f"{at:g}" if isinstance(at, float) else at, [number(series[m.key][index]) for m in shown])
            for index, at in enumerate(series[axis])
        )
        blocks.append(text_table(axis, headings, rows))
    if scores.get("thresholds"):
        blocks.append(_event_table(scores["thresholds"]))
    if "departures" in scores:
        figures = (f"{key} {scores['departures'][key]:.4g}" for key in ("count", "mean", "rms", "expected"))
        blocks.append("observation minus analysis: " + "  ".join(figures))
    return "\n\n".join(blocks)


def _variable_rows(
    variables: Mapping[str, Any], shown: Sequence[Metric]
) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the scores of every variable, and below them their intervals where there are some."""
    for name, entry in variables.items():
        yield f"{name} [{entry['unit']}]", [number(entry[metric.key]) for metric in shown]
        ends = [entry["intervals"][metric.key] for metric in shown]
        if np.isfinite(ends).any():
            yield "", [f"[{number(low, '.3g')}, {number(high, '.3g')}]" for low, high in ends]


def _event_table(thresholds: Mapping[str, Any]) -> str:
    """Return the scores of events, one line per threshold."""
    scales = list(next(iter(thresholds.values()))["fss"])
    headings = [*(score.heading for score in EVENT_SCORES), *(f"FSS ({scale})" for scale in scales)]
    rows = (
        (f"at {at}", [number(entry[s.key]) for s in EVENT_SCORES] + [number(entry["fss"][n]) for n in scales])
        for at, entry in thresholds.items()
    )
    return text_table("threshold", headings, rows)


def parse_region(text: str) -> Region:
    """Return the region written as ``NAME=Y0:Y1,X0:X1``.

    Raises:
        InputError: it is written otherwise.
    """
    try:
        name, box = text.split("=")
        (y0, y1), (x0, x1) = (tuple(map(float, span.split(":"))) for span in box.split(","))
    except ValueError:
        raise InputError(f"region: found '{text}', expected NAME=Y0:Y1,X0:X1") from None
    return Region(name, (min(y0, y1), max(y0, y1)), (x0, x1))


def parse_rain(relation: str | None, hail_cap: float | None) -> RainRelation:
    """Return the relation written as ``A,B``, with a cap of reflectivity.

    Raises:
        InputError: it is written otherwise.
    """
    try:
        a, b = (None, None) if relation is None else map(float, relation.split(","))
        return RainRelation(a=a, b=b, hail_cap_dbz=hail_cap)
    except ValueError:
        raise InputError(f"zr: found '{relation}', expected A,B such as 200,1.6") from None


def parse_scales(scales: list[int]) -> tuple[int, ...]:
    """Return the scales of the fractions skill score.

    Raises:
        InputError: one is not a positive odd number.
    """
    for scale in scales:
        if scale < 1 or scale % 2 == 0:
            raise InputError(f"scale: found {scale}, expected an odd number of cells")
    return tuple(scales)


def _lead(hours: float | None) -> np.timedelta64 | None:
    return None if hours is None else np.timedelta64(round(hours * 3600), "s")


def _climatology(files: VerifyFiles) -> Any:
    """Return the climatology of the training file, None where none is given."""
    if files.climatology is None:
        return None
    from assimilation.baselines.climatology import climatology
    from assimilation.io.registry import open_stream

    with open_stream(files.climatology, files.variable) as training:
        return climatology(training)


def _departures(path: Path, ensemble: FieldStream) -> dict[str, Any]:
    """Return observation-minus-analysis statistics, over all and by time."""
    from assimilation.io.streams import read_observations
    from assimilation.verification.departures import departures

    steps = np.diff(ensemble.times) / np.timedelta64(1, "s")
    step_s = float(steps.min()) if steps.size else None
    stream = read_observations(path, grid=ensemble.grid, variables=ensemble.variables, step_s=step_s)
    whole, each = departures(stream, ensemble)
    return {**whole.as_dict(), "by_time": [entry.as_dict() for entry in each]}


def _report(archive: Path, ensemble: FieldStream, truth: FieldStream, scores: dict[str, Any]) -> None:
    """Write the run's report again, with the truth and the scores in it."""
    from assimilation.report.assimilation_report import REPORT_BYTES, RunReport, write_report

    if not archive.is_dir() or archive.suffix == ".zarr":
        raise InputError(f"{archive}: --report needs the run folder, found an archive")
    shown = match(ensemble.thinned(REPORT_BYTES), truth)
    with open_run(archive, resume=True) as folder:
        folder.claim("report.html")
        report = RunReport(shown.ensemble.ensemble(), truth=shown.truth.fields(), scores=scores)
        write_report(folder.file("report.html"), report)
