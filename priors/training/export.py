"""From a trained network to a prior folder: card.yaml and model.safetensors, loadable like any other."""

from pathlib import Path

import torch

from priors.adapters.native import read_weights, write_weights
from priors.card import Prior, PriorCard, file_sha256, load_prior, self_test_errors
from priors.diffusion.denoiser import NetworkDenoiser
from priors.runtime.config import to_yaml
from priors.runtime.files import atomic
from priors.training.config import Training
from priors.training.task import TrainingTask


def export_prior(
    denoiser: NetworkDenoiser, config: Training, folder: Path, *, command: str, subject: TrainingTask
) -> PriorCard:
    """Write the prior and return its card.

    Weights are stored as float16; the errors on the card are measured with the stored weights.

    Args:
        denoiser: the trained denoiser (averaged weights).
        config: what it was trained with.
        folder: where to write.
        command: the command that made it, for the card.
        subject: the data it was trained on.

    Raises:
        InputError: the folder cannot be written, or the prior fails its self-test: training was too short.
    """
    weights = folder / "model.safetensors"
    write_weights(denoiser.network, weights, dtype=torch.float16)
    read_weights(denoiser.network, weights)
    denoiser = NetworkDenoiser(
        denoiser.network, schedule=config.card_schedule, parametrisation=config.parametrisation
    ).eval()
    card = PriorCard(
        name=config.name,
        sha256=file_sha256(weights),
        network=config.network,
        schedule=config.card_schedule,
        parametrisation=config.parametrisation,
        codec=config.codec,
        training=command,
        **subject.card(denoiser),
    )
    seen = self_test_errors(Prior.assembled(denoiser, card))
    card = card.model_copy(
        update={"self_test": {level: float(f"{error:.4g}") for level, error in seen.items()}}
    )
    with atomic(folder / "card.yaml") as temporary:
        temporary.write_text(to_yaml(card), encoding="utf-8")
    return load_prior(folder).card
