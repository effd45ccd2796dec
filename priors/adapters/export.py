"""A prior in the layout of diffusers: a ``UNet2DModel``, a scheduler, and ``tomocast.json`` with what neither says.

``UNet2DModel.from_pretrained(FOLDER / "unet")`` reads the network. Of a native prior that is the network behind its
pixel-unshuffle stem: its channels are the pixels of a 2 x 2 block, and ``tomocast.json`` says so, as it says units,
range and what the network is told of the noise level. `import-prior` reads all of it back, a native network
as the native one, so that it gives the same bits again.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from priors.adapters.families.schedulers import config_of
from priors.adapters.layout import EXTRA, WEIGHTS
from priors.card import Prior, PriorCard
from priors.card.origin import Parent
from priors.networks import DiffusersUNet, MonaiUNet
from priors.networks.foreign import diffusers_class
from priors.runtime.errors import InputError
from priors.runtime.files.writing import atomic_folder

# MONAI's DiffusionModelUNet without attention and UNet2DModel are the same blocks under other names.
RENAMED = (
    (r"^time_embed\.0\.", "time_embedding.linear_1."),
    (r"^time_embed\.2\.", "time_embedding.linear_2."),
    (r"^middle_block\.resnet_1\.", "mid_block.resnets.0."),
    (r"^middle_block\.resnet_2\.", "mid_block.resnets.1."),
    (r"^out\.0\.", "conv_norm_out."),
    (r"^out\.2\.conv\.", "conv_out."),
    (r"\.downsampler\.op\.conv\.", ".downsamplers.0.conv."),
    (r"\.upsampler\.postconv\.conv\.", ".upsamplers.0.conv."),
    (r"\.skip_connection\.conv\.", ".conv_shortcut."),
    (r"(conv_in|conv1|conv2)\.conv\.", r"\1."),
)
CARRIED = (
    "name", "codec", "unit", "shape", "pixel_mm", "mirrored", "bfloat16", "fit", "trained_on", "licence", "citation",
    "parents",
)  # fmt: skip


def export_diffusers(prior: Prior, out: Path) -> None:
    """Write a slice prior as a folder of diffusers.

    Raises:
        InputError: its network or its levels have no counterpart there, or the folder holds something.
    """
    config, state, unshuffle = counterpart(prior)
    unet = diffusers_class("UNet2DModel")(**config)
    unet.load_state_dict(dict(state))
    scheduler = config_of(prior.card.schedule, prior.card.parametrisation)
    with atomic_folder(out) as folder:
        (folder / "unet").mkdir()
        (folder / "scheduler").mkdir()
        _write(folder / "unet" / "config.json", {"_class_name": "UNet2DModel", **config})
        save_file(
            {key: value.contiguous() for key, value in state.items()},
            folder / "unet" / f"{WEIGHTS}.safetensors",
        )
        _write(folder / "scheduler" / "scheduler_config.json", scheduler)
        index = {
            "_class_name": "DDPMPipeline",
            "unet": ["diffusers", "UNet2DModel"],
            "scheduler": ["diffusers", scheduler["_class_name"]],
        }
        _write(folder / "model_index.json", index)
        _write(folder / EXTRA, _extra(prior.card, unshuffle))


def counterpart(prior: Prior) -> tuple[dict[str, Any], Mapping[str, Tensor], int]:
    """Return configuration and weights of the ``UNet2DModel`` that is a prior's network, and its unshuffle factor.

    Raises:
        InputError: there is none.
    """
    entry = prior.card.network
    state = prior.network.state_dict()
    if isinstance(entry, DiffusersUNet):
        inner = {key.removeprefix("module."): value for key, value in state.items()}
        return dict(entry.config), inner, entry.unshuffle
    if not isinstance(entry, MonaiUNet) or not _is_plain(entry):
        raise InputError(
            f"export: prior {prior.card.name!r} has the network {entry.name!r}, which UNet2DModel cannot be; "
            "expected a U-Net without attention, classes, jumps and neighbours, or one imported from diffusers or "
            "guided-diffusion"
        )
    return _native_config(entry, prior.card), renamed(prior.network), entry.unshuffle


def _is_plain(entry: MonaiUNet) -> bool:
    """Tell whether diffusers' network has all that this one has."""
    return not (any(entry.attention) or entry.classes or entry.jumps or entry.neighbours > 1)


def renamed(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of our U-Net by diffusers' names."""
    found = {}
    for key, value in network.state_dict().items():
        name = key.removeprefix("unet.")
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        found[name] = value.float()
    return found


def restored(entry: MonaiUNet, state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the weights of an exported native network by our names again.

    Raises:
        InputError: they are not those of such a network.
    """
    with torch.device("meta"):
        outline = entry.build()
    names = {theirs: ours for ours, theirs in zip(outline.state_dict(), renamed(outline), strict=True)}
    unknown = sorted(state.keys() - names.keys())
    if unknown:
        raise InputError(
            f"{path}: holds {unknown[0]!r}, which the network it says it was exported from has not"
        )
    return {names[key]: value for key, value in state.items()}


def _native_config(entry: MonaiUNet, card: PriorCard) -> dict[str, Any]:
    depth, packed = len(entry.channels), entry.field_channels * entry.unshuffle**2
    return {
        "sample_size": card.shape[-1] // entry.unshuffle,
        "in_channels": packed,
        "out_channels": packed,
        "block_out_channels": list(entry.channels),
        "layers_per_block": entry.residual_blocks,
        "down_block_types": ["DownBlock2D"] * depth,
        "up_block_types": ["UpBlock2D"] * depth,
        "add_attention": False,
        "norm_num_groups": entry.norm_groups,
        "norm_eps": 1e-6,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
    }


def _extra(card: PriorCard, unshuffle: int) -> dict[str, Any]:
    """Return what the layout of diffusers has no field for."""
    stated = card.model_dump(mode="json")
    told = dict(stated["conditioning"])
    if isinstance(card.network, MonaiUNet):
        # The scale stands in front of MONAI's embedding; there it is part of what the network is told.
        told["factor"] = card.network.conditioning_scale
    native = stated["network"] if isinstance(card.network, MonaiUNet) else None
    itself = Parent(name=card.name, sha256=card.sha256, licence=card.licence, trained_on=card.trained_on)
    own = {key: stated[key] for key in CARRIED}
    own["parents"] = [itself.model_dump(mode="json"), *stated["parents"]]
    return {
        "tomocast": 1,
        "unshuffle": unshuffle,
        "label": getattr(card.network, "label", None),
        "conditioning": told,
        "native": native,
        "card": own,
    }


def _write(path: Path, tree: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
