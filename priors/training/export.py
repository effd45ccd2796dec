"""From a trained network to a prior folder: card.yaml and model.safetensors, loadable like any other prior."""

from pathlib import Path

import torch
from omegaconf import OmegaConf

from priors.adapters.native import read_weights, write_weights
from priors.card import PriorCard, file_sha256
from priors.denoiser import NetworkDenoiser
from priors.runtime.files import atomic
from priors.training.config import TrainConfig
from priors.training.loop import denoising_psnr, validation_fields

HELD_OUT_FIELDS = 32


def export_prior(denoiser: NetworkDenoiser, config: TrainConfig, folder: Path, *, command: str) -> PriorCard:
    """Write the prior and return its card.

    Weights are stored as float16; the held-out errors on the card are measured with the stored weights.

    Args:
        denoiser: the trained denoiser (averaged weights).
        config: what it was trained with.
        folder: where to write.
        command: the command that made it, for the card.
    """
    weights = folder / "model.safetensors"
    write_weights(denoiser.network, weights, dtype=torch.float16)
    read_weights(denoiser.network, weights)
    fields = validation_fields(config.model_copy(update={"validation_fields": HELD_OUT_FIELDS}))
    psnr = denoising_psnr(denoiser, fields, config.validation_levels)
    card = PriorCard(
        name=config.name,
        sha256=file_sha256(weights),
        network=config.network,
        schedule=config.schedule,
        parametrisation=config.parametrisation,
        codec=config.codec,
        unit="HU",
        shape=tuple(fields.shape[-2:]),
        held_out_psnr={level: round(value, 2) for level, value in psnr.items()},
        training=command,
        **config.description.model_dump(),
    )
    with atomic(folder / "card.yaml") as temporary:
        OmegaConf.save(OmegaConf.create(card.model_dump(mode="json")), temporary)
    return card
