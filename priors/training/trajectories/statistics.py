r"""What a configuration takes from prepared trajectories: each variable's map, and the covariance of a pixel in time.

    z = (T(r) - mean) / deviation,      c(l) = mean over pixels, times and variables of z_t z_{t+l},   l = 0 .. 2 reach

T is the identity or log(1 + r / reference). Frames are read one by one, so an archive may be larger than the memory.
The mean over pairs of an archive with missing values need not be the covariance of any process: c(l) is then multiplied
by the mildest power of a triangle that makes it one of 2 reach + 1 frames, which `SpaceTimeDiT` asks for.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from priors.gaussian.modes import is_covariance
from priors.runtime.errors import InputError
from priors.training.trajectories.data import PreparedTrajectories

ROOM = 0.25
"""Room beyond the values that were seen, as a share of their range: what lies outside is clipped."""
TAPERS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)
DIGITS = 5


@dataclass
class Moments:
    """Running sums of one variable.

    Attributes:
        count: finite values.
        total: sum of T(r).
        square: sum of its square.
        low: smallest physical value.
        high: largest one.
    """

    count: int = 0
    total: float = 0.0
    square: float = 0.0
    low: float = field(default=np.inf)
    high: float = field(default=-np.inf)

    def add(self, physical: np.ndarray, transformed: np.ndarray) -> None:
        """Take the finite values of a frame."""
        self.count += physical.size
        self.total += float(transformed.sum())
        self.square += float(np.square(transformed).sum())
        if physical.size:
            self.low, self.high = min(self.low, float(physical.min())), max(self.high, float(physical.max()))

    @property
    def mean(self) -> float:
        """Mean of T(r)."""
        return self.total / self.count

    @property
    def deviation(self) -> float:
        """Deviation of T(r)."""
        return float(np.sqrt(max(0.0, self.square / self.count - self.mean**2)))


def settings_of(data: PreparedTrajectories, *, log1p: Mapping[str, float], reach: int) -> dict[str, Any]:
    """Return ``codec`` and ``network.covariance`` of a training split, as a configuration says them.

    Args:
        data: the training split.
        log1p: reference of every variable that is seen through a logarithm.
        reach: frames that the network sees back and ahead.

    Raises:
        InputError: a variable is unknown or constant, is negative under a logarithm, or the trajectories are too short.
    """
    variables = data.manifest.variables
    unknown = sorted(set(log1p) - {variable.name for variable in variables})
    if unknown:
        raise InputError(
            f"--log1p: found {unknown[0]!r}, the data holds {', '.join(v.name for v in variables)}"
        )
    references = [log1p.get(variable.name) for variable in variables]
    moments = [Moments() for _ in variables]
    for frame in _frames(data):
        for values, reference, own in zip(frame, references, moments, strict=True):
            finite = values[np.isfinite(values)].astype(np.float64)
            own.add(finite, transformed(finite, reference))
    entries = []
    for variable, reference, own in zip(variables, references, moments, strict=True):
        if own.count == 0 or not own.deviation > 0:
            raise InputError(f"{variable.name}: found no values that differ, expected some to measure")
        if reference is not None and own.low < 0:
            raise InputError(f"--log1p: {variable.name} goes down to {own.low:g}, expected no negative value")
        entries.append({"name": variable.name, "unit": variable.unit, **_map(own, reference)})
    covariance = _covariance(data, references, moments, lags=2 * reach)
    return {"codec": {"variables": entries}, "network": {"reach": reach, "covariance": covariance}}


def transformed(physical: np.ndarray, reference: float | None) -> np.ndarray:
    """Return T(r)."""
    return physical if reference is None else np.log1p(physical.clip(min=0) / reference)


def _map(own: Moments, reference: float | None) -> dict[str, Any]:
    room = ROOM * (own.high - own.low)
    entry: dict[str, Any] = {"offset": _short(own.mean), "scale": _short(own.deviation)}
    entry |= {"low": _short(own.low - room), "high": _short(own.high + room)}
    if reference is None:
        return entry
    return {**entry, "low": max(0.0, entry["low"]), "transform": "log1p", "reference": reference}


def _frames(data: PreparedTrajectories) -> Iterator[np.ndarray]:
    for array in data.arrays:
        for trajectory in array:
            yield from trajectory


def _covariance(
    data: PreparedTrajectories, references: list[float | None], moments: list[Moments], *, lags: int
) -> list[float]:
    """Return c(0) to c(``lags``), made a covariance."""
    sums, counts = np.zeros(lags + 1), np.zeros(lags + 1)
    for array in data.arrays:
        for trajectory in array:
            before: deque[np.ndarray] = deque(maxlen=lags + 1)
            for frame in trajectory:
                before.appendleft(
                    np.stack(
                        [
                            (transformed(values.astype(np.float64), reference) - own.mean) / own.deviation
                            for values, reference, own in zip(frame, references, moments, strict=True)
                        ]
                    )
                )
                for lag, earlier in enumerate(before):
                    product = before[0] * earlier
                    sums[lag] += np.nansum(product)
                    counts[lag] += np.isfinite(product).sum()
    if not counts.all():
        raise InputError(
            f"--reach: frames {lags} steps apart are asked for and the trajectories have none; expected a smaller reach"
        )
    means = sums / counts
    for power in TAPERS:
        tapered = means * (1 - np.arange(lags + 1) / (lags + 1)) ** power
        found = tuple(_short(value) for value in tapered)
        if is_covariance(found, frames=lags + 1):
            return list(found)
    raise InputError("covariance: of these frames is none of any process; expected longer trajectories")


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
