"""Networks of EDM's code as a `SongUNet`: from the arguments of their class, and their weights by our names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from priors.adapters.foreign import Told, refuse
from priors.networks.song_unet import SongUNet
from priors.networks.song_unet.description import Module
from priors.runtime.errors import InputError

# Arguments the classes have by default (Karras et al. 2022, Table 7).
USUAL: dict[str, dict[str, Any]] = {
    "SongUNet": {
        "model_channels": 128, "channel_mult": (1, 2, 2, 2), "num_blocks": 4, "attn_resolutions": (16,),
    },
    "DhariwalUNet": {
        "model_channels": 192, "channel_mult": (1, 2, 3, 4), "num_blocks": 3, "attn_resolutions": (32, 16, 8),
    },
}  # fmt: skip
# How a module's name ends, by what it is.
ENDINGS = {
    "conv": "_conv", "down": "_down", "up": "_up", "shrink": "_aux_down", "join": "_aux_skip",
    "residual": "_aux_residual", "grow": "_aux_up", "norm": "_aux_norm", "output": "_aux_conv",
}  # fmt: skip


def architecture(source: Path, kind: str, arguments: Mapping[str, Any], told: Told) -> tuple[SongUNet, int]:
    """Return the network of the arguments of a class, and the side of its training images.

    Raises:
        InputError: arguments that are missing or fit no such network.
    """
    given = {**USUAL[kind], **arguments}
    try:
        side, multipliers = int(given["img_resolution"]), tuple(int(n) for n in given["channel_mult"])
        taken, gives = int(given["in_channels"]), int(given["out_channels"])
        if gives not in (taken, 2 * taken):
            raise refuse(source, f"takes {taken} channels and gives {gives}: it is conditioned on an image")
        places = {int(n) for n in given["attn_resolutions"]}
        network = SongUNet(
            variant="song" if kind == "SongUNet" else "dhariwal",
            field_channels=taken,
            learned_variance=gives == 2 * taken,
            width=int(given["model_channels"]),
            multipliers=multipliers,
            blocks=int(given["num_blocks"]),
            attention=tuple(side >> level in places for level in range(len(multipliers))),
            embedding=given.get("embedding_type", "positional"),
            noise_factor=int(given.get("channel_mult_noise", 1)),
            embedding_factor=int(given.get("channel_mult_emb", 4)),
            taps=tuple(float(tap) for tap in given.get("resample_filter", (1, 1))),
            encoder=given.get("encoder_type", "standard"),
            decoder=given.get("decoder_type", "standard"),
            classes=int(given.get("label_dim", 0)) or None,
            label=told.label,
        )
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        name = ".".join(str(part) for part in detail["loc"])
        raise InputError(f"{source}: {kind}: {name}: {' '.join(str(detail['msg']).split())}") from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        told_by = " ".join(str(error).split())[:80]
        raise InputError(f"{source}: {kind}: arguments that cannot be used ({told_by})") from error
    return network, side


def converted(
    source: Path, state: Mapping[str, Tensor], network: SongUNet, arguments: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return the weights by our names.

    Raises:
        InputError: parts are missing or left over, or filter otherwise than the arguments say.
    """
    left = dict(state)
    left.pop("map_augment.weight", None)
    result: dict[str, Tensor] = {}
    if network.embedding == "fourier":
        result["frequencies"] = _taken(source, left, "map_noise.freqs")
    for layer in ("map_layer0", "map_layer1", "map_label"):
        for part in ("weight", "bias"):
            if f"{layer}.{part}" in left:
                result[f"{layer}.{part}"] = left.pop(f"{layer}.{part}")
    for ours, theirs, modules in (
        ("encoder", "enc", network.encoder_modules()),
        ("decoder", "dec", network.decoder_modules()),
    ):
        names = _names(source, state, theirs, modules, network)
        for place, (own, name) in enumerate(zip(modules, names, strict=True)):
            for key in [key for key in left if key.startswith(f"{name}.")]:
                rest, value = key.removeprefix(f"{name}."), left.pop(key)
                if rest.endswith("resample_filter"):
                    _check_filter(source, key, value, network)
                else:
                    rest = "conv.weight" if own.kind == "residual" and rest == "weight" else rest
                    result[f"{ours}.{place}.{rest}"] = value
    if left:
        raise InputError(f"{source}: holds {next(iter(left))!r}, which its network has no place for")
    return result


def _names(
    source: Path, state: Mapping[str, Tensor], side: str, modules: Sequence[Module], network: SongUNet
) -> list[str]:
    """Return the names of the modules of one side, in order.

    Raises:
        InputError: they are not those of such a network.
    """
    found = list(dict.fromkeys(".".join(key.split(".")[:2]) for key in state if key.startswith(f"{side}.")))
    if side == "dec" and network.variant == "dhariwal":
        found += ["out_norm", "out_conv"]
    fits = len(found) == len(modules)
    for own, name in zip(modules, found, strict=False):
        tail = name.split("_")[-1]
        if own.kind in ("block", "middle"):
            fits &= tail.startswith("block" if own.kind == "block" else "in")
        elif not name.startswith("out_"):
            # "_aux_down" ends as "_down" does.
            fits &= name.endswith(ENDINGS[own.kind]) and ("_aux_" in name) == ("_aux_" in ENDINGS[own.kind])
    if not fits:
        raise refuse(source, f"the parts of its {side!r} are not those that its arguments describe")
    return found


def _taken(source: Path, state: dict[str, Tensor], name: str) -> Tensor:
    if name not in state:
        raise InputError(f"{source}: {name} is missing, expected it")
    return state.pop(name)


def _check_filter(source: Path, name: str, found: Tensor, network: SongUNet) -> None:
    taps = torch.tensor(network.taps) / sum(network.taps)
    square = torch.outer(taps, taps)
    if found.shape[-2:] != square.shape or not torch.allclose(found.reshape(square.shape), square, atol=1e-5):
        raise refuse(source, f"{name} is another filter than its arguments say ({network.taps})")
