"""Coastlines on grids: known places lie where they should, whatever the map, and a grid without a place has none."""

import numpy as np
import pyproj
import pytest

from assimilation.fields.grid import Grid
from assimilation.report.coastlines import lines, lines_on

# Capes that stand out: the south-west tip of Cornwall, the southern tip of Portugal's coast, Cape Byron in Australia.
LAND_S_END, SAO_VICENTE, BYRON = (-5.71, 50.07), (-8.99, 37.02), (153.63, -28.64)
ALBERS = "+proj=aea +lat_0=-27.7 +lon_0=153.2 +lat_1=-26.2 +lat_2=-29.3 +units=km +ellps=GRS80"


def points(grid: Grid) -> np.ndarray:
    return np.concatenate([np.reshape(line, (-1, 2)) for line in lines_on(grid)])


def share(grid: Grid, y: float, x: float) -> np.ndarray:
    """Return where a coordinate lies on a panel, from the left and from the top."""
    row, column = (y - grid.y[0]) / grid.spacing[0], (x - grid.x[0]) / grid.spacing[1]
    return np.array([(column + 0.5) / grid.shape[1], 1 - (row + 0.5) / grid.shape[0]])


def far(grid: Grid, y: float, x: float) -> float:
    """Return the distance of a place from the nearest point of a line, as a share of the panel."""
    return float(np.hypot(*(points(grid) - share(grid, y, x)).T).min())


@pytest.mark.parametrize("turn", [0.0, 360.0])
def test_capes_lie_where_they_are_on_a_sphere(turn: float) -> None:
    grid = Grid(np.linspace(36, 52, 65), turn + np.linspace(-12, 2, 57), "sphere", "degree")
    for longitude, latitude in (LAND_S_END, SAO_VICENTE):
        # 1:50m is generalised to some 5 km, 0.05 of 14 degrees.
        assert far(grid, latitude, longitude + turn) < 0.01


def test_capes_lie_where_they_are_on_a_map() -> None:
    axis = np.linspace(-150, 150, 76)
    grid = Grid(axis, axis, "plane", "km", projection=ALBERS)
    x, y = pyproj.Proj(ALBERS)(*BYRON)
    assert far(grid, y, x) < 0.03


def test_no_line_crosses_the_map_of_the_world() -> None:
    world = Grid(np.linspace(-88, 88, 89), np.arange(-180, 180, 2.0), "sphere", "degree", (False, True))
    steps = [np.abs(np.diff(np.reshape(line, (-1, 2)), axis=0)).max() for line in lines_on(world)]
    # The longest straight border, along 49 degrees north, takes a tenth of the panel.
    assert max(steps) < 0.25


def test_a_grid_that_is_nowhere_has_no_coast() -> None:
    axis = np.arange(20.0)
    assert lines_on(Grid(axis, axis, "plane", "km")) == []
    assert lines_on(Grid(axis, axis, "plane", "km", projection="no map")) == []
    assert len(lines()) > 1000
