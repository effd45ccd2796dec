"""Coarser grids and steps against loops."""

import numpy as np
import pytest

from assimilation.fields.fields import Fields, Grid
from assimilation.fields.resample import block_averages, to_spacing, to_step
from priors.runtime.errors import InputError
from tests.support.assimilation.observations import HOUR, VORTICITY, fields, plane


def test_block_means_leave_out_what_is_missing():
    truth = fields(grid=plane(7, 12), count=1, frames=2)
    values = truth.values.copy()
    values[0, 0, 0, 0, 0] = np.nan
    values[0, 0, 0, 2:4, 0:2] = np.nan
    values[0, 1, 0, 2:3, 0:2] = np.nan
    values[0, 1, 0, 0:2, 0:2] = [[np.nan, np.nan], [np.nan, 1.0]]
    coarse = block_averages(Fields(values, truth.times, (VORTICITY,), truth.grid), (2, 2))
    assert coarse.values.shape == (1, 2, 1, 3, 6)
    assert coarse.values[0, 0, 0, 0, 0] == pytest.approx(np.nanmean(values[0, 0, 0, :2, :2]))
    assert np.isnan(coarse.values[0, 0, 0, 1, 0])
    # Half of the cells are enough, a quarter is not.
    assert coarse.values[0, 1, 0, 1, 0] == pytest.approx(values[0, 1, 0, 3, :2].mean())
    assert np.isnan(coarse.values[0, 1, 0, 0, 0])
    assert coarse.values[0, 1, 0, 2, 5] == pytest.approx(values[0, 1, 0, 4:6, 10:12].mean())
    np.testing.assert_allclose(coarse.grid.y, [0.5, 2.5, 4.5])


def test_a_spacing_that_nearly_fits_is_not_interpolated():
    grid = Grid(0.9996 * np.arange(8), 0.9997 * np.arange(12), "plane", "km")
    assert to_spacing(fields(grid=grid), 2.0, source="x").grid.shape == (4, 6)
    for wrong in (1.5, 0.5, 2.2):
        with pytest.raises(InputError, match="spacing"):
            to_spacing(fields(grid=grid), wrong, source="x")


def test_a_periodic_axis_stays_so_only_where_blocks_tile_it():
    grid = Grid(np.arange(8.0), np.arange(12.0), "plane", "m", (True, True))
    assert block_averages(fields(grid=grid), (4, 4)).grid.periodic == (True, True)
    assert block_averages(fields(grid=grid), (3, 4)).grid.periodic == (False, True)


def test_every_second_frame_and_gaps():
    truth = fields(frames=7, step=HOUR // 2)
    np.testing.assert_array_equal(to_step(truth, 3600.0, source="x").values, truth.values[:, ::2])
    gap = truth.select(times=np.array([0, 2, 6]))
    filled = to_step(gap, 3600.0, source="x")
    assert filled.times.size == 4
    np.testing.assert_array_equal(filled.values[:, [0, 1, 3]], truth.values[:, [0, 2, 6]])
    assert np.isnan(filled.values[:, 2]).all()
    with pytest.raises(InputError, match="found steps of 1800 s"):
        to_step(truth, 600.0, source="x")
