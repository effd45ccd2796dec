"""The state of a diffusion reconstructor between two noise levels.

Everything a later level depends on is here, the generator and the chunk of slices included, so a run that was
interrupted continues to the same bits on the CPU.
"""

from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

Volumes = Float[Tensor, "z y x"]


@dataclass(frozen=True)
class DiffusionState:
    """What one level hands to the next.

    Attributes:
        done: noise levels finished, over all stages.
        u: diffusion state in u-coordinates, at the noise level that comes next.
        x: current estimate in network units.
        duals: dual arrays of the coupling.
        generator: state of the random generator.
        chunk: slices per network call; smaller than at the start where memory ran out.
        history: figures of every finished level.
    """

    done: int
    u: Volumes
    x: Volumes
    duals: dict[str, Tensor]
    generator: Tensor
    chunk: int
    history: list[dict[str, float]] = field(default_factory=list)
