"""The error of a method over several scans as a function of its settings, and the search for its least value.

Settings are searched in their logarithms, since they are weights and levels. ``tv`` has derivatives of its error
(`recon.reconstructors.tv_sensitivity`), followed by L-BFGS-B; samplers have none, and Nelder-Mead compares values. Both
are SciPy's.
"""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from scipy.optimize import minimize

from recon.reconstructors.base import Reconstructor, RunContext
from recon.reconstructors.tv import TV
from recon.reconstructors.tv_sensitivity import KEYS, Sensitivity
from recon.run.problem.pose import Problem
from recon.run.settings import ReconstructSettings
from recon.run.solving.watch import Reference

FIRST_STEP = math.log(1.5)
NARROWEST = math.log(1.03)
REFUSED_HU = 1e6
"""Error of settings that the method does not take: the search turns back."""


class _Enough(Exception):  # noqa: N818 (the search's way out, not an error)
    """Every evaluation that was allowed has been made."""


@dataclass
class Search:
    """The error as a function of the logarithms of the settings.

    Attributes:
        settings: of the job, before.
        cases: problems with their references.
        keys: settings of the method.
        log: where evaluations are kept; those that are there are not repeated.
        most: largest number of evaluations.
        known: evaluations so far.
    """

    settings: ReconstructSettings
    cases: Sequence[tuple[Problem, Reference]]
    keys: Sequence[str]
    log: Path
    most: int
    known: list[dict[str, Any]] = field(default_factory=list)

    @property
    def follows_derivatives(self) -> bool:
        """Whether the method tells the derivatives of its error."""
        return isinstance(self.settings.method, TV) and set(self.keys) <= set(KEYS)

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the mean squared error in HU^2 and its derivatives by the logarithms, zero where none are known."""
        values = {key: float(f"{math.exp(x):.6g}") for key, x in zip(self.keys, point, strict=True)}
        row = next((row for row in self.known if row["settings"] == values), None)
        if row is None:
            if len(self.known) >= self.most:
                raise _Enough
            row = self._evaluated(values)
            self.known.append(row)
            with self.log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            said = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
            print(f"{len(self.known)}/{self.most}  {said}  rmse {row['rmse_hu']:.2f} HU", file=sys.stderr)
        slopes = [row["derivatives"].get(key, 0.0) * values[key] for key in self.keys]
        return row["rmse_hu"] ** 2, np.array(slopes)

    def method(self, values: Mapping[str, float]) -> Reconstructor:
        """Return the method with other values.

        Raises:
            ValidationError: one is out of its range.
        """
        tree = self.settings.method.model_dump()
        for key, value in values.items():
            *path, last = key.split(".")
            node = tree
            for name in path:
                node = node[name]
            node[last] = value
        method: Reconstructor = type(self.settings.method).model_validate(tree)
        return method

    def _evaluated(self, values: Mapping[str, float]) -> dict[str, Any]:
        try:
            method = self.method(values)
        except ValidationError:
            return {"settings": dict(values), "rmse_hu": REFUSED_HU, "derivatives": {}}
        squares, slopes = [], dict.fromkeys(self.keys, 0.0)
        for problem, reference in self.cases:
            measurement, projector = problem.measurement(), problem.projector()
            x = method(measurement, projector, RunContext(self.settings.seed))
            squares.append(float(reference.difference(x).square().mean(dtype=torch.float64)))
            if self.follows_derivatives:
                assert isinstance(method, TV)
                sensitivity = Sensitivity(method, measurement, projector, x)
                found = sensitivity.of(reference.slope(x), tuple(self.keys), tolerance=1e-2)
                slopes = {key: slopes[key] + value / len(self.cases) for key, value in found.items()}
        known = slopes if self.follows_derivatives else {}
        return {"settings": dict(values), "rmse_hu": math.sqrt(np.mean(squares)), "derivatives": known}


def least(search: Search, start: np.ndarray) -> None:
    """Search from the logarithms ``start`` until the settings do not change or every evaluation was made."""
    try:
        if search.follows_derivatives:
            minimize(search, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-5})
            return
        simplex = np.vstack([start, start + FIRST_STEP * np.eye(len(start))])
        options = {"initial_simplex": simplex, "xatol": NARROWEST, "fatol": 0.0}
        value: Callable[[np.ndarray], float] = lambda point: search(point)[0]  # noqa: E731
        minimize(value, start, method="Nelder-Mead", options=options)
    except _Enough:
        return


def kept(log: Path) -> list[dict[str, Any]]:
    """Return the evaluations of an interrupted search, and take a line that a kill cut off out of the file."""
    rows: list[dict[str, Any]] = []
    whole: list[str] = []
    for line in log.read_text(encoding="utf-8").splitlines(keepends=True) if log.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            log.write_text("".join(whole), encoding="utf-8")
            break
        whole.append(line)
    return rows
