r"""Errors of observations, estimated from how they differ from backgrounds and analyses; and biases of stations.

    d_b = y - H(x_b)        innovation: the background has not seen y
    d_a = y - H(x_a)        residual: the analysis has

    sigma_o^2 = cov(d_a, d_b)       sigma_b^2 = cov(d_b - d_a, d_b)         (Desroziers et al. 2005, eq. 1 to 3)

hold where the gain of the analysis is that of the true covariances; with a wrong sigma_o an estimate is between the one
used and the true one, and using it and estimating again leads there. Covariances are within each place (about its
means), so that a bias is no error variance. Errors of several variables or with correlations are not told apart.

Withheld observations have no part in the analysis: sigma_o^2 = var(d) - (M + 1)/M mean var_m H(x_m).

    b_s = mean of d_b at place s,   b_s ~ N(mu + beta_s, v_s),   v_s = s_s^2 / n_s (1 + r) / (1 - r)
    beta_s = tau^2 / (tau^2 + v_s) (b_s - mu),      not further than 2 sqrt(v_s) from b_s - mu

is the bias of a station, shrunk by how well it is known: r is the correlation of innovations one time apart, tau^2 the
variance of biases among stations (Paule and Mandel 1982), mu what all have in common, which no observation can tell
from a bias of the prior. The limit (Efron and Morris 1972) keeps one bad station among good ones from being taken for
one of them. A station whose reports pull the background along shows the part that is not pulled yet.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

LARGEST_CORRELATION = 0.95
MOST_SHRUNK = 2.0
"""Standard errors: among stations without bias one in twenty is further from the others than that."""
LEAST_TIMES = 3
"""Fewer reports of a station say nothing of its bias."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Departures of observations, one entry each.

    Attributes:
        variable: which one, an index.
        place: which one, an index; a station has the same at all times.
        time: index of the frame.
        innovation: y - H(x_b).
        residual: y - H(x_a).
        variance: sigma^2 as stated.
    """

    variable: np.ndarray
    place: np.ndarray
    time: np.ndarray
    innovation: np.ndarray
    residual: np.ndarray
    variance: np.ndarray

    def of(self, variable: int) -> "Samples":
        """Return those of one variable, in order of place and time."""
        kept = np.flatnonzero(self.variable == variable)
        kept = kept[np.lexsort((self.time[kept], self.place[kept]))]
        return Samples(**{name: array[kept] for name, array in vars(self).items()})


@dataclass(frozen=True)
class ErrorEstimate:
    """The error of one variable's observations.

    Attributes:
        count: observations.
        stated: root mean square of the sigmas stated.
        estimated: sigma_o; None where the covariance is not positive.
        uncertainty: its standard error, from the spread between times; None with fewer than two times.
        background: sigma_b likewise.
        factor: estimated / stated.
    """

    count: int
    stated: float
    estimated: float | None
    uncertainty: float | None
    background: float | None
    factor: float | None

    def as_dict(self) -> dict[str, float | int | None]:
        """Return the figures by name."""
        return asdict(self)


@dataclass(frozen=True)
class StationBias:
    """The bias of one station.

    Attributes:
        place: index of the station.
        count: reports.
        mean: of its innovations.
        error: standard error of the mean.
        bias: beta, to be subtracted from its reports.
    """

    place: int
    count: int
    mean: float
    error: float
    bias: float


def desroziers(samples: Samples) -> ErrorEstimate:
    """Return the error of the observations of one variable from innovations and residuals."""
    innovation, freedom = centred(samples.innovation, samples.place)
    residual, _ = centred(samples.residual, samples.place)
    products = innovation * residual
    background = float(((innovation - residual) * innovation).sum() / max(freedom, 1))
    return _estimate(samples, products, freedom, background)


def withheld_error(samples: Samples, spread: float) -> ErrorEstimate:
    """Return the error of withheld observations of one variable.

    Args:
        samples: their departures from analyses that have not seen them, as innovations.
        spread: mean of (M + 1)/M var_m H(x_m) over them.
    """
    innovation, freedom = centred(samples.innovation, samples.place)
    # The squares sum up to freedom times both variances: each has its share of the spread taken off.
    products = innovation**2 - spread * freedom / max(len(innovation), 1)
    return _estimate(samples, products, freedom, spread)


def _estimate(samples: Samples, products: np.ndarray, freedom: int, background: float) -> ErrorEstimate:
    stated = float(np.sqrt(samples.variance.mean())) if len(products) else np.nan
    if freedom < 1:
        return ErrorEstimate(len(products), stated, None, None, None, None)
    variance = float(products.sum() / freedom)
    estimated = float(np.sqrt(variance)) if variance > 0 else None
    times = np.unique(samples.time)
    error = None
    if estimated is not None and times.size > 1:
        # Observations of one time share its background's error: times count, not observations.
        sums = np.array([products[samples.time == time].sum() for time in times]) * times.size / freedom
        error = float(sums.std(ddof=1) / np.sqrt(times.size) / (2 * estimated))
    return ErrorEstimate(
        len(products),
        stated,
        estimated,
        error,
        float(np.sqrt(background)) if background > 0 else None,
        None if estimated is None else estimated / stated,
    )


def centred(values: np.ndarray, place: np.ndarray) -> tuple[np.ndarray, int]:
    """Return values about the mean of their place, and the degrees of freedom that are left.

    Places with one value (a moving instrument) are centred together.
    """
    own, count = np.unique(place, return_inverse=True, return_counts=True)[1:]
    single = count[own] == 1
    group = np.where(single, len(count), own)
    sums = np.bincount(group, values, len(count) + 1)
    numbers = np.bincount(group, minlength=len(count) + 1)
    means = sums / np.maximum(numbers, 1)
    return values - means[group], int(len(values) - np.count_nonzero(numbers))


def station_biases(samples: Samples) -> tuple[float, float, list[StationBias]]:
    """Return mu, tau and the bias of every station with three reports or more, for one variable.

    Args:
        samples: of one variable, as `Samples.of` orders them.
    """
    stations = list(_stations(samples))
    if not stations:
        return 0.0, 0.0, []
    residues = [series - series.mean() for _, series in stations]
    freedom = sum(len(series) - 1 for series in residues)
    pooled = sum(float((series**2).sum()) for series in residues) / max(freedom, 1)
    lagged = sum(float((series[1:] * series[:-1]).sum()) for series in residues)
    square = sum(float((series[1:] ** 2 + series[:-1] ** 2).sum()) / 2 for series in residues)
    correlation = min(max(lagged / square if square > 0 else 0.0, 0.0), LARGEST_CORRELATION)
    counts = np.array([len(series) for _, series in stations])
    means = np.array([series.mean() for _, series in stations])
    # The variance of a report's innovation is pooled: that of a station with few reports would be too uncertain.
    errors = pooled / counts * (1 + correlation) / (1 - correlation)
    tau2 = paule_mandel(means, errors)
    weights = 1 / np.maximum(tau2 + errors, 1e-300)
    common = float((weights * means).sum() / weights.sum())
    raw, limits = means - common, MOST_SHRUNK * np.sqrt(errors)
    shrunk = np.clip(tau2 * weights * raw, raw - limits, raw + limits)
    return (
        common,
        float(np.sqrt(tau2)),
        [
            StationBias(place, len(series), float(mean), float(np.sqrt(error)), float(bias))
            for (place, series), mean, error, bias in zip(stations, means, errors, shrunk, strict=True)
        ],
    )


def _stations(samples: Samples) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the innovations of every place with enough of them, in order of time."""
    for place in np.unique(samples.place):
        series = samples.innovation[samples.place == place]
        if len(series) >= LEAST_TIMES:
            yield int(place), series


def paule_mandel(means: np.ndarray, errors: np.ndarray) -> float:
    """Return the variance tau^2 among groups for which sum (m - mu)^2 / (tau^2 + v) is its expectation, n - 1."""

    def excess(tau2: float) -> float:
        weights = 1 / np.maximum(tau2 + errors, 1e-300)
        common = (weights * means).sum() / weights.sum()
        return float((weights * (means - common) ** 2).sum() - (len(means) - 1))

    if len(means) < 2 or excess(0.0) <= 0:
        return 0.0
    low, high = 0.0, float(means.var(ddof=1)) + float(errors.max())
    while excess(high) > 0:
        high *= 2
    # The excess falls with tau^2: bisection to 1e-9 of the bracket.
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return 0.5 * (low + high)
