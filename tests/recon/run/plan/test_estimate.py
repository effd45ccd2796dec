"""Plans: how long and how much, from a trial whose clock is the test's."""

import numpy as np
import pytest
import torch

from recon.data.scan import Scan
from recon.geometry.grid import Grid
from recon.geometry.orbits import Parallel
from recon.operators.projector import Projector
from recon.reconstructors import CGLS, TV
from recon.reconstructors.base import RunContext, StepRecord
from recon.reconstructors.iterative import forecast
from recon.run.plan import estimate as module
from recon.run.plan import printing
from recon.run.plan.estimate import estimate
from recon.run.problem.pose import Problem
from recon.run.settings import ReconstructSettings
from recon.solvers.base import Stop


def problem(method: object, slices: int = 6) -> Problem:
    grid = Grid((slices, 16, 16), (2.0, 1.5, 1.5))
    geometry = Parallel(views=12).fit(grid).geometry()
    truth = torch.zeros(grid.shape)
    truth[:, 4:12, 5:11] = 0.02
    projector = Projector(geometry, grid, backend="reference")
    line = projector(truth)
    line = line + 0.01 * torch.randn(line.shape, generator=torch.Generator().manual_seed(0))
    sinogram = np.ascontiguousarray(line.numpy())
    scan = Scan(sinogram, geometry, grid, np.full_like(sinogram, 1e4))
    return Problem(scan, grid, None, ReconstructSettings(method=method, backend="reference"))


@pytest.mark.parametrize(
    ("method", "cost"),
    [(TV(iterations=60, tolerance=0), 10), (TV(), 10), (CGLS(iterations=25, chi2=0), 1)],
    ids=["tv-60", "tv", "cgls"],
)
def test_the_time_told_is_that_of_every_iteration(monkeypatch, method, cost):
    """The clock moves a second an iteration: what is told must be the iterations that the whole run takes."""
    now, done = [0.0], [0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    inner = type(method).__call__

    def timed(self, measurement, projector, context):
        done[0] = 0

        def on_step(record: StepRecord) -> None:
            now[0] += record.iteration - done[0]
            done[0] = record.iteration
            context.on_step(record)

        return inner(self, measurement, projector, RunContext(context.seed, None, on_step))

    monkeypatch.setattr(type(method), "__call__", timed)
    task = problem(method)
    told = estimate(task)
    records: list[StepRecord] = []
    method(task.measurement(), task.projector(), RunContext(on_step=records.append))
    # TV reports every tenth iteration; taking a report for a step told a tenth or ten times as much.
    assert told.seconds == pytest.approx(records[-1].iteration, rel=0.3)
    assert told.steps == pytest.approx(records[-1].iteration, rel=0.3)


def test_an_end_is_forecast_from_the_fall_of_the_figures():
    stop = Stop(iterations=400, below={"change": 1e-4}, every=10)
    looks = [(10 * k, {"change": 0.1 * 10 ** (-k / 10)}) for k in range(1, 6)]
    # 0.1 falls by ten every hundred iterations: to 1e-4 in three hundred.
    assert forecast(stop, looks) == pytest.approx(300, abs=10)
    assert forecast(stop, looks[:2]) is None
    assert forecast(stop, [(10 * k, {"change": 0.1}) for k in range(1, 6)]) == 400
    assert forecast(Stop(iterations=7), []) == 7


def test_a_plan_survives_where_memory_is_short(monkeypatch, capsys, tmp_path):
    task = problem(TV())
    monkeypatch.setattr(printing, "read_problem", lambda scan, settings, sample: task)
    monkeypatch.setattr(printing, "available_bytes", lambda: 1000)
    printing.print_plan(tmp_path, task.settings, as_json=None)
    shown = capsys.readouterr().out
    assert "does not fit" in shown
    assert "time" not in shown
    monkeypatch.setattr(printing, "available_bytes", lambda: 1 << 40)

    def none_left(problem):
        raise MemoryError

    monkeypatch.setattr(printing, "estimate", none_left)
    printing.print_plan(tmp_path, task.settings, as_json=None)
    assert "fits" in capsys.readouterr().out
