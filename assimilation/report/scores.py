"""The scores of a verification as a section of the report: a table, lines over time or lead, rank histograms."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from assimilation.verification.metrics import CHARTS, EVENT_SCORES, RANK_HISTOGRAM, SCORES, Metric
from priors.runtime.report.charts import bars, lines
from priors.runtime.report.tables import html_number, html_table, is_number


def scores_section(scores: Mapping[str, Any]) -> str:
    """Return tables and charts of what ``verify`` returned, "" where there is nothing."""
    variables: Mapping[str, Any] = scores.get("by_variable", {})
    if not variables:
        return ""
    series, x, x_label = _axis(scores)
    charts = ""
    for name, entry in variables.items():
        own = series.get("by_variable", {}).get(name, series)
        charts += _variable_charts(name, entry, own, x, x_label=x_label)
    return (
        f"<section><h2>Scores</h2>{_table(variables)}{_event_table(variables)}"
        f'<p class="hint">95 % intervals (in brackets): {_intervals_from(scores)}.</p>'
        f'<div class="charts">{charts}</div></section>'
    )


def _intervals_from(scores: Mapping[str, Any]) -> str:
    return html.escape(scores.get("intervals_from") or "bootstrap")


def _axis(scores: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[float], str]:
    """Return the series over lead where there is one, else over time, with its axis."""
    series: Mapping[str, Any] = scores.get("by_lead") or scores.get("by_time") or {}
    if "lead_s" in series:
        leads = [float(value) for value in series["lead_s"]]
        unit, size = ("hours", 3600.0) if max(leads) >= 7200 else ("minutes", 60.0)
        if max(leads) < 120:
            unit, size = "seconds", 1.0
        return series, [lead / size for lead in leads], f"lead in {unit}"
    count = len(series.get("time", []))
    return series, [float(frame) for frame in range(count)], "analysis time (frame)"


def _variable_charts(
    name: str, entry: Mapping[str, Any], series: Mapping[str, Any], x: Sequence[float], *, x_label: str
) -> str:
    """Return the charts of one variable."""
    unit = entry.get("unit") or "1"

    charts = ""
    for metrics in CHARTS:
        values = {m.heading: series[m.key] for m in metrics if len(series.get(m.key) or ()) == len(x) > 1}
        title = " and ".join(metric.heading for metric in metrics)
        charts += lines(f"{name}: {title}{_in_unit(metrics[0], unit)}", x, values, x_label=x_label)
    for threshold, events in (series.get("thresholds") or {}).items():
        values = {s.heading: events[s.key] for s in EVENT_SCORES if len(events.get(s.key, ())) == len(x) > 1}
        charts += lines(f"{name}: at least {threshold} {unit}", x, values, x_label=x_label)
        charts += _reliability(f"{name}: at least {threshold} {unit}", entry, threshold)
    charts += _ranks(f"{name}: {RANK_HISTOGRAM.heading}", entry.get(RANK_HISTOGRAM.key) or ())
    charts += _ranks_by_time(name, series.get(RANK_HISTOGRAM.key) or (), x, x_label=x_label)
    spectrum = entry.get("spectrum") or {}
    if spectrum.get("wavenumber"):
        values = {key: power for key, power in spectrum.items() if key != "wavenumber"}
        charts += lines(
            f"{name}: power spectrum",
            spectrum["wavenumber"],
            values,
            x_label="cycles per unit of length",
            logarithmic="both",
        )
    return charts


def _ranks(title: str, histogram: Sequence[float | None]) -> str:
    """Return the bars of a rank histogram, "" of one without anything compared."""
    ranks = [float(value) for value in histogram if is_number(value)]
    if len(ranks) < 2 or sum(ranks) <= 0:
        return ""
    shares = [rank / sum(ranks) for rank in ranks]
    return bars(title, shares, level=1 / len(ranks), x_label="rank")


def _ranks_by_time(
    name: str, histograms: Sequence[Sequence[float | None]], x: Sequence[float], *, x_label: str
) -> str:
    """Return how often the truth lies outside all members at every lead or time, and the histograms of some."""
    if len(histograms) != len(x) or len(x) < 2:
        return ""
    outside = [
        None if not ranks or not all(map(is_number, ranks)) else float(ranks[0] or 0) + float(ranks[-1] or 0)
        for ranks in histograms
    ]
    expected = [2 / len(ranks) if ranks else None for ranks in histograms]
    charts = lines(
        f"{name}: share of the truth outside all members",
        x,
        {"found": outside, "of exchangeable members": expected},
        x_label=x_label,
    )
    for k in sorted({0, (len(x) - 1) // 2, len(x) - 1}):
        charts += _ranks(f"{name}: {RANK_HISTOGRAM.heading}, {x_label} {x[k]:g}", histograms[k])
    return charts


def _reliability(title: str, entry: Mapping[str, Any], threshold: str) -> str:
    """Return observed frequencies beside the forecast ones, "" where there are none."""
    found = (entry.get("thresholds") or {}).get(threshold, {}).get("reliability") or {}
    observed = found.get("observed") or []
    if len(observed) < 2:
        return ""
    steps = [k / (len(observed) - 1) for k in range(len(observed))]
    return lines(
        f"{title}: reliability",
        steps,
        {"observed": observed, "reliable": steps},
        x_label="forecast probability",
    )


def _table(variables: Mapping[str, Any]) -> str:
    """Return the scores over everything, one row per variable, each with its interval."""
    shown = [m for m in SCORES if any(is_number(entry.get(m.key)) for entry in variables.values())]

    def cell(entry: Mapping[str, Any], metric: Metric) -> str:
        ends = (entry.get("intervals") or {}).get(metric.key)
        return html_number(entry.get(metric.key)) + _interval(ends)

    rows = [
        (f"{name} ({entry.get('unit') or '1'})", [cell(entry, metric) for metric in shown])
        for name, entry in variables.items()
    ]
    return html_table("Variable", [metric.heading for metric in shown], rows)


def _event_table(variables: Mapping[str, Any]) -> str:
    """Return the scores of events, one row per threshold, "" where there are none."""
    rows = [
        (
            f"{name} at least {threshold} {entry.get('unit') or '1'}",
            [html_number(events.get(score.key)) for score in EVENT_SCORES],
        )
        for name, entry in variables.items()
        for threshold, events in (entry.get("thresholds") or {}).items()
    ]
    return html_table("Event", [score.heading for score in EVENT_SCORES], rows) if rows else ""


def _in_unit(metric: Metric, unit: str) -> str:
    return f" ({unit})" if metric.in_unit else ""


def _interval(ends: Sequence[float | None] | None) -> str:
    """Return an interval beside its number, "" where there is none."""
    low, high = ends or (None, None)
    if not is_number(low) or not is_number(high):
        return ""
    return f' <span class="interval">[{low:.3g}, {high:.3g}]</span>'
