r"""MONAI: bundles with a ``DiffusionModelUNet`` over slices or blocks of slices, and bare state dicts of one.

A bundle's configuration is JSON whose strings may hold code (``$...``) and references (``@name``). References to plain
values are followed; code is never run, and a value that needs it must be told. State dicts of MONAI Generative, from
before it became part of MONAI, are renamed.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from priors.adapters.families.adm import levels
from priors.adapters.families.diffusers import read_json
from priors.adapters.foreign import Foreign, Told, as_float, best_state, refuse, stated_or
from priors.adapters.inert import read_tensors
from priors.diffusion.conditioning import Conditioning, Share, Step
from priors.diffusion.parametrisation import Clean, Flow, Noise, Parametrisation, Velocity
from priors.diffusion.schedule import Betas, Rectified, Schedule
from priors.networks import MonaiDiffusionUNet
from priors.runtime.errors import InputError

GROUPS = 32
"""Of a group norm, where nobody says otherwise."""
FAMILY = "monai"
NETWORKS = {
    "monai.networks.nets.DiffusionModelUNet",
    "monai.networks.nets.diffusion_model_unet.DiffusionModelUNet",
    "generative.networks.nets.DiffusionModelUNet",
    "generative.networks.nets.diffusion_model_unet.DiffusionModelUNet",
}
RULES = {
    "linear_beta": "linear", "scaled_linear_beta": "scaled_linear", "sigmoid_beta": "sigmoid", "cosine": "cosine",
    "linear": "linear", "scaled_linear": "scaled_linear", "sigmoid": "sigmoid",
}  # fmt: skip
MEANINGS: dict[str, Parametrisation] = {"epsilon": Noise(), "sample": Clean(), "v_prediction": Velocity()}
# Names of MONAI Generative, and what they became.
RENAMED = (
    (r"\.(to_[qkv])\.", r".attn.\1."),
    (r"\.proj_attn\.", ".attn.out_proj."),
    (r"upsampler\.conv\.", "upsampler.postconv."),
)


def claims(source: Path, content: Any) -> bool:
    """Tell whether a folder is a bundle of a diffusion model, or a checkpoint one of its networks."""
    if source.is_dir():
        return (source / "configs").is_dir() and any((source / "configs").glob("*.json"))
    state = best_state(content)[0]
    return "conv_in.conv.weight" in state and "middle_block.resnet_1.conv1.conv.weight" in state


def read(source: Path, content: Any, told: Told) -> Foreign:
    """Read a bundle, or a state dict.

    Raises:
        InputError: it is no prior of slices, is damaged, or lacks what nobody told.
    """
    notes: list[str] = []
    if source.is_dir():
        return _bundle(source, told, notes)
    state, which = best_state(content, told.weights)
    notes += [f"weights from {which!r}"] if which else []
    config, missing = inferred(source, state, told, notes)
    schedule, parametrisation, conditioning = levels(told, notes)
    return _foreign(source, config, state, (schedule, parametrisation, conditioning), told, notes, missing)


def _bundle(source: Path, told: Told, notes: list[str]) -> Foreign:
    tree: dict[str, Any] = {}
    files = sorted(
        (source / "configs").glob("*.json"), key=lambda path: (path.stem != "inference", path.stem)
    )
    for path in files:
        tree = {**read_json(path), **tree}
    if any(key.startswith("autoencoder") or key == "scale_factor" for key in tree):
        raise refuse(
            source, "its diffusion runs behind an autoencoder, whose code is not affine in the image"
        )
    key = next(
        (key for key in ("network_def", "diffusion_def", "unet_def", "network", "diffusion") if key in tree),
        None,
    )
    definition = tree.get(key or "")
    if key is None or not isinstance(definition, Mapping):
        raise InputError(
            f"{source}: found no network_def in configs/*.json, expected a bundle of a diffusion model"
        )
    target = str(definition.get("_target_"))
    if target not in NETWORKS:
        raise refuse(source, f"its network is {target!r}, expected a DiffusionModelUNet")
    config = {
        name: _plain(value, tree, f"{key}.{name}") for name, value in definition.items() if name[:1] != "_"
    }
    path = _weights(source, told)
    state, which = best_state(read_tensors(path), told.weights)
    notes += [f"weights from {path.name}" + (f", {which!r}" if which else "")]
    meaning = _meaning(source, tree, told, notes)
    return _foreign(path, config, state, meaning, told, notes, ())


def _foreign(
    path: Path,
    config: dict[str, Any],
    state: Mapping[str, Tensor],
    meaning: tuple[Schedule, Parametrisation, Conditioning],
    told: Told,
    notes: list[str],
    missing: tuple[str, ...],
) -> Foreign:
    if config.get("spatial_dims") not in (2, 3):
        raise refuse(
            path,
            f"its network is over {config.get('spatial_dims')} dimensions, expected 2 (slices) or 3 (blocks)",
        )
    if config.get("with_conditioning"):
        raise refuse(path, "its network is conditioned on a context that nobody could give it here")
    weights = renamed(as_float(state))
    return Foreign(
        family=FAMILY,
        path=path,
        network=MonaiDiffusionUNet(config=config, label=told.label),
        state={f"module.{key}": value for key, value in weights.items()},
        schedule=meaning[0],
        parametrisation=meaning[1],
        conditioning=meaning[2],
        size=None if told.size is None else (told.size, told.size),
        notes=tuple(notes),
        missing=missing,
    )


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by MONAI's present names."""
    if not any(re.search(pattern, key) for key in state for pattern, _ in RENAMED[1:]):
        return dict(state)
    found = {}
    for key, value in state.items():
        for pattern, replacement in RENAMED:
            key = re.sub(pattern, replacement, key)
        found[key] = value
    return found


