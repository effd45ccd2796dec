"""From a trained network to a prior folder: card.yaml and model.safetensors, loadable like any other."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from priors.card import (
    Prior,
    PriorCard,
    denoiser_of,
    file_sha256,
    load_prior,
    self_test_errors,
)
from priors.card.origin import Parent
from priors.card.weights import read_weights, write_weights
from priors.diffusion.denoiser import NetworkDenoiser
from priors.runtime.config import to_yaml
from priors.runtime.errors import warn
from priors.runtime.files.writing import atomic
from priors.training.configuration.config import Training
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
        denoiser.network,
        schedule=config.card_schedule,
        parametrisation=config.parametrisation,
        conditioning=config.conditioning,
    ).eval()
    ancestry = _ancestry(denoiser.network, config.initial)
    card = PriorCard(
        name=config.name,
        sha256=file_sha256(weights),
        network=config.network,
        schedule=config.card_schedule,
        parametrisation=config.parametrisation,
        codec=config.codec,
        conditioning=config.conditioning,
        training=command,
        **{**ancestry, **subject.card(denoiser)},
    )
    seen = self_test_errors(Prior.assembled(denoiser_of(card, denoiser.network), card))
    card = card.model_copy(
        update={"self_test": {level: float(f"{error:.4g}") for level, error in seen.items()}}
    )
    with atomic(folder / "card.yaml") as temporary:
        temporary.write_text(to_yaml(card), encoding="utf-8")
    return load_prior(folder).card


def _ancestry(network: nn.Module, initial: str | None) -> dict[str, Any]:
    """Return what the card says of the prior that training started from, and of its own ancestors.

    Where the best weights are still that prior's, a warning says so: training gained nothing on held-out data.
    """
    if initial is None:
        return {}
    parent = load_prior(initial)
    itself = Parent(
        name=parent.card.name,
        sha256=parent.card.sha256,
        licence=parent.card.licence,
        trained_on=parent.card.trained_on,
    )
    own = network.state_dict()
    known = parent.network.state_dict()
    unchanged = own.keys() == known.keys() and all(
        torch.equal(own[key].cpu(), value.half().to(value) if value.is_floating_point() else value)
        for key, value in known.items()
    )
    if unchanged:
        warn(
            f"prior {parent.card.name!r}: its weights are still the best on held-out data: exported unchanged"
        )
    return {
        "parents": (itself.model_copy(update={"unchanged": unchanged}), *parent.card.parents),
        "source": parent.card.source,
        "fit": parent.card.fit,
        "bfloat16": parent.card.bfloat16,
        "memory": parent.card.memory,
    }
