"""Where an observation is and what it observes, told by its operator alone.

What an operator makes of the rows and the columns of a grid tells its places from one another; which variable it
observes is told by whether it changes with each.
"""

import numpy as np
import torch
from jaxtyping import Int64

from assimilation.observation.base import ObservationOperator

RESOLUTION = 64  # places a 64th of a cell apart are different
SEVERAL = -1
"""Variable of an observation of more than one, such as a wind speed."""


class Places:
    """Places on a grid of states.

    Args:
        shape: of a state, (k, y, x).
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        rows, columns = np.indices(shape[1:])
        # From 1 on: an operator that multiplies would make one place of all at 0.
        self._rows, self._columns = (
            torch.from_numpy(np.broadcast_to(each + 1.0, shape).astype(np.float32).copy())
            for each in (rows, columns)
        )

    def keys(self, operator: ObservationOperator) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
        """Return a whole number along y and one along x for every observation, `RESOLUTION` of them a cell."""
        with torch.no_grad():
            places = [operator(each).double().numpy() for each in (self._rows, self._columns)]
        y, x = (np.rint(each * RESOLUTION).astype(np.int64) for each in places)
        return y, x

    def variables(self, operator: ObservationOperator) -> Int64[np.ndarray, "n"]:
        """Return which variable every observation is of, `SEVERAL` where it is of several."""
        state = torch.ones(self.shape)
        with torch.no_grad():
            plain = operator(state)
            moved = []
            for k in range(self.shape[0]):
                other = state.clone()
                other[k] += 1
                moved.append((operator(other) - plain).abs() > 1e-6)
        felt = torch.stack(moved).numpy()
        return np.where(felt.sum(axis=0) == 1, felt.argmax(axis=0), SEVERAL).astype(np.int64)

    @staticmethod
    def index_of(key: np.ndarray) -> np.ndarray:
        """Return the fractional indices along an axis that keys stand for."""
        return np.asarray(key / RESOLUTION - 1)
