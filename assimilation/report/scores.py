"""The scores of a verification as a section of the report: a table, lines over time or lead, rank histograms."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

from priors.runtime.report.charts import bars, lines

COLUMNS = {
    "rmse": "RMSE",
    "crps": "CRPS",
    "spread_skill": "Spread / skill",
    "bias": "Bias",
    "mae": "MAE",
    "spread": "Spread",
    "acc": "Anomaly correlation",
}
EVENTS = ("csi", "pod", "far", "hss")


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
    return series, [float(place) for place in range(count)], "analysis time (frame)"


def _variable_charts(
    name: str, entry: Mapping[str, Any], series: Mapping[str, Any], x: Sequence[float], *, x_label: str
) -> str:
    """Return the charts of one variable."""
    unit = entry.get("unit") or "1"

    def over_time(title: str, *keys: str) -> str:
        held = {COLUMNS[key]: series[key] for key in keys if len(series.get(key) or ()) == len(x) > 1}
        return lines(f"{name}: {title}", x, held, x_label=x_label)

    charts = over_time(f"RMSE and spread ({unit})", "rmse", "spread")
    charts += over_time(f"CRPS and MAE ({unit})", "crps", "mae")
    charts += over_time("spread / skill", "spread_skill") + over_time(f"bias ({unit})", "bias")
    for threshold, events in (series.get("thresholds") or {}).items():
        held = {key.upper(): events[key] for key in EVENTS[:3] if len(events.get(key, ())) == len(x) > 1}
        charts += lines(f"{name}: at least {threshold} {unit}", x, held, x_label=x_label)
    ranks = [float(value) for value in entry.get("rank_histogram") or () if value is not None]
    if len(ranks) > 1 and sum(ranks) > 0:
        shares = [rank / sum(ranks) for rank in ranks]
        charts += bars(
            f"{name}: rank of the truth among the members", shares, level=1 / len(ranks), x_label="rank"
        )
    spectrum = entry.get("spectrum") or {}
    if spectrum.get("wavenumber"):
        held = {key: spectrum[key] for key in ("truth", "members", "mean") if key in spectrum}
        charts += lines(
            f"{name}: power spectrum",
            spectrum["wavenumber"],
            held,
            x_label="cycles per unit of length",
            logarithmic="both",
        )
    return charts


def _table(variables: Mapping[str, Any]) -> str:
    """Return the scores over everything, one row per variable."""
    shown = [key for key in COLUMNS if any(_is_number(entry.get(key)) for entry in variables.values())]
    head = "".join(f'<th scope="col">{COLUMNS[key]}</th>' for key in shown)
    rows = ""
    for name, entry in variables.items():
        cells = ""
        for key in shown:
            low_high = (entry.get("intervals") or {}).get(key)
            cells += f"<td>{_number(entry.get(key))}{_interval(low_high)}</td>"
        rows += f'<tr><th scope="row">{html.escape(name)} ({html.escape(entry.get("unit") or "1")})</th>{cells}</tr>'
    return _wrapped("Variable", head, rows)


def _event_table(variables: Mapping[str, Any]) -> str:
    """Return the scores of events, one row per threshold, "" where there are none."""
    rows = ""
    for name, entry in variables.items():
        unit = html.escape(entry.get("unit") or "1")
        for threshold, events in (entry.get("thresholds") or {}).items():
            cells = "".join(f"<td>{_number(events.get(key))}</td>" for key in EVENTS)
            rows += f'<tr><th scope="row">{html.escape(name)} at least {threshold} {unit}</th>{cells}</tr>'
    head = "".join(f'<th scope="col">{key.upper()}</th>' for key in EVENTS)
    return _wrapped("Event", head, rows) if rows else ""


def _wrapped(first: str, head: str, rows: str) -> str:
    return (
        f'<div class="scroll"><table><thead><tr><th scope="col">{first}</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and value == value


def _number(value: Any) -> str:
    """Return a number for the table; what is not defined says so."""
    return f"{value:.4g}" if _is_number(value) else '<abbr title="not defined on these data">n/a</abbr>'


def _interval(ends: Sequence[float] | None) -> str:
    """Return an interval beside its number."""
    if not ends or not all(map(_is_number, ends)):
        return ""
    return f' <span class="interval">[{ends[0]:.3g}, {ends[1]:.3g}]</span>'
