"""Writing a prior folder: card.yaml and model.safetensors, whole or not at all."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from priors.card.description import PriorCard
from priors.card.self_test import self_test_errors
from priors.card.weights import file_sha256, write_weights
from priors.runtime.config import to_yaml
from priors.runtime.files.writing import atomic, atomic_folder

if TYPE_CHECKING:
    from priors.card.loading import Prior


def write_prior(prior: "Prior", folder: Path) -> PriorCard:
    """Write a prior with float32 weights, its self-test recorded; return the card written.

    Raises:
        InputError: the folder holds something, or cannot be written.
    """
    with atomic_folder(folder) as temporary:
        weights = temporary / "model.safetensors"
        write_weights(prior.network, weights, dtype=torch.float32)
        seen = self_test_errors(prior)
        record = {level: float(f"{error:.4g}") for level, error in seen.items()}
        changes = {"sha256": file_sha256(weights), "weights": weights.name, "self_test": record}
        card = prior.card.model_copy(update=changes)
        (temporary / "card.yaml").write_text(to_yaml(card), encoding="utf-8")
    return card


def replace_card(folder: Path, card: PriorCard) -> None:
    """Write another card beside the weights of a prior folder.

    Raises:
        InputError: the folder cannot be written.
    """
    with atomic(folder / "card.yaml") as temporary:
        temporary.write_text(to_yaml(card), encoding="utf-8")
