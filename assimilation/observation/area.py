"""Area averages: what a coarse sensor sees, H(x)_j = (1/f^2) sum of the f x f cells of block j. Linear.

Blocks begin at the first grid line; a grid that they do not tile is refused rather than cut. On a sphere the
cells of one block differ in area by far less than an instrument's footprint is known, so they weigh the same.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from assimilation.observation.base import ObservationOperator
from priors.runtime.errors import InputError


@dataclass(frozen=True)
class BlockAverage(ObservationOperator):
    """Means over blocks of ``factor`` x ``factor`` cells, in the order (k, coarse y, coarse x).

    Attributes:
        factor: cells per block and axis.
    """

    factor: int

    def __call__(self, state: Float[Tensor, "*b k y x"]) -> Float[Tensor, "*b n"]:
        """Return the block means.

        Raises:
            InputError: blocks do not tile the grid.
        """
        rows, columns = state.shape[-2:]
        check_tiles((rows, columns), self.factor)
        blocks: Tensor = state.unflatten(-1, (columns // self.factor, self.factor))
        blocks = blocks.unflatten(-3, (rows // self.factor, self.factor))
        return blocks.mean(dim=(-3, -1)).flatten(-3)


def check_tiles(shape: tuple[int, int], factor: int) -> None:
    """Check that blocks of ``factor`` cells tile a grid.

    Raises:
        InputError: they do not.
    """
    if factor < 1 or any(size % factor for size in shape):
        raise InputError(
            f"factor: found {factor} for a grid of {shape[0]} x {shape[1]}, expected a divisor of both"
        )
