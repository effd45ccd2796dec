"""Checkpoints people have that cannot be priors, whatever is said about them: the reason, in one line."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from priors.adapters.foreign import best_state

FLAX = (".msgpack", ".flax")
# Folders of Orbax, with which JAX programs save.
ORBAX = ("_CHECKPOINT_METADATA", "_METADATA", "manifest.ocdbt")
# What latent diffusion (CompVis) keeps beside its network.
LATENT = ("first_stage_model.", "cond_stage_model.", "autoencoder.")
# OpenAI's consistency models, trained and distilled; their edm_* files are diffusion models.
CONSISTENCY = re.compile(r"^(ct|cd)_(imagenet64|bedroom256|cat256)", re.IGNORECASE)
LATENT_CHANNELS = 4


def refusal_by_name(source: Path) -> str | None:
    """Return why a file or folder cannot be a prior, by its name; None where it may be one."""
    if source.suffix in FLAX or _holds_jax(source):
        return "it is a JAX checkpoint, whose networks are programs of their own; export its weights to torch first"
    if CONSISTENCY.match(source.stem):
        return "it is a consistency model, which has no conditional mean (edm_*_ema.pt of the same code has)"
    return None


def refusal_of_content(content: Any) -> str | None:
    """Return why what a checkpoint holds cannot be a prior; None where it may be one."""
    state = best_state(content)[0]
    latent = next((prefix for prefix in LATENT if any(key.startswith(prefix) for key in state)), None)
    if latent is not None:
        return f"its diffusion runs behind {latent.rstrip('.')!r}, whose code is not affine in the image"
    embedder = state.get("x_embedder.proj.weight")
    if embedder is not None and embedder.ndim == 4 and embedder.shape[1] == LATENT_CHANNELS:
        return "it is a transformer over latents of four channels (DiT, SiT), whose code is not affine in the image"
    if isinstance(content, Mapping) and "encoder" in content and "ema" in content and not state:
        return "it keeps an encoder beside its network: its diffusion runs over latents, whose code is not affine"
    return None


def _holds_jax(source: Path) -> bool:
    if not source.is_dir():
        return False
    torch_files = (
        any(source.rglob("*.safetensors")) or any(source.rglob("*.bin")) or any(source.rglob("*.pt"))
    )
    return not torch_files and (
        any(source.rglob("*.msgpack")) or any((source / name).exists() for name in ORBAX)
    )