def inferred(
    source: Path, state: Mapping[str, Tensor], told: Told, notes: list[str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the configuration that names and shapes of a state dict tell, and what they do not.

    Raises:
        InputError: they fit no such network.
    """
    depth = 1 + max(int(key.split(".")[1]) for key in state if re.match(r"down_blocks\.\d+\.", key))
    try:
        first, last = state["conv_in.conv.weight"], state["out.2.conv.weight"]
        channels = [state[f"down_blocks.{n}.resnets.0.conv1.conv.weight"].shape[0] for n in range(depth)]
    except KeyError as error:
        raise refuse(source, f"{error.args[0]!r} is missing, which every DiffusionModelUNet has") from error
    blocks = [
        len({key.split(".")[3] for key in state if key.startswith(f"down_blocks.{n}.resnets.")})
        for n in range(depth)
    ]
    classes = state.get("class_embedding.weight")
    # Norms cut the channels of every level into groups; 32 is MONAI's number where that is possible.
    lacking = () if told.head_width is not None else ("head_width=",)
    if told.groups is None and any(width % GROUPS for width in channels):
        lacking = (*lacking, "groups=")
    config = {
        "spatial_dims": first.ndim - 2,
        "in_channels": first.shape[1],
        "out_channels": last.shape[0],
        "channels": channels,
        "num_res_blocks": blocks,
        "attention_levels": [f"down_blocks.{n}.attentions.0.norm.weight" in state for n in range(depth)],
        "norm_num_groups": stated_or(told.groups, GROUPS, "groups of normalisation", notes),
        "num_head_channels": told.head_width or channels[-1],
        "resblock_updown": any(".downsampler.conv1." in key for key in state),
        "num_class_embeds": None if classes is None else classes.shape[0],
        "include_fc": any(re.search(r"\.(attn\.out_proj|proj_attn)\.weight", key) for key in state),
    }
    return config, lacking


def _weights(source: Path, told: Told) -> Path:
    """Return the bundle's file of weights.

    Raises:
        InputError: there is none, or several and nobody said which.
    """
    found = sorted(
        path for path in (source / "models").glob("*.pt") if path.suffix == ".pt" and path.stat().st_size
    )
    if len(found) > 1:
        found = [path for path in found if path.name in ("model.pt", "model_ema.pt", "diffusion_model.pt")][
            :1
        ]
    if not found:
        raise InputError(f"{source}: found no models/model.pt, expected the network's weights (a state dict)")
    return found[0]


def _meaning(
    source: Path, tree: Mapping[str, Any], told: Told, notes: list[str]
) -> tuple[Schedule, Parametrisation, Conditioning]:
    """Return what the bundle's scheduler says, else what was told."""
    key = next((key for key in ("noise_scheduler", "scheduler", "ddpm_scheduler") if key in tree), None)
    definition = tree.get(key or "")
    if not isinstance(definition, Mapping):
        return levels(told, notes)
    kind = str(definition.get("_target_")).rsplit(".", 1)[-1]
    given = {
        name: _plain(value, tree, f"{key}.{name}") for name, value in definition.items() if name[:1] != "_"
    }
    count = int(given.get("num_train_timesteps", 1000))
    if kind == "RFlowScheduler":
        return Rectified(), Flow(sign=-1), Share(factor=float(count))
    if kind not in ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler"):
        raise InputError(
            f"{source}: {key}: found {kind!r}, expected DDPMScheduler, DDIMScheduler, PNDM or RFlowScheduler"
        )
    rule, prediction = (
        given.get("schedule", given.get("beta_schedule", "linear_beta")),
        given.get("prediction_type", "epsilon"),
    )
    if rule not in RULES or prediction not in MEANINGS:
        raise InputError(f"{source}: {key}: schedule {rule!r} with prediction {prediction!r} is not known")
    try:
        betas = Betas(
            kind=RULES[rule],
            start=given.get("beta_start", 1e-4),
            stop=given.get("beta_end", 0.02),
            count=count,
        )
    except ValidationError as error:
        raise InputError(
            f"{source}: {key}: betas that cannot be used ({error.errors()[0]['msg']})"
        ) from error
    return betas, MEANINGS[prediction], Step()


def _plain(value: Any, tree: Mapping[str, Any], key: str, depth: int = 0) -> Any:
    """Return a value with references followed.

    Raises:
        InputError: it is code, or refers to what is not a plain value.
    """
    if isinstance(value, list):
        return [_plain(each, tree, key, depth) for each in value]
    if isinstance(value, Mapping) or depth > 8:
        raise InputError(f"{key}: found {str(value)[:60]!r}, expected a plain value")
    if isinstance(value, str) and value.startswith("$"):
        raise InputError(
            f"{key}: found {value[:60]!r}, which is code and is not run; write its value into a copy"
        )
    if isinstance(value, str) and value.startswith("@"):
        if value[1:] not in tree:
            raise InputError(f"{key}: found {value[:60]!r}, which refers to nothing in the configuration")
        return _plain(tree[value[1:]], tree, key, depth + 1)
    return value
