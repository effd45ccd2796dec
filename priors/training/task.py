"""What a run trains on: data, losses, held-out figures and the page for the eye, of slices or of trajectories.

The loop, the checkpoints, the averaging, the plan and the export know nothing else about the data.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from priors.card import Prior
from priors.diffusion.denoiser import NetworkDenoiser


@dataclass(frozen=True)
class Probe:
    """A small input whose saved activations, times ``factor``, are those of the largest batch."""

    x: Tensor
    t: Tensor
    factor: float


class TrainingTask(ABC):
    """Interface; a subject is opened from its configuration and holds its data."""

    def fit(self, network: nn.Module) -> bool:
        """Set what a network takes from the data before training, and tell whether it takes anything."""
        return False

    @abstractmethod
    def loss(self, denoiser: NetworkDenoiser, step: int) -> Float[Tensor, ""]:
        """Return the loss of one step's batch, a pure function of the weights and (seed, step)."""

    @abstractmethod
    def held_out(self, denoiser: NetworkDenoiser) -> dict[str, float]:
        """Return the figures on validation data."""

    @abstractmethod
    def score(self, figures: dict[str, float]) -> float:
        """Return one number of `held_out`, larger is better; the best weights are kept."""

    @abstractmethod
    def size_bytes(self) -> int:
        """Return the size of the data in memory."""

    @abstractmethod
    def probe(self) -> Probe:
        """Return the input that the plan measures memory on."""

    @abstractmethod
    def variants(self) -> Sequence[tuple[float, "TrainingTask"]]:
        """Return one subject per batch shape, with the share of steps that have it."""

    @abstractmethod
    def card(self, denoiser: NetworkDenoiser) -> dict[str, Any]:
        """Return the fields of the prior's card that come from the data and its held-out part."""

    @abstractmethod
    def save_page(self, prior: Prior, path: Path) -> None:
        """Write a PNG of unconditional samples beside held-out data."""
