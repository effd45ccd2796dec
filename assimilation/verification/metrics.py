"""Metrics: functions of averages of statistics.

    rmse = sqrt(mean (m - y)^2)      mae = mean |m - y|      bias = mean (m - y)      crps: fair
    spread = sqrt(mean s^2)          spread_skill = sqrt((M + 1)/M mean s^2 / mean (m - y)^2), 1 when calibrated
    acc = mean (m - c)(y - c) / sqrt(mean (m - c)^2 mean (y - c)^2), not centred
    rank_histogram: share of each rank, flat when calibrated (1 / (M + 1) each)
    reliability: observed frequency for each forecast frequency k / M, with how often it was forecast
    csi, pod, far, hss, fss: ``events``; power: ``spectra``

A figure that has no value (no event at all, a single member's spread) is NaN.
"""

from collections.abc import Callable, Mapping

import numpy as np

from assimilation.verification.aggregation import Averages, Metric, ratio
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


def _plain(name: str, statistic: Statistic) -> Metric:
    """Return the metric that is the average itself."""
    lowest = -np.inf if isinstance(statistic, Error) else 0.0
    return Metric(name, (statistic,), lambda means: means[statistic], lowest)


def _root(name: str, statistic: Statistic) -> Metric:
    """Return the metric that is the root of the average."""
    return Metric(name, (statistic,), lambda means: np.sqrt(means[statistic]), 0.0)


def _spread_skill(means: Averages) -> np.ndarray:
    return np.asarray(np.sqrt(ratio(means[Variance("error")], means[SquaredError()])))


def _acc(means: Averages) -> np.ndarray:
    both, forecast, observed = np.moveaxis(means[AnomalyProducts()], -1, 0)
    return ratio(both, np.sqrt(forecast * observed))


RMSE = _root("rmse", SquaredError())
MAE = _plain("mae", AbsoluteError())
BIAS = _plain("bias", Error())
CRPS = _plain("crps", FairCRPS())
SPREAD = _root("spread", Variance())
SPREAD_SKILL = Metric("spread_skill", (Variance("error"), SquaredError()), _spread_skill, 0.0)
ACC = Metric("acc", (AnomalyProducts(),), _acc, -1.0, 1.0)
RANK_HISTOGRAM = _plain("rank_histogram", Ranks())

# What is printed for every variable and every time.
SCORES = (RMSE, MAE, BIAS, CRPS, SPREAD, SPREAD_SKILL, ACC)

Cells = Mapping[str, Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]]
_CELLS: Cells = {
    "csi": lambda hit, false, miss, right: ratio(hit, hit + false + miss),
    "pod": lambda hit, false, miss, right: ratio(hit, hit + miss),
    "far": lambda hit, false, miss, right: ratio(false, hit + false),
    "hss": lambda hit, false, miss, right: ratio(
        2 * (hit * right - false * miss), (hit + miss) * (miss + right) + (hit + false) * (false + right)
    ),
}


def categorical(threshold: float, of: Source = "mean") -> tuple[Metric, ...]:
    """Return csi, pod, far and hss at a threshold."""
    statistic = Contingency(threshold, of)

    def metric(name: str) -> Metric:
        return Metric(name, (statistic,), lambda means: _CELLS[name](*np.moveaxis(means[statistic], -1, 0)))

    return tuple(metric(name) for name in _CELLS)


def fss(threshold: float, scale: int, *, border: Border = "valid") -> Metric:
    """Return the fractions skill score at a threshold and a scale in cells; ``border``: see ``events``."""
    statistic = Fractions(threshold, scale, border)

    def value(means: Averages) -> np.ndarray:
        difference, forecast, observed = np.moveaxis(means[statistic], -1, 0)
        return 1.0 - ratio(difference, forecast + observed)

    return Metric(f"fss_{scale}", (statistic,), value)


def reliability(threshold: float) -> Metric:
    """Return (how often k of M was forecast, how often the event then happened), (2, M + 1)."""
    statistic = ReliabilityCounts(threshold)

    def value(means: Averages) -> np.ndarray:
        forecast, happened = np.moveaxis(means[statistic], -2, 0)
        return np.stack([forecast, ratio(happened, forecast)], axis=-2)

    return Metric("reliability", (statistic,), value)


def power(of: Of) -> Metric:
    """Return the radial power spectrum of the truth, the members or their mean."""
    return _plain(f"power_{of}", RadialPower(of))
