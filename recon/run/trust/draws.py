"""A reconstruction with ``draws``: the mean of several, their deviation, intervals, and what the data left open."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from priors.card import card_of_prior
from recon.data.intervals import IntervalVolume
from recon.data.volume import Volume
from recon.ensembles.calibration import Conditions, Scale, find_scale, orbit_kind, settings_hash
from recon.ensembles.draws import Draws, draw
from recon.ensembles.intervals import QUANTILE_90, Intervals, intervals
from recon.ensembles.null_space import null_space_share
from recon.operators.projector import Projector
from recon.reconstructors.base import Measurement, RunContext
from recon.reconstructors.diffusion.base import DiffusionReconstructor
from recon.run.problem.pose import Problem

PROBED_SLICES = 16
UNSURE_HU = 100.0
"""Deviation above which the report hatches a volume."""


@dataclass(frozen=True)
class DrawnOutcome:
    """The mean in 1/mm, its intervals in 1/mm, and figures for ``metrics.json``."""

    mean: Float[Tensor, "z y x"]
    intervals: Intervals
    figures: dict[str, Any]


def solve_draws(
    problem: Problem, measurement: Measurement, projector: Projector, context: RunContext
) -> DrawnOutcome:
    """Draw as often as the settings say.

    Raises:
        InputError: the method cannot work with this scan, or draws no noise.
    """
    method, count = problem.settings.method, problem.settings.draws
    assert isinstance(method, DiffusionReconstructor)
    draws = draw(method, measurement, projector, context, count)
    found = find_scale(card_of_prior(method.prior).calibration, conditions(problem))
    scale = found if isinstance(found, Scale) else None
    ends = intervals(draws.moments, scale, mu_water=measurement.mu_water)
    return DrawnOutcome(
        draws.moments.mean, ends, {"draws": _figures(draws, ends, found, projector, measurement)}
    )


def conditions(problem: Problem) -> Conditions:
    """Return what decides which calibration a problem gets."""
    # Before the scan decided: what follows every scan in the same way is one setting.
    method, scan = (problem.before or problem.settings).method, problem.scan
    assert isinstance(method, DiffusionReconstructor)
    density = scan.geometry.views / scan.geometry.shape[1]
    return Conditions(
        method.name, settings_hash(method), density, photons(problem), orbit_kind(scan.geometry)
    )


def photons(problem: Problem) -> float:
    """Return the photons per ray without an object: as the scan states, else what its largest weights say."""
    scan = problem.scan
    if scan.i0 is not None:
        return scan.i0
    return float(np.quantile(scan.weights[scan.weights > 0], 0.99))


def with_intervals(
    problem: Problem, mean: Volume, ends: Intervals, metrics: dict[str, Any]
) -> IntervalVolume:
    """Return the mean as a volume with its deviation and interval, in the unit of the scan."""
    lower, upper = problem.volume(ends.lower), problem.volume(ends.upper)
    # Taken from the upper end, which nothing clips, so that it follows the volume onto whatever grid that went.
    reach = np.maximum(upper.values - mean.values, 0)
    deviation = Volume(reach / np.float32(QUANTILE_90), mean.affine, mean.unit, grid=mean.grid)
    return IntervalVolume(
        mean.values,
        mean.affine,
        mean.unit,
        grid=mean.grid,
        metrics=metrics,
        deviation=deviation,
        lower=lower,
        upper=upper,
    )


def _figures(
    draws: Draws, ends: Intervals, found: Scale | str, projector: Projector, measurement: Measurement
) -> dict[str, Any]:
    """Return what ``metrics.json`` says of the draws."""
    per_hu = measurement.mu_water / 1000
    deviation = ends.deviation / per_hu
    return {
        "count": draws.moments.count,
        "chi2_per_ray": list(draws.chi2),
        "null_space_share": unseen_share(draws.difference, projector),
        "deviation_hu": {"mean": float(deviation.mean()), "largest": float(deviation.max())},
        "unsure_share": float((deviation > UNSURE_HU).float().mean()),
        "level": 0.9,
        "quantile": QUANTILE_90,
        "calibration": _calibration(found),
    }


def _calibration(found: Scale | str) -> dict[str, Any]:
    if isinstance(found, str):
        return {"status": "not calibrated", "reason": found}
    rows = [row.model_dump(mode="json", exclude={"settings"}) for row in found.rows]
    return {
        "status": "calibrated",
        "a": found.a,
        "relative": list(found.relative),
        "b_hu": found.b_hu,
        "rows": rows,
    }


def unseen_share(difference: Float[Tensor, "z y x"], projector: Projector) -> float:
    """Return the share of a difference in the null space, from some slices where rays do not cross them."""
    slices = projector.domain[0]
    if projector.geometry.sliced and slices > PROBED_SLICES:
        start = (slices - PROBED_SLICES) // 2
        stop = start + PROBED_SLICES
        return null_space_share(difference[start:stop], projector.slices(start, stop))
    return null_space_share(difference, projector)


def remarks(metrics: dict[str, Any]) -> list[str]:
    """Return what a person must know about the intervals, one sentence each."""
    calibration = metrics.get("draws", {}).get("calibration", {})
    if calibration.get("status") != "not calibrated":
        return []
    return [
        f"the intervals are not calibrated ({calibration['reason']}): deviation, lower and upper are the bare spread "
        "of the draws, which is usually several times too small"
    ]
