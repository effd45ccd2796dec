"""All scores of one ensemble against one truth, as the mapping that ``tomocast verify`` prints.

Top level: scores over everything compared, with bootstrap intervals; ``by_variable``, ``by_time`` or ``by_lead``,
``by_region``; rank histogram; spectra; ``thresholds`` for rain or where thresholds are asked for. Variables of
different units are not averaged with each other: the top level is then null and ``by_variable`` holds the scores.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from assimilation.baselines.climatology import Climatology
from assimilation.fields.fields import Ensemble, Fields, Variable
from assimilation.fields.streams import FieldStream
from assimilation.verification.aggregation import EVERYWHERE, Region, Table
from assimilation.verification.bootstrap import Row, independent_units
from assimilation.verification.events import Border
from assimilation.verification.matching import Matched, match, to_grid
from assimilation.verification.metrics import (
    RANK_HISTOGRAM,
    SCORES,
    Metric,
    categorical,
    fss,
    power,
    reliability,
)
from assimilation.verification.spectra import wavenumbers
from assimilation.verification.statistics import Pair
from priors.runtime.errors import InputError

RAIN_THRESHOLDS = (0.1, 1.0, 5.0)
RAIN_UNITS = ("mm/h", "mm h-1")
REFERENCE_TIME = "forecast_reference_time"  # attribute of a forecast: the time its leads are counted from
_POWERS = (power("truth"), power("members"), power("mean"))


@dataclass(frozen=True)
class VerifyOptions:
    """What to score.

    Attributes:
        thresholds: of events, in the variable's unit; None: 0.1, 1 and 5 mm/h for rain, none otherwise.
        scales: of the fractions skill score, odd numbers of cells.
        fss_border: what the fractions skill score does where a neighbourhood leaves the field, see ``events``.
        regions: boxes to score apart.
        seed: of the bootstrap.
        draws: of the bootstrap.
    """

    thresholds: tuple[float, ...] | None = None
    scales: tuple[int, ...] = (1, 5, 11, 21)
    regions: tuple[Region, ...] = field(default=())
    seed: int = 0
    draws: int = 500
    fss_border: Border = "valid"

    def of(self, variable: Variable) -> tuple[float, ...]:
        """Return the thresholds of a variable."""
        if self.thresholds is not None:
            return self.thresholds
        return RAIN_THRESHOLDS if variable.unit in RAIN_UNITS else ()


def verify(
    ensemble: Ensemble | FieldStream,
    truth: Fields | FieldStream,
    options: VerifyOptions | None = None,
    *,
    climatology: Climatology | None = None,
) -> dict[str, Any]:
    """Return every score by name; see the module. Streams are read one frame at a time.

    Raises:
        InputError: the two cannot be compared (see ``match``), or share no valid point.
    """
    options = options or VerifyOptions()
    matched = match(ensemble, truth)
    table = fill(matched, options, climatology)
    if not np.isfinite(table.score(SCORES[0])):
        raise InputError("verify: the analysis and the truth share no point where both have a value")
    rows = table.rows
    variables = matched.ensemble.variables
    one_unit = len({variable.unit for variable in variables}) == 1
    report: dict[str, Any] = {
        **(_scores(table, rows) if one_unit else {metric.key: None for metric in SCORES}),
        "unit": variables[0].unit if one_unit else None,
        "members": matched.ensemble.members,
        "trajectories": matched.ensemble.trajectories,
        "times": matched.ensemble.times.size,
        "times_held": matched.offered,
        "points": table.compared,
        "points_held": table.offered,
        "intervals": _intervals(table, options, rows) if one_unit else None,
        "intervals_from": independent_units(rows).description,
        "fss_border": options.fss_border,
        RANK_HISTOGRAM.key: _list(table.score(RANK_HISTOGRAM)),
        "by_variable": {
            variable.name: {
                "unit": variable.unit,
                **_scores(table, own := [row for row in rows if row.variable == index]),
                "intervals": _intervals(table, options, own),
                RANK_HISTOGRAM.key: _list(table.score(RANK_HISTOGRAM, own)),
                "spectrum": _spectrum(table, matched, own),
                "thresholds": _thresholds(table, options, variable, own),
            }
            for index, variable in enumerate(variables)
        },
    }
    if len(variables) == 1:
        report["thresholds"] = report["by_variable"][variables[0].name]["thresholds"]
    report.update(_by_time(table, matched, options, one_unit))
    if options.regions and one_unit:
        report["by_region"] = {region.name: _scores(table, rows, region.name) for region in options.regions}
    return report


def fill(matched: Matched, options: VerifyOptions, climatology: Climatology | None = None) -> Table:
    """Return the table of every statistic the options ask for, one frame in memory at a time."""
    ensemble, truth = matched.ensemble, matched.truth
    metrics: list[Metric] = [*SCORES, RANK_HISTOGRAM, *_POWERS]
    for variable in ensemble.variables:
        for threshold in options.of(variable):
            metrics += _event_metrics(threshold, options)
    table = Table(
        [statistic for metric in metrics for statistic in metric.statistics], ensemble.grid, options.regions
    )
    mean = _climate(ensemble, climatology)
    for trajectory, time in np.ndindex(ensemble.trajectories, ensemble.times.size):
        members, actual = ensemble.read(trajectory, time), truth.read(trajectory, time)[0]
        climate = mean(ensemble.times[time]) if mean else [None] * len(ensemble.variables)
        for index, normal in enumerate(climate):
            pair = Pair(members[:, index], actual[index], ensemble.grid, normal)
            table.compared += int(pair.valid.sum())
            table.offered += pair.valid.size
            table.add(Row(trajectory, time, index), pair)
    return table


def lead_seconds(ensemble: FieldStream) -> np.ndarray | None:
    """Return the lead of every time in seconds; None for analyses.

    Raises:
        InputError: the attribute is not a time.
    """
    if ensemble.starts is not None:
        return np.asarray((ensemble.times - ensemble.starts[0]) / np.timedelta64(1, "s"))
    text = ensemble.attributes.get(REFERENCE_TIME)
    if text is None:
        return None
    try:
        start = np.datetime64(text.removesuffix("Z").replace(" ", "T")).astype("datetime64[ns]")
    except ValueError:
        raise InputError(
            f"{REFERENCE_TIME}: found '{text}', expected a time such as 2000-01-01T00:00"
        ) from None
    return np.asarray((ensemble.times - start) / np.timedelta64(1, "s"))


def _climate(ensemble: FieldStream, climatology: Climatology | None) -> Callable[[Any], np.ndarray] | None:
    """Return the climatological state at a time, on the analysis' grid and with its variables."""
    if climatology is None:
        return None
    names = [variable.name for variable in climatology.variables]
    missing = [variable.name for variable in ensemble.variables if variable.name not in names]
    if missing:
        raise InputError(f"climatology: found variables {', '.join(names)}, expected {missing[0]}")
    columns = [names.index(variable.name) for variable in ensemble.variables]
    return lambda time: to_grid(climatology.at(time)[columns], climatology.grid, ensemble.grid)


