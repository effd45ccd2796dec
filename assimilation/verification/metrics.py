"""Metrics: functions of averages of statistics, and the only list of them.

    rmse = sqrt(mean (m - y)^2)      mae = mean |m - y|      bias = mean (m - y)      crps: fair
    spread = sqrt(mean s^2)          spread_skill = sqrt((M + 1)/M mean s^2 / mean (m - y)^2), 1 when calibrated
    acc = mean (m - c)(y - c) / sqrt(mean (m - c)^2 mean (y - c)^2), not centred
    rank_histogram: share of each rank, flat when calibrated (1 / (M + 1) each)
    reliability: observed frequency for each forecast frequency k / M, with how often it was forecast
    csi, pod, far, hss, fss: ``events``; power: ``spectra``

A figure that has no value (no event at all, a single member's spread) is NaN. Keys in JSON files, headings and charts
of reports, columns of tables and their order come from ``SCORES`` and ``EVENT_SCORES``: a new score is one function
and one line there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from assimilation.verification.events import Border, Contingency, Fractions, ReliabilityCounts, Source
from assimilation.verification.spectra import Of, RadialPower
from assimilation.verification.statistics import (
    AbsoluteError,
    AnomalyProducts,
    Error,
    FairCRPS,
    Ranks,
    SquaredError,
    Statistic,
    Variance,
)

Averages = Mapping[Statistic, np.ndarray]


@dataclass(frozen=True)
class Metric:
    """A score: which statistics it needs, and what it makes of their averages (arrays of any leading shape).

    Attributes:
        key: its name in JSON files.
        heading: its name in reports and tables.
        statistics: it needs.
        value: made of their averages.
        lowest: value it can have, which an interval does not pass.
        highest: likewise.
        summary: whether short tables show it.
        in_unit: whether it is in the unit of the variable, else without unit.
    """

    key: str
    heading: str
    statistics: tuple[Statistic, ...]
    value: Callable[[Averages], np.ndarray]
    lowest: float = -np.inf
    highest: float = np.inf
    summary: bool = False
    in_unit: bool = True


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below, NaN where below is not positive."""
    positive = below > 0
    return np.where(positive, above / np.where(positive, below, 1.0), np.nan)


def _average(key: str, heading: str, statistic: Statistic, *, summary: bool = False) -> Metric:
    """Return the metric that is the average itself."""
    lowest = -np.inf if isinstance(statistic, Error) else 0.0
    return Metric(key, heading, (statistic,), lambda means: means[statistic], lowest, summary=summary)


def _root(key: str, heading: str, statistic: Statistic, *, summary: bool = False) -> Metric:
    """Return the metric that is the root of the average."""
    return Metric(key, heading, (statistic,), lambda means: np.sqrt(means[statistic]), 0.0, summary=summary)


def _spread_skill(means: Averages) -> np.ndarray:
    return np.asarray(np.sqrt(ratio(means[Variance("error")], means[SquaredError()])))


def _acc(means: Averages) -> np.ndarray:
    both, forecast, observed = np.moveaxis(means[AnomalyProducts()], -1, 0)
    return ratio(both, np.sqrt(forecast * observed))


RMSE = _root("rmse", "RMSE", SquaredError(), summary=True)
CRPS = _average("crps", "CRPS", FairCRPS(), summary=True)
SPREAD_SKILL = Metric(
    "spread_skill",
    "Spread / skill",
    (Variance("error"), SquaredError()),
    _spread_skill,
    0.0,
    summary=True,
    in_unit=False,
)
BIAS = _average("bias", "Bias", Error())
MAE = _average("mae", "MAE", AbsoluteError())
SPREAD = _root("spread", "Spread", Variance())
ACC = Metric("acc", "Anomaly correlation", (AnomalyProducts(),), _acc, -1.0, 1.0, in_unit=False)
RANK_HISTOGRAM = _average("rank_histogram", "Rank of the truth among the members", Ranks())

SCORES = (RMSE, CRPS, SPREAD_SKILL, BIAS, MAE, SPREAD, ACC)
"""Scores of every variable, over everything, per time or lead and per region."""

CHARTS = ((RMSE, SPREAD), (CRPS, MAE), (SPREAD_SKILL,), (BIAS,), (ACC,))
"""Scores that are drawn into one chart over time: those of one axis that are read against each other."""


@dataclass(frozen=True)
class EventScore:
    """A score of a yes or no: its value from hits, false alarms, misses and correct rejections."""

    key: str
    heading: str
    value: Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _heidke(hit: np.ndarray, false: np.ndarray, miss: np.ndarray, right: np.ndarray) -> np.ndarray:
    by_chance = (hit + miss) * (miss + right) + (hit + false) * (false + right)
    return ratio(2 * (hit * right - false * miss), by_chance)


EVENT_SCORES = (
    EventScore("csi", "CSI", lambda hit, false, miss, right: ratio(hit, hit + false + miss)),
    EventScore("pod", "POD", lambda hit, false, miss, right: ratio(hit, hit + miss)),
    EventScore("far", "FAR", lambda hit, false, miss, right: ratio(false, hit + false)),
    EventScore("hss", "HSS", _heidke),
)
"""Scores of every threshold, over everything and per time or lead."""


def categorical(threshold: float, of: Source = "mean") -> tuple[Metric, ...]:
    """Return the ``EVENT_SCORES`` at a threshold as metrics."""
    statistic = Contingency(threshold, of)

    def metric(score: EventScore) -> Metric:
        def value(means: Averages) -> np.ndarray:
            return score.value(*np.moveaxis(means[statistic], -1, 0))

        return Metric(score.key, score.heading, (statistic,), value, in_unit=False)

    return tuple(metric(score) for score in EVENT_SCORES)


def fss(threshold: float, scale: int, *, border: Border = "valid") -> Metric:
    """Return the fractions skill score at a threshold and a scale in cells; ``border``: see ``events``."""
    statistic = Fractions(threshold, scale, border)

    def value(means: Averages) -> np.ndarray:
        difference, forecast, observed = np.moveaxis(means[statistic], -1, 0)
        return 1.0 - ratio(difference, forecast + observed)

    return Metric(f"fss_{scale}", f"FSS ({scale})", (statistic,), value, in_unit=False)


def reliability(threshold: float) -> Metric:
    """Return (how often k of M was forecast, how often the event then happened), (2, M + 1)."""
    statistic = ReliabilityCounts(threshold)

    def value(means: Averages) -> np.ndarray:
        forecast, happened = np.moveaxis(means[statistic], -2, 0)
        return np.stack([forecast, ratio(happened, forecast)], axis=-2)

    return Metric("reliability", "Reliability", (statistic,), value, in_unit=False)


def power(of: Of) -> Metric:
    """Return the radial power spectrum of the truth, the members or their mean."""
    return _average(f"power_{of}", f"Power spectrum of the {of}", RadialPower(of))
