"""Small fields to observe, and one tiny operator of every class."""

import numpy as np
import torch

from assimilation.fields.fields import Fields, Grid, Variable
from assimilation.observation.area import BlockAverage
from assimilation.observation.base import ObservationOperator
from assimilation.observation.nonlinear import WindSpeed
from assimilation.observation.own import LinearFunctions, TorchFunction
from assimilation.observation.point import Channels, Identity, PointSampling, Selection

START = np.datetime64("2020-01-01T00:00", "ns")
HOUR = np.timedelta64(3_600_000_000_000, "ns")
VORTICITY = Variable("vorticity", "s-1")
RAIN = Variable("rain_rate", "mm/h", "rainfall_rate", 0.0)
WIND = (Variable("u10", "m s-1", "eastward_wind"), Variable("v10", "m s-1", "northward_wind"))


def plane(rows: int = 8, columns: int = 12, *, step: float = 1.0, unit: str = "km") -> Grid:
    return Grid(step * np.arange(rows), step * np.arange(columns), "plane", unit)


def sphere() -> Grid:
    return Grid(np.linspace(50.0, 58.0, 9), np.linspace(-10.0, 2.0, 13), "sphere", "degree")


def fields(
    variables: tuple[Variable, ...] = (VORTICITY,),
    *,
    grid: Grid | None = None,
    count: int = 2,
    frames: int = 5,
    step: np.timedelta64 = HOUR,
    seed: int = 0,
) -> Fields:
    grid = grid or plane()
    shape = (count, frames, len(variables), *grid.shape)
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return Fields(3 + 2 * values, START + step * np.arange(frames), variables, grid)


def observation_operators() -> list[ObservationOperator]:
    return [
        Identity(),
        Selection(Identity(), torch.tensor([3, 17, 40])),
        Channels((1,)),
        BlockAverage(2),
        PointSampling(torch.tensor([0.5]), torch.tensor([1.25]), torch.tensor([1])),
        WindSpeed(0, 1),
        LinearFunctions(lambda x: 2 * x.reshape(-1)[:5], _doubled_back, (2, 4, 6)),
        TorchFunction(lambda x: x.flatten(1)[:, ::7] ** 2),
    ]


def _doubled_back(y: np.ndarray) -> np.ndarray:
    """The transpose of twice the first five values of a (2, 4, 6) state."""
    state = np.zeros(2 * 4 * 6)
    state[:5] = 2 * y
    return state.reshape(2, 4, 6)
