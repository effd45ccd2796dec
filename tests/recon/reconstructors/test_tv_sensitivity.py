"""The derivative of a reconstruction's error by its weights, against solving again with other weights."""

import pytest
import torch

from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.operators.projector import Projector
from recon.reconstructors.base import Measurement, RunContext
from recon.reconstructors.tv import TV
from recon.reconstructors.tv_sensitivity import Sensitivity

SIDE = 12
# Solved far beyond what a reconstruction needs: the finite difference divides the solver's error by the step.
EXACT = TV(weight=0.5, iterations=200, tolerance=1e-7)


def case() -> tuple[Measurement, Projector, torch.Tensor]:
    grid = Grid((3, SIDE, SIDE), (2.0, 3.0, 3.0))
    projector = Projector(Parallel(views=10).fit(grid).geometry(), grid)
    y, x = torch.meshgrid(torch.linspace(-1, 1, SIDE), torch.linspace(-1, 1, SIDE), indexing="ij")
    slices = [0.02 + 0.004 * x + 0.006 * ((x - 0.1 * k) ** 2 + y**2 < 0.4) for k in range(3)]
    truth = torch.stack(slices)
    weights = torch.full(projector.range, 4e4)
    noise = torch.randn(projector.range, generator=torch.Generator().manual_seed(1)) / 200
    return Measurement(projector(truth) + noise, weights), projector, truth


def error(method: TV, measurement: Measurement, projector: Projector, truth: torch.Tensor) -> float:
    x = method(measurement, projector, RunContext())
    return float(((x - truth).double() ** 2).mean())


@pytest.mark.parametrize("key", ["weight", "slice_coupling"])
def test_it_is_the_slope_of_whole_solves(key: str) -> None:
    measurement, projector, truth = case()
    x = EXACT(measurement, projector, RunContext())
    slope = 2 * (x - truth) / x.numel()
    found = Sensitivity(EXACT, measurement, projector, x).of(slope, (key,))[key]
    value, step = getattr(EXACT, key), 0.02
    ends = [
        error(EXACT.model_copy(update={key: value * (1 + sign * step)}), measurement, projector, truth)
        for sign in (1, -1)
    ]
    # Groups that become flat or stop being flat within the step are kinks of the error: some per cent of it.
    assert found == pytest.approx((ends[0] - ends[1]) / (2 * step * value), rel=0.1)
