"""The state observations refer to, as JSON inside observation files: grid, variables, analysis times.

An axis with equal steps is stored as start, step and count, any other one as a list.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from assimilation.fields.grid import Grid, Variable
from priors.runtime.errors import InputError


@dataclass(frozen=True, eq=False)
class Layout:
    """Grid, variables and analysis times of a state."""

    grid: Grid
    variables: tuple[Variable, ...]
    times: np.ndarray

    def to_json(self) -> str:
        """Return the JSON text on one line."""
        grid = self.grid
        tree = {
            "grid": {
                "y": _pack(grid.y),
                "x": _pack(grid.x),
                "kind": grid.kind,
                "unit": grid.unit,
                "periodic": list(grid.periodic),
                "projection": grid.projection,
            },
            "variables": [asdict(item) for item in self.variables],
            "times": _pack(self.times.astype("datetime64[ns]").astype("int64")),
        }
        return json.dumps(tree)

    @staticmethod
    def from_json(text: str) -> "Layout":
        """Return the layout in a JSON text.

        Raises:
            InputError: the text is damaged or lacks a key.
        """
        try:
            tree = json.loads(text)
            grid = tree["grid"]
            rows, columns = grid["periodic"]
            return Layout(
                Grid(
                    _unpack(grid["y"]).astype(np.float64),
                    _unpack(grid["x"]).astype(np.float64),
                    grid["kind"],
                    grid["unit"],
                    (bool(rows), bool(columns)),
                    grid["projection"],
                ),
                tuple(Variable(**item) for item in tree["variables"]),
                _unpack(tree["times"]).astype("int64").astype("datetime64[ns]"),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                "the description of the state is damaged, expected the JSON it was written with"
            ) from error


def _pack(axis: np.ndarray) -> Any:
    """Return an axis as start, step and count where that gives every entry back."""
    if axis.size > 2:
        step = (axis[-1] - axis[0]) / (axis.size - 1)
        step = int(step) if axis.dtype.kind == "i" else float(step)
        packed = {"start": axis[0].item(), "step": step, "count": int(axis.size)}
        close = np.array_equal if axis.dtype.kind == "i" else np.allclose
        if close(_unpack(packed), axis):
            return packed
    return [item.item() for item in axis]


def _unpack(packed: Any) -> np.ndarray:
    if isinstance(packed, dict):
        return np.asarray(packed["start"] + packed["step"] * np.arange(packed["count"]))
    return np.asarray(packed)
