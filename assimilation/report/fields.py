"""Fields small enough to sit inside a report: chosen, averaged, quantised to 8 bits, deflated.

    value = low + (high - low) * (code / 254)^gamma,     code 255 = missing
    text  = base64(deflate(delta along x of code, modulo 256))

gamma is 2 where a variable has a least value that most points share (rain), so that weak values keep their
contrast, else 1. Where the text would be too long, blocks of points are averaged, then trajectories and frames
are left out; the report says so. A state of one row is shown over time: its panel has x across and time down.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from assimilation.fields.fields import Ensemble, Fields, Grid, Variable
from assimilation.fields.products import products, thresholds_of
from assimilation.report.coastlines import lines_on
from priors.blocks import block_means
from priors.runtime.report.page import deflated, inflated

MISSING = 255
FORECAST = "forecast_reference_time"
"""Attribute that only forecasts have."""
MAX_CODES = 24_000_000
LIMIT_BYTES = 7_500_000


@dataclass(frozen=True, eq=False)
class Panel:
    """One kind of picture.

    Attributes:
        key: id in the page.
        label: what it shows.
        values: of (trajectory, time, k, y, x).
        role: "value", "difference", "spread" or "probability": panels of one role share range and colours.
    """

    key: str
    label: str
    values: Float[np.ndarray, "n time k y x"]
    role: str


@dataclass(frozen=True)
class Reduction:
    """What the display leaves out: ``block`` points averaged along each axis, every ``stride``-th frame."""

    block: int = 1
    stride: int = 1
    trajectories: int = 4
    members: int = 3

    def note(self, shape: tuple[int, ...], members: int) -> str:
        """Return sentences on what was left out, "" where nothing was."""
        clauses = []
        if self.block > 1:
            clauses.append(f"{self.block} x {self.block} points are averaged")
        if self.stride > 1:
            clauses.append(f"every {self.stride}th time is shown")
        if shape[0] > self.trajectories:
            clauses.append(f"{self.trajectories} of {shape[0]} trajectories are shown")
        if members > self.members:
            clauses.append(f"{self.members} of {members} members are shown")
        return ("; ".join(clauses) + ".").capitalize() if clauses else ""


def display(
    ensemble: Ensemble, truth: Fields | None, observations: Fields | None, *, limit_bytes: int = LIMIT_BYTES
) -> tuple[dict[str, Any], str]:
    """Return the JSON block of the viewer and a sentence on what was left out.

    Args:
        ensemble: analyses.
        truth: on the grid and at the times of the ensemble.
        observations: on the grid and at the times of the ensemble, NaN where nothing was observed.
        limit_bytes: largest size of all embedded codes together.
    """
    reduction = Reduction()
    while True:
        panels = list(_panels(ensemble, truth, observations, reduction))
        size = sum(panel.values.size for panel in panels)
        if size <= MAX_CODES:
            data = _encoded(panels, ensemble, reduction)
            if sum(len(text) for panel in data["panels"] for text in panel["codes"]) <= limit_bytes:
                break
        smaller = _coarser(reduction, ensemble)
        if smaller == reduction:
            break
        reduction = smaller
    n, members = ensemble.members.shape[:2]
    return data, reduction.note((n, ensemble.times.size), members)


def encode(values: Float[np.ndarray, "*shape"], low: float, high: float, *, gamma: float = 1.0) -> str:
    """Return the base64 text of an array; see the module."""
    share = np.clip((values - low) / (high - low), 0, 1) ** (1 / gamma)
    codes = np.where(np.isfinite(values), np.rint(254 * np.nan_to_num(share)), MISSING).astype(np.uint8)
    delta = np.diff(codes, axis=-1, prepend=np.uint8(0)).astype(np.uint8)
    return deflated(delta.tobytes())


def decode(
    text: str, shape: tuple[int, ...], *, low: float, high: float, gamma: float = 1.0
) -> Float[np.ndarray, "..."]:
    """Return the array that ``encode`` packed, up to its quantisation."""
    delta = np.frombuffer(inflated(text), np.uint8).reshape(shape)
    codes = np.cumsum(delta, axis=-1, dtype=np.uint8)
    values = low + (high - low) * (codes / 254.0) ** gamma
    return np.where(codes == MISSING, np.nan, values).astype(np.float32)


def _panels(
    ensemble: Ensemble, truth: Fields | None, observations: Fields | None, reduction: Reduction
) -> Iterator[Panel]:
    """Yield what is shown, reduced."""

    def reduced(values: np.ndarray) -> np.ndarray:
        return _reduce(values, reduction)

    mean = ensemble.mean().values
    what = "Forecast" if FORECAST in ensemble.attributes else "Analysis"
    if truth is not None:
        yield Panel("truth", "Truth", reduced(truth.values), "value")
    yield Panel("mean", f"{what} mean", reduced(mean), "value")
    if truth is not None:
        yield Panel("error", f"{what} mean minus truth", reduced(mean - truth.values), "difference")
    if ensemble.members.shape[1] > 1:
        yield Panel("spread", "Spread", reduced(ensemble.spread().values), "spread")
    if FORECAST in ensemble.attributes and ensemble.members.shape[1] > 1:
        yield from _products(ensemble, reduction)
    if mean.shape[1] > 1:
        change = np.diff(mean, axis=1, prepend=np.full_like(mean[:, :1], np.nan))
        yield Panel("increment", f"Increment over the {what.lower()} before", reduced(change), "difference")
    for member in range(min(ensemble.members.shape[1], reduction.members)):
        yield Panel(f"member-{member}", f"Member {member + 1}", reduced(ensemble.members[:, member]), "value")
    if observations is not None:
        yield Panel("observations", "Observations", reduced(observations.values), "value")


def _products(ensemble: Ensemble, reduction: Reduction) -> Iterator[Panel]:
    """Yield what forecasters read from an ensemble of rain; nothing of any other state."""
    thresholds = thresholds_of(ensemble.variables)
    if not thresholds:
        return
    frames = [
        [
            np.stack([products(frame, thresholds) for frame in np.moveaxis(members[:, time], 1, 0)])
            for time in range(ensemble.times.size)
        ]
        for members in ensemble.members
    ]
    # (trajectory, time, k, kind, y, x), the kinds in the order of `products`: mean, matched, deviation, probabilities.
    values = np.array(frames, np.float32)
    unit = ensemble.variables[0].unit
    yield Panel("matched", "Probability-matched mean", _reduce(values[:, :, :, 1], reduction), "value")
    for place, threshold in enumerate(thresholds):
        label = f"Probability of {threshold:g} {unit} or more"
        yield Panel(f"exceeds-{place}", label, _reduce(values[:, :, :, 3 + place], reduction), "probability")


def _reduce(values: np.ndarray, reduction: Reduction) -> np.ndarray:
    """Leave out trajectories and frames, and average blocks of points over what is not missing."""
    values = values[: reduction.trajectories, :: reduction.stride]
    block = reduction.block
    if block == 1:
        return values
    factors = min(block, values.shape[-2]), min(block, values.shape[-1])
    return block_means(values, factors)[0].astype(np.float32)


def _coarser(reduction: Reduction, ensemble: Ensemble) -> Reduction:
    """Return the next smaller display; the same where nothing is left to leave out."""
    n, frames = ensemble.members.shape[0], -(-ensemble.times.size // reduction.stride)
    points = max(ensemble.grid.shape) // reduction.block
    if points > 256:
        return replace(reduction, block=reduction.block + 1)
    if reduction.members > 1:
        return replace(reduction, members=1)
    if min(n, reduction.trajectories) > 1:
        return replace(reduction, trajectories=min(n, reduction.trajectories) - 1)
    if frames > 60:
        return replace(reduction, stride=reduction.stride + 1)
    if points > 32:
        return replace(reduction, block=reduction.block + 1)
    if frames > 2:
        return replace(reduction, stride=reduction.stride + 1)
    return reduction


def _encoded(panels: list[Panel], ensemble: Ensemble, reduction: Reduction) -> dict[str, Any]:
    """Return the JSON block."""
    times = [str(np.datetime_as_string(time, unit="ms")) for time in ensemble.times[:: reduction.stride]]
    rows, columns = panels[0].values.shape[-2:]
    strip = rows == 1
    if strip:
        panels = [replace(panel, values=panel.values.transpose(0, 3, 2, 1, 4)) for panel in panels]
        rows = len(times)
    ranges = [_ranges(panels, index, variable) for index, variable in enumerate(ensemble.variables)]
    shown = []
    for panel in panels:
        limits = [ranges[index][panel.role] for index in range(len(ensemble.variables))]
        codes = [
            encode(series[:, index], limit["low"], limit["high"], gamma=limit["gamma"])
            for series in panel.values
            for index, limit in enumerate(limits)
        ]
        shown.append({"key": panel.key, "label": panel.label, "ranges": limits, "codes": codes})
    return {
        "shape": [1 if strip else len(times), rows, columns],
        "strip": strip,
        "times": times,
        "aspect": 1.0 if strip else _aspect(ensemble.grid),
        "y": _span(ensemble.grid.y),
        "x": _span(ensemble.grid.x),
        "axes": [*ensemble.grid.names, ensemble.grid.unit],
        "coast": [] if strip else lines_on(ensemble.grid),
        "trajectories": panels[0].values.shape[0],
        "variables": [{"name": variable.name, "unit": variable.unit} for variable in ensemble.variables],
        "panels": shown,
    }


def _ranges(panels: list[Panel], index: int, variable: Variable) -> dict[str, dict[str, Any]]:
    """Return range and colours of every role of one variable."""
    pooled: dict[str, list[np.ndarray]] = {"value": [], "difference": [], "spread": []}
    for panel in (one for one in panels if one.role in pooled):
        held = panel.values[:, :, index]
        pooled[panel.role].append(held[np.isfinite(held)].ravel())
    values, differences, spreads = (_percentiles(pooled[role]) for role in ("value", "difference", "spread"))
    reach = max(map(abs, differences))
    skewed = variable.minimum is not None and values[0] <= variable.minimum + 0.05 * (values[1] - values[0])
    if variable.minimum is not None and skewed:
        value = {"low": variable.minimum, "high": values[1], "gamma": 2.0, "colours": "rain"}
    elif values[0] < 0 < values[1]:
        size = max(map(abs, values))
        value = {"low": -size, "high": size, "gamma": 1.0, "colours": "signed"}
    else:
        value = {"low": values[0], "high": values[1], "gamma": 1.0, "colours": "plain"}
    return {
        "value": _wide(value),
        "difference": _wide({"low": -reach, "high": reach, "gamma": 1.0, "colours": "signed"}),
        "spread": _wide({"low": 0.0, "high": spreads[1], "gamma": 1.0, "colours": "heat"}),
        "probability": {"low": 0.0, "high": 1.0, "gamma": 1.0, "colours": "heat", "unit": "1"},
    }


def _percentiles(samples: list[np.ndarray]) -> tuple[float, float]:
    """Return the range that holds all but a few values."""
    held = np.concatenate(samples) if samples else np.zeros(0)
    if not held.size:
        return 0.0, 1.0
    low, high = np.percentile(held, [0.2, 99.8])
    return float(low), float(high)


def _wide(limits: dict[str, Any]) -> dict[str, Any]:
    """Give a range without extent one."""
    if limits["high"] - limits["low"] < 1e-12 * max(1.0, abs(limits["high"])):
        return {**limits, "high": limits["low"] + 1.0}
    return limits


def _aspect(grid: Grid) -> float:
    """Return height over width of one point."""
    dy, dx = grid.spacing
    if grid.kind == "sphere":
        dx *= float(np.cos(np.deg2rad(np.clip(grid.y.mean(), -80, 80))))
    return dy / dx


def _span(axis: np.ndarray) -> list[float]:
    """Return the first and the last coordinate."""
    return [float(axis[0]), float(axis[-1])]