def _event_metrics(threshold: float, options: VerifyOptions) -> list[Metric]:
    return [
        *categorical(threshold),
        *categorical(threshold, "members"),
        reliability(threshold),
        *(fss(threshold, scale, border=options.fss_border) for scale in options.scales),
    ]


def _scores(table: Table, rows: Iterable[Row], region: str = EVERYWHERE) -> dict[str, float]:
    scored = list(rows)
    return {metric.key: float(table.score(metric, scored, region)) for metric in SCORES}


def _intervals(table: Table, options: VerifyOptions, rows: Sequence[Row]) -> dict[str, list[float]]:
    """Return the 95 % interval of every score, NaN where it is withheld."""
    intervals = {}
    for metric in SCORES:
        low, high = table.interval(metric, rows, seed=options.seed, draws=options.draws)
        intervals[metric.key] = [float(low), float(high)]
    return intervals


def _thresholds(
    table: Table, options: VerifyOptions, variable: Variable, rows: Sequence[Row]
) -> dict[str, Any]:
    """Return the scores of events, by threshold."""
    report = {}
    for threshold in options.of(variable):
        entry: dict[str, Any] = {m.key: float(table.score(m, rows)) for m in categorical(threshold)}
        entry["members"] = {m.key: float(table.score(m, rows)) for m in categorical(threshold, "members")}
        entry["fss"] = {
            str(n): float(table.score(fss(threshold, n, border=options.fss_border), rows))
            for n in options.scales
        }
        forecast, observed = table.score(reliability(threshold), rows)
        entry["reliability"] = {"forecast": _list(forecast), "observed": _list(observed)}
        report[f"{threshold:g}"] = entry
    return report


def _spectrum(table: Table, matched: Matched, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the radial power of truth, members and mean."""
    scores = {metric.key.removeprefix("power_"): _list(table.score(metric, rows)) for metric in _POWERS}
    return {"wavenumber": _list(wavenumbers(matched.ensemble.grid)), **scores}


def _by_time(table: Table, matched: Matched, options: VerifyOptions, one_unit: bool) -> dict[str, Any]:
    """Return the scores of each time, under ``by_lead`` too where the ensemble is a forecast."""
    ensemble = matched.ensemble
    variables = {variable.name: index for index, variable in enumerate(ensemble.variables)}
    rows = table.rows
    series: dict[str, Any] = {"time": [_stamp(time) for time in ensemble.times]}
    per_time: list[list[Row]] = [[] for _ in ensemble.times]
    for row in rows:
        per_time[row.time].append(row)
    if one_unit:
        series.update(_series(table, per_time))
    if len(variables) > 1:
        series["by_variable"] = {
            name: _series(table, [[row for row in at_time if row.variable == index] for at_time in per_time])
            for name, index in variables.items()
        }
    elif options.of(ensemble.variables[0]):
        events = [_thresholds(table, options, ensemble.variables[0], at_time) for at_time in per_time]
        series["thresholds"] = {name: _stacked([event[name] for event in events]) for name in events[0]}
    leads = lead_seconds(ensemble)
    if ensemble.starts is not None and leads is not None:
        # A time belongs to one start only: scores by lead are over all of them.
        series = {"lead_s": _list(leads), **{key: values for key, values in series.items() if key != "time"}}
        return {"by_lead": series, "starts": [_stamp(time) for time in ensemble.starts]}
    if leads is None:
        return {"by_time": series}
    return {"by_time": series, "by_lead": {"lead_s": _list(leads), **series}}


def _series(table: Table, per_time: Sequence[Sequence[Row]]) -> dict[str, list[Any]]:
    scored = [_scores(table, rows) for rows in per_time]
    ranks = [_list(table.score(RANK_HISTOGRAM, rows)) for rows in per_time]
    return {
        **{metric.key: [entry[metric.key] for entry in scored] for metric in SCORES},
        RANK_HISTOGRAM.key: ranks,
    }


def _stacked(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Turn a list of nested scores into nested lists; reliability is left to the whole."""
    first = events[0]
    return {
        key: _stacked([event[key] for event in events])
        if isinstance(first[key], dict)
        else [event[key] for event in events]
        for key in first
        if key != "reliability"
    }


def _stamp(time: Any) -> str:
    """Return a time with the fraction of its second, where it has one."""
    return str(time).rstrip("0").removesuffix(".") if "." in str(time) else str(time)


def _list(values: np.ndarray) -> list[float]:
    return [float(value) for value in values]
