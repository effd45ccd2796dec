"""Configurations to begin with: ``tomocast train --template slices | trajectories``.

With a prepared folder the values that the data decides are filled in: pixel spacings, range and root mean square,
licences; variables with their mean and deviation, padding, window. Without one they have usual values.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from priors.runtime.config import read_yaml
from priors.runtime.errors import InputError
from priors.training.slices.data import PreparedArrays
from priors.training.trajectories.data import PreparedTrajectories

Kind = Literal["slices", "trajectories"]
FOLDER = Path(__file__).parent / "templates"
STRIDE = 16
"""Multiple of which crops are: fields the network need not pad."""
_COMMON: dict[str, Any] = {
    "name": "my-prior",
    "data": "PREPARED",
    "trained_on": '"how many patients, events, where from"',
    "licence": '"unknown"',
    "citation": '"none"',
}
_SLICES = {
    "channels": "[48, 96, 128, 160]",
    "sigma_data": "0.75",
    "low": "-1024.0",
    "high": "1500.0",
    "pixel_mm": "[0.5, 1.0]",
    "small": "128",
    "small_batch": "16",
    "size": "256",
    "batch": "4",
}
_VARIABLE = (
    "    - {{name: {name}, unit: {unit}, offset: {offset:.6g}, scale: {scale:.6g}, "
    "low: {low:.6g}, high: {high:.6g}}}"
)
_TRAJECTORIES = {
    "field_channels": "1",
    "padding": "[zeros, zeros]",
    "variables": _VARIABLE.format(
        name="temperature", unit="K", offset=280.0, scale=8.0, low=180.0, high=350.0
    ),
    "frames": "10",
    "size": "null",
}


def template(kind: Kind, data: Path | None = None) -> str:
    """Return the text of a configuration that ``train`` accepts.

    Raises:
        InputError: the prepared folder cannot be read or is of the other kind.
    """
    values = {**_COMMON, **(_SLICES if kind == "slices" else _TRAJECTORIES)}
    if data is not None:
        values |= {"data": str(data)}
        values |= _of_slices(data) if kind == "slices" else _of_trajectories(data)
    return (FOLDER / f"{kind}.yaml").read_text(encoding="utf-8").format(**values)


def _of_slices(data: Path) -> dict[str, str]:
    prepared = PreparedArrays.load(data, "train")
    low, high = -1024.0, 1500.0
    squares = [np.clip(a[:: max(1, len(a) // 8)].astype(np.float64), low, high) ** 2 for a in prepared.arrays]
    rms = float(np.sqrt(np.mean([square.mean() for square in squares]))) / 1000
    pixels = [series.pixel_mm for series in prepared.series]
    smallest = min(min(array.shape[1:]) for array in prepared.arrays)
    size = min(256, smallest // STRIDE * STRIDE)
    if size < STRIDE:
        raise InputError(f"{data}: slices of {smallest} pixels are smaller than a crop of {STRIDE}")
    small = max(STRIDE, size // 2 // STRIDE * STRIDE)
    return {
        "sigma_data": f"{rms:.3g}",
        "pixel_mm": f"[{min(pixels):g}, {max(pixels):g}]",
        "licence": _quoted("; ".join(sorted({series.licence for series in prepared.series}))),
        "small": str(small),
        "size": str(size),
    }


def _of_trajectories(data: Path) -> dict[str, str]:
    prepared = PreparedTrajectories.load(data, "train")
    manifest = prepared.manifest
    statistics = read_yaml(data / "statistics.yaml")["variables"]
    shapes = {array.shape[-2:] for array in prepared.arrays}
    smallest = min(min(shape) for shape in shapes)
    frames = min(10, *(array.shape[1] for array in prepared.arrays))
    return {
        "field_channels": str(len(manifest.variables)),
        "padding": "[" + ", ".join("periodic" if on else "zeros" for on in manifest.periodic) + "]",
        "variables": "\n".join(_variable(each) for each in statistics),
        "licence": _quoted("; ".join(sorted({event.licence for event in prepared.events}))),
        "frames": str(frames),
        "size": "null" if len(shapes) == 1 and smallest <= 128 else str(min(64, smallest // 8 * 8)),
    }


def _variable(statistics: Mapping[str, Any]) -> str:
    # Room beyond what was seen: a value outside is clipped.
    width = statistics["maximum"] - statistics["minimum"]
    return _VARIABLE.format(
        name=statistics["name"],
        unit=_quoted(statistics["unit"]),
        offset=statistics["mean"],
        scale=max(statistics["standard_deviation"], 1e-12),
        low=statistics["minimum"] - 0.25 * width,
        high=statistics["maximum"] + 0.25 * width,
    )


def _quoted(text: str) -> str:
    """Return a text as YAML that no character of it can end."""
    return "'" + text.replace("'", "''") + "'"
