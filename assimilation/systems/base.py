"""Systems whose behaviour is known: a Markov chain of states with a start that anyone can draw.

    x_0 ~ start,    x_{f+1} = step(x_f, draw),    frames are kept after ``spin_up`` steps

The step is the true model: it takes any batch of states, so an ensemble filter can use it as well. Every
trajectory has a generator of its own, made from (seed, place), so trajectory i of a seed is the same however many
are asked for (up to the rounding of the batched transforms).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from assimilation.fields.fields import Fields, Grid, Variable

START = np.datetime64("2000-01-01T00:00:00", "ns")
BATCH = 16
"""Trajectories advanced in one batch: enough to share the cost of a call, few enough for a processor's cache."""

Draws = torch.Generator | Sequence[torch.Generator]
"""One generator for a whole batch, or one per state of it."""


class System(BaseModel, ABC):
    """A model of how a state evolves, with its hyperparameters as fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    @abstractmethod
    def variables(self) -> tuple[Variable, ...]:
        """What the entries of a state along k are."""

    @property
    @abstractmethod
    def grid(self) -> Grid:
        """Where the points of a state lie."""

    if TYPE_CHECKING:
        # Declared by every system in its own place: the order of fields is that of its settings.
        frame: float

    @property
    def frame_s(self) -> float:
        """Seconds of physical time from one frame to the next; one unit of model time is one second."""
        return self.frame

    @property
    @abstractmethod
    def spin_up(self) -> int:
        """Steps from ``start`` until a state is typical of the system."""

    @abstractmethod
    def start(
        self, count: int, draws: Draws, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "b k y x"]:
        """Return states to begin with."""

    @abstractmethod
    def step(self, state: Float[Tensor, "b k y x"], draws: Draws) -> Float[Tensor, "b k y x"]:
        """Return the states one frame later, in the precision of ``state``.

        Args:
            state: physical values.
            draws: of the random forcing, where the system has one.
        """

    def initial(
        self, count: int, draws: Draws, *, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "b k y x"]:
        """Return states after the spin-up: draws from the system's climate."""
        state = self.start(count, draws, dtype=dtype)
        for _ in range(self.spin_up):
            state = self.step(state, draws)
        return state

    def times(self, frames: int) -> np.ndarray:
        """Return the times of the frames of a trajectory, datetime64[ns]."""
        elapsed = np.rint(1e9 * self.frame_s * np.arange(frames)).astype("timedelta64[ns]")
        return np.asarray(START + elapsed)


def simulate(
    system: System,
    *,
    trajectories: int,
    frames: int,
    seed: int,
    on_step: Callable[[], None] = lambda: None,
) -> Fields:
    """Return trajectories of a system.

    Args:
        system: what evolves.
        trajectories: how many.
        frames: of each, the first one after the spin-up.
        seed: of every random draw.
        on_step: called after each step of a batch; ``steps`` of them in all.
    """
    shape = (trajectories, frames, len(system.variables), *system.grid.shape)
    values = np.empty(shape, np.float32)
    for first in range(0, trajectories, BATCH):
        rows = range(first, min(first + BATCH, trajectories))
        draws = [generator(seed, row) for row in rows]
        state = system.start(len(rows), draws)
        for frame in range(-system.spin_up, frames):
            if frame > -system.spin_up:
                state = system.step(state, draws)
            if frame >= 0:
                values[first : first + len(rows), frame] = state.numpy()
            on_step()
    attributes = {"system": system.model_dump_json(), "seed": str(seed), "title": f"simulated {system!r}"}
    return Fields(values, system.times(frames), system.variables, system.grid, attributes)


def steps(system: System, *, trajectories: int, frames: int) -> int:
    """Return how often ``simulate`` calls ``on_step``."""
    return -(-trajectories // BATCH) * (system.spin_up + frames)


def generator(seed: int, number: int) -> torch.Generator:
    """Return the generator of one trajectory."""
    (word,) = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(word >> np.uint64(1)))


def normal(
    draws: Draws, count: int, shape: tuple[int, ...], *, dtype: torch.dtype
) -> Float[Tensor, "b *shape"]:
    """Return standard normal numbers for ``count`` states.

    They are drawn in double precision, so that a state in either precision meets the same forcing.
    """
    if isinstance(draws, torch.Generator):
        return torch.randn((count, *shape), generator=draws, dtype=torch.float64).to(dtype)
    if len(draws) != count:
        raise ValueError(f"found {len(draws)} generators for {count} states")
    return torch.stack([torch.randn(shape, generator=one, dtype=torch.float64) for one in draws]).to(dtype)
