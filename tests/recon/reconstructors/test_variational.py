"""Total variation reconstruction: optimum, steps, scale invariance, weights, coupling, memory."""

import cvxpy
import numpy as np
import pytest
import torch
from torch import Tensor

from priors.runtime.errors import InputError
from recon.geometry.grid import Grid
from recon.geometry.orbits import FanFlat, Parallel
from recon.operators.differences import Differences
from recon.operators.projector import Projector
from recon.reconstructors.base import Measurement, RunContext, StepRecord
from recon.reconstructors.tv import TV

VOLUME = Grid((3, 10, 8), (2.0, 1.0, 1.0))


def phantom(grid: Grid) -> Tensor:
    """Return two boxes in air, 1/mm; the smaller one is in some slices only."""
    x = torch.zeros(grid.shape)
    _, height, width = grid.shape
    x[:, height // 5 : -height // 5, width // 5 : -width // 5] = 0.02
    x[1:, height // 2 : -height // 4, width // 3 : width // 2] = 0.04
    return x


def scanned(grid: Grid, views: int = 12, i0: float = 1e4, seed: int = 0) -> tuple[Projector, Measurement]:
    """Return a projector and the noisy measurement of the phantom."""
    projector = Projector(Parallel(views=views).fit(grid).geometry(), grid, backend="reference")
    weights = i0 * torch.exp(-projector(phantom(grid)))
    noise = torch.randn(weights.shape, generator=torch.Generator().manual_seed(seed)) / weights.sqrt()
    return projector, Measurement(projector(phantom(grid)) + noise, weights)


def oracle(method: TV, projector: Projector, measurement: Measurement) -> float:
    """Return the least objective that cvxpy finds."""
    task = method.problem(measurement, projector)
    count = int(np.prod(projector.domain))
    units = torch.eye(count).reshape(-1, *projector.domain)
    a = np.stack([projector(unit).reshape(-1).numpy() for unit in units], axis=1).astype(np.float64)
    d = np.stack([task.terms[1].operator(unit).numpy() for unit in units], axis=-1).astype(np.float64)
    # cvxpy's solver likes numbers of order one: x in 0.01 / mm.
    x = cvxpy.Variable(count, nonneg=True)
    lengths = cvxpy.norm(cvxpy.vstack([part.reshape(-1, count) @ x for part in d]), 2, axis=0)
    root = measurement.weights.sqrt().reshape(-1).numpy().astype(np.float64)
    y = measurement.sinogram.reshape(-1).numpy().astype(np.float64)
    strength = task.terms[1].functional.weight * 0.01  # type: ignore[attr-defined]
    fit = cvxpy.sum_squares(cvxpy.multiply(root, 0.01 * a @ x - y))
    return float(
        cvxpy.Problem(cvxpy.Minimize(0.5 * fit + strength * cvxpy.sum(lengths))).solve(cvxpy.CLARABEL)
    )


@pytest.mark.parametrize("coupling", [1.0, 0.0])
def test_it_reaches_cvxpys_optimum(coupling: float) -> None:
    method = TV(iterations=2000, tolerance=1e-6, slice_coupling=coupling)
    projector, measurement = scanned(VOLUME)
    x = method(measurement, projector, RunContext())
    assert float(x.min()) >= 0
    # float32 with a sum of 10^3 terms: the objective is good to 1e-5, not to cvxpy's 1e-8.
    objective = method.problem(measurement, projector).objective(x)
    assert objective == pytest.approx(oracle(method, projector, measurement), rel=1e-4)


def test_default_budget_is_near_the_optimum_and_stops_early() -> None:
    volume = Grid((3, 24, 24), (2.0, 1.3, 1.3))
    projector, measurement = scanned(volume, views=16, i0=1e5)
    records: list[StepRecord] = []
    x = TV()(measurement, projector, RunContext(on_step=records.append))
    best = TV(iterations=1200, tolerance=0.0)(measurement, projector, RunContext())
    task = TV().problem(measurement, projector)
    # What the stopping rule gives up: below 1 percent of the objective and 2 percent of the image.
    assert task.objective(x) < 1.01 * task.objective(best)
    assert float((x - best).norm() / best.norm()) < 0.02
    assert records[-1].iteration < TV().iterations
    assert records[-1].total == records[-1].iteration
    assert records[-1].figures["chi2"] < 1
    assert float((x - phantom(volume)).norm() / phantom(volume).norm()) < 0.1


@pytest.mark.parametrize("orbit", [Parallel(views=9), FanFlat(views=9, sod_mm=60, sdd_mm=100)], ids=repr)
@pytest.mark.parametrize("dz", [2.0, 0.4])
def test_steps_keep_the_declared_bound(orbit: Parallel | FanFlat, dz: float) -> None:
    volume = Grid((3, 10, 8), (dz, 1.0, 1.3))
    projector = Projector(orbit.fit(volume).geometry(), volume, backend="reference")
    weights = 10 ** torch.empty(projector.range).uniform_(1, 5, generator=torch.Generator().manual_seed(1))
    weights[2, 1, :4] = 0
    task = TV().problem(Measurement(projector(phantom(volume)), weights), projector)
    columns = []
    for unit in torch.eye(240).reshape(-1, *volume.shape):
        image = [(t.scale**0.5 * t.operator(task.scale**0.5 * unit)).reshape(-1) for t in task.terms]
        columns.append(torch.cat(image))
    squared = float(torch.linalg.matrix_norm(torch.stack(columns, 1), 2)) ** 2
    assert task.bound is not None
    # Pock and Chambolle's bound holds exactly; the float32 matrix adds its round-off.
    assert 0.05 < squared <= task.bound * (1 + 1e-4)


def test_one_weight_serves_every_unit_of_length() -> None:
    # The same object in other units: lengths x 10, attenuation / 10. Nothing may depend on the unit.
    projector, measurement = scanned(VOLUME)
    larger = Grid(VOLUME.shape, (20.0, 10.0, 10.0))
    wide = Projector(Parallel(views=12).fit(larger).geometry(), larger, backend="reference")
    method = TV(iterations=60, tolerance=0.0)
    x, y = method(measurement, projector, RunContext()), method(measurement, wide, RunContext())
    # The same operations on scaled numbers; round-off of 60 iterations only.
    torch.testing.assert_close(10 * y, x, rtol=1e-3, atol=1e-5)


def test_rays_of_zero_weight_have_no_influence() -> None:
    projector, measurement = scanned(VOLUME)
    weights = measurement.weights.clone()
    weights[3, 1, 2:5] = 0
    spoiled = measurement.sinogram.clone()
    spoiled[3, 1, 2:5] = 40.0
    method = TV(iterations=50, tolerance=0.0)
    clean = method(Measurement(measurement.sinogram, weights), projector, RunContext())
    assert torch.equal(method(Measurement(spoiled, weights), projector, RunContext()), clean)
    with pytest.raises(InputError, match="every ray has zero weight"):
        method(Measurement(measurement.sinogram, 0 * weights), projector, RunContext())


def test_coupling_brings_slices_together_and_without_it_they_are_alone() -> None:
    projector, measurement = scanned(VOLUME, i0=300)
    alone = TV(slice_coupling=0.0)(measurement, projector, RunContext())
    coupled = TV()(measurement, projector, RunContext())
    truth = phantom(VOLUME)
    assert float((coupled - truth).norm()) < float((alone - truth).norm())
    operator = TV(slice_coupling=0.0).problem(measurement, projector).terms[1].operator
    assert isinstance(operator, Differences)
    assert operator.axes == (1, 2)


def test_a_single_slice_and_an_empty_scan_work() -> None:
    volume = Grid((1, 12, 12), (1.0, 1.0, 1.0))
    projector, measurement = scanned(volume)
    assert TV(iterations=20)(measurement, projector, RunContext()).shape == (1, 12, 12)
    air = Measurement(torch.zeros_like(measurement.sinogram), measurement.weights)
    assert float(TV(iterations=20)(air, projector, RunContext()).abs().max()) == 0


def test_nan_in_the_measurement_is_reported() -> None:
    projector, measurement = scanned(VOLUME)
    bad = measurement.sinogram.clone()
    bad[0, 0, 4] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        TV()(Measurement(bad, measurement.weights), projector, RunContext())


def test_the_plan_grows_with_the_volume() -> None:
    scan = Parallel(views=16).fit(VOLUME).geometry()
    small = TV().plan(VOLUME, scan).items
    large = TV().plan(Grid((3, 20, 16), (2.0, 0.5, 0.5)), scan).items
    assert large["duals of total variation"] == 4 * small["duals of total variation"]
    assert TV(slice_coupling=0.0).plan(VOLUME, scan).total < TV().plan(VOLUME, scan).total
