"""What a run trains on: data, losses, held-out figures and the page for the eye, of slices or of trajectories.

The loop, the checkpoints, the averaging, the plan and the export know nothing else about the data.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from priors.card import Prior
from priors.diffusion.denoiser import NetworkDenoiser


@dataclass(frozen=True)
class Probe:
    """A small input whose saved activations, times ``factor``, are those of the largest batch."""

    x: Tensor
    t: Tensor
    factor: float


@dataclass(frozen=True)
class Batch:
    """Samples of one step: what a loss is made of, and nothing that is random any more.

    Attributes:
        x: clean samples in network units.
        noise: standard normal, same shape.
        t: their times, one per sample or per frame.
        counted: which values carry a loss; all where None.
        causal: whether frames see no later ones.
        labels: classes of the samples, where the network is told them.
        jump: how far the answers of a few-step network jump.
        mixing: share of the instantaneous velocity in their target.
    """

    x: Float[Tensor, "b ..."]
    noise: Float[Tensor, "b ..."]
    t: Float[Tensor, "b ..."]
    counted: Bool[Tensor, "b ..."] | None = None
    causal: bool = False
    labels: Int[Tensor, "b"] | None = None
    jump: Float[Tensor, "b"] | None = None
    mixing: float = 1.0

    @property
    def values(self) -> int:
        """Number of values that carry a loss."""
        return self.x.numel() if self.counted is None else int(self.counted.sum())

    def to(self, dtype: torch.dtype) -> "Batch":
        """Return the batch with fields of another precision."""
        return replace(self, x=self.x.to(dtype), noise=self.noise.to(dtype))


class TrainingTask(ABC):
    """Interface; a subject is opened from its configuration and holds its data."""

    def fit(self, network: nn.Module) -> bool:
        """Set what a network takes from the data before training, and tell whether it takes anything."""
        return False

    @abstractmethod
    def batch_size(self, step: int) -> int:
        """Return the number of samples of a step, of all processes together."""

    @abstractmethod
    def batch(self, step: int, samples: range) -> Batch:
        """Return samples of a step: a function of (seed, step, number of the sample), whoever asks."""

    @abstractmethod
    def loss_sum(self, denoiser: NetworkDenoiser, batch: Batch) -> Float[Tensor, ""]:
        """Return the sum of the weighted errors over the values that carry a loss."""

    def loss(self, denoiser: NetworkDenoiser, step: int) -> Float[Tensor, ""]:
        """Return the mean loss of all samples of a step."""
        batch = self.batch(step, range(self.batch_size(step)))
        return self.loss_sum(denoiser, batch) / max(1, batch.values)

    @abstractmethod
    def held_out(self, denoiser: NetworkDenoiser) -> dict[str, float]:
        """Return the figures on validation data."""

    def memorisation(self, denoiser: NetworkDenoiser, held_out: dict[str, float]) -> dict[str, float]:
        """Return the figures of a validation's audits, see `priors.training.memorisation.onset`; none by default.

        Args:
            denoiser: in training, averaged.
            held_out: the figures of `held_out` of the same weights.
        """
        return {}

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
    def validation_probe(self) -> Probe:
        """Return the input of one call of a validation; ``factor`` is the number of such calls."""

    @abstractmethod
    def export_calls(self) -> float:
        """Return how many calls like the validation's the card and the page of samples take at the end."""

    @abstractmethod
    def variants(self) -> Sequence[tuple[float, "TrainingTask"]]:
        """Return one subject per batch shape, with the share of steps that have it."""

    @abstractmethod
    def card(self, denoiser: NetworkDenoiser) -> dict[str, Any]:
        """Return the fields of the prior's card that come from the data and its held-out part."""

    @abstractmethod
    def save_page(self, prior: Prior, path: Path) -> None:
        """Write a PNG of unconditional samples beside held-out data."""

    @abstractmethod
    def save_preview(self, denoiser: NetworkDenoiser, path: Path | None, *, levels: int) -> None:
        """Draw a few samples of a network in training, and write them as a PNG where a path is given."""
