r"""OpenAI's guided-diffusion checkpoints: a flat state dict, whose network is inferred and becomes a ``UNet2DModel``.

The names and shapes tell dimensions, channels, width, multipliers, blocks per level, levels with attention, the kind of
resampling, scale-shift normalisation, classes and a learned variance (twice the output channels, dropped). They do
not tell how attention's packed weights are cut: how many heads, by head first (``old``) or by query, key and value
first (``new``, ``use_new_attention_order``). Every way fits the shapes, and all but one give noise. Nor do they tell
the betas. Source: Dhariwal and Nichol 2021 (arXiv 2105.05233) and its code.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from priors.adapters.foreign import TARGETS, Foreign, Told, as_float, best_state, refuse, stated_or
from priors.diffusion.conditioning import LogRatio, Step
from priors.diffusion.parametrisation import Preconditioned
from priors.diffusion.schedule import EDM, Betas
from priors.networks import DiffusersUNet

FAMILY = "guided-diffusion"
RESNET = (
    ("in_layers.0.", "norm1."),
    ("in_layers.2.", "conv1."),
    ("emb_layers.1.", "time_emb_proj."),
    ("out_layers.0.", "norm2."),
    ("out_layers.3.", "conv2."),
    ("skip_connection.", "conv_shortcut."),
)
FLAT = (
    ("time_embed.0.", "time_embedding.linear_1."),
    ("time_embed.2.", "time_embedding.linear_2."),
    ("label_emb.", "class_embedding."),
    ("input_blocks.0.0.", "conv_in."),
    ("middle_block.0.", "mid_block.resnets.0."),
    ("middle_block.1.", "mid_block.attentions.0."),
    ("middle_block.2.", "mid_block.resnets.1."),
    ("out.0.", "conv_norm_out."),
    ("out.2.", "conv_out."),
)


@dataclass(frozen=True)
class Architecture:
    """What names and shapes tell of a guided-diffusion network.

    Attributes:
        channels: of the input.
        outputs: channels of the output.
        widths: channels by level.
        blocks: residual blocks per level.
        attention: which levels attend.
        resampling: ``conv`` or ``resnet``.
        scale_shift: normalisation by scale and shift.
        classes: number of classes, None without.
    """

    channels: int
    outputs: int
    widths: tuple[int, ...]
    blocks: int
    attention: tuple[bool, ...]
    resampling: str
    scale_shift: bool
    classes: int | None


def claims(source: Path, content: Any) -> bool:
    """Tell whether a checkpoint is a guided-diffusion state dict."""
    state = best_state(content)[0]
    return (
        "input_blocks.0.0.weight" in state
        and "out.2.weight" in state
        and "middle_block.1.qkv.weight" in state
    )


def read(source: Path, content: Any, told: Told) -> Foreign:
    """Read a state dict.

    Raises:
        InputError: the network is none that can be converted, or cannot be a prior.
    """
    state, which = best_state(content, told.weights)
    notes = [f"weights from {which!r}"] if which else []
    found = architecture(source, state)
    known = told.head_width is not None or told.heads is not None
    order = stated_or(told.qkv, "old", "qkv order", notes)
    if found.outputs in (2, 2 * found.channels):
        notes.append("learned variance dropped")
    network = DiffusersUNet(
        config=configuration(found, told),
        label=told.label,
        heads=told.heads if told.head_width is None else None,
    )
    weights = converted(source, as_float(state), found, heads=_heads(found, told), order=order)
    schedule, parametrisation, conditioning = levels(told, notes)
    return Foreign(
        family=FAMILY,
        path=source,
        network=network,
        state={f"module.{key}": value for key, value in weights.items()},
        schedule=schedule,
        parametrisation=parametrisation,
        conditioning=conditioning,
        size=None if told.size is None else (told.size, told.size),
        notes=tuple(notes),
        missing=() if known else ("heads= or head_width=",),
    )


def levels(told: Told, notes: list[str]) -> tuple[Any, Any, Any]:
    """Return schedule, parametrisation and conditioning as told, else as the code's flags have them by default."""
    target = stated_or(told.target, "noise", "target", notes)
    if target == "edm":
        sigmas = EDM(sigma_min=told.sigma_min or 0.002, sigma_max=told.sigma_max or 80.0)
        return sigmas, Preconditioned(sigma_data=0.5), LogRatio(factor=250.0)
    steps = stated_or(told.steps, 1000, "steps", notes)
    kind = stated_or(told.betas, "linear", "betas", notes)
    # The code scales its linear betas with the number of steps, so that the last level stays the same.
    start, stop = told.start or 0.1 / steps, told.stop or 20.0 / steps
    factor = stated_or(told.times, 1.0, "factor of times", notes)
    return Betas(kind=kind, start=start, stop=stop, count=steps), TARGETS[target](), Step(factor=factor)


def architecture(source: Path, state: Mapping[str, Tensor]) -> Architecture:
    """Return what names and shapes tell.

    Raises:
        InputError: they are those of no such network, or of one that cannot be converted.
    """
    first = state["input_blocks.0.0.weight"]
    if first.ndim != 4:
        raise refuse(
            source, f"its convolutions have {first.ndim - 2} dimension(s), expected 2: a prior of slices"
        )
    out_blocks, in_blocks = _count(state, "output_blocks"), _count(state, "input_blocks")
    ups = [n for n in range(out_blocks) if _ups(state, n)]
    depth = len(ups) + 1
    blocks = out_blocks // depth - 1
    if out_blocks % depth or in_blocks != depth * (blocks + 1) or blocks < 1:
        raise refuse(
            source,
            f"{in_blocks} blocks down and {out_blocks} up with {len(ups)} resamplings fit no such network "
            "with learned resampling (conv_resample=False is not supported)",
        )
    resnets = [1 + level * (blocks + 1) for level in range(depth)]
    widths = tuple(_size(source, state, f"input_blocks.{n}.0.out_layers.3.weight") for n in resnets)
    base = _size(source, state, "time_embed.0.weight", axis=1)
    if first.shape[0] != base or widths[0] != base:
        raise refuse(
            source,
            f"its first level has {widths[0]} channels for a base of {base}; only a factor of 1 converts",
        )
    outputs = _size(source, state, "out.2.weight")
    projected = _size(source, state, f"input_blocks.{resnets[0]}.0.emb_layers.1.weight")
    return Architecture(
        channels=first.shape[1],
        outputs=outputs,
        widths=widths,
        blocks=blocks,
        attention=tuple(f"input_blocks.{n}.1.qkv.weight" in state for n in resnets),
        resampling="conv" if any(".op.weight" in key for key in state) else "resnet",
        scale_shift=projected == 2 * widths[0],
        classes=state["label_emb.weight"].shape[0] if "label_emb.weight" in state else None,
    )


def configuration(found: Architecture, told: Told) -> dict[str, Any]:
    """Return the arguments of the ``UNet2DModel`` that is the network."""
    plain = "" if found.resampling == "conv" else "Resnet"
    down = [
        "AttnDownBlock2D" if attends else f"{plain}Down{'sample' * bool(plain)}Block2D"
        for attends in found.attention
    ]
    up = [
        "AttnUpBlock2D" if attends else f"{plain}Up{'sample' * bool(plain)}Block2D"
        for attends in found.attention
    ]
    return {
        "sample_size": told.size,
        "in_channels": found.channels,
        "out_channels": found.outputs,
        "block_out_channels": list(found.widths),
        "layers_per_block": found.blocks,
        "down_block_types": down,
        "up_block_types": up[::-1],
        "downsample_type": found.resampling,
        "upsample_type": found.resampling,
        "resnet_time_scale_shift": "scale_shift" if found.scale_shift else "default",
        "attention_head_dim": told.head_width or math.gcd(*found.widths),
        "attn_norm_num_groups": 32,
        "num_class_embeds": found.classes,
        "norm_num_groups": 32,
        "norm_eps": 1e-5,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
    }


def converted(
    source: Path, state: Mapping[str, Tensor], found: Architecture, *, heads: Any, order: str
) -> dict[str, Tensor]:
    """Return the weights by the names of ``UNet2DModel``.

    Args:
        source: for errors.
        state: the weights, float32.
        found: the architecture.
        heads: channels of an attention block to its number of heads.
        order: of the packed weights, ``old`` or ``new``.

    Raises:
        InputError: a name or a shape that no network of this kind has.
    """
    result: dict[str, Tensor] = {}
    for key, value in state.items():
        name = _renamed(key, found)
        if name is None:
            raise refuse(source, f"holds {key!r}, which no network of guided-diffusion has")
        if ".qkv." in name:
            result.update(_unpacked(source, name, value, heads=heads, order=order))
        else:
            matrix = ".to_out." in name and value.ndim == 3
            result[name] = value[..., 0] if matrix else value
    return result


def _heads(found: Architecture, told: Told) -> Any:
    def count(channels: int) -> int:
        return channels // told.head_width if told.head_width is not None else int(told.heads or 1)

    return count


def _renamed(key: str, found: Architecture) -> str | None:
    """Return the name of a weight in ``UNet2DModel``, None where there is none."""
    for old, new in FLAT:
        if key.startswith(old):
            return _inside(new + key.removeprefix(old))
    match = re.fullmatch(r"(input|output)_blocks\.(\d+)\.(\d+)\.(.+)", key)
    if match is None:
        return None
    side, number, layer, rest = match[1], int(match[2]), int(match[3]), match[4]
    if side == "input":
        level, place = divmod(number - 1, found.blocks + 1)
        block = f"down_blocks.{level}."
        if place == found.blocks:
            return _inside(f"{block}downsamplers.0." + rest.replace("op.", "conv."))
    else:
        level, place = divmod(number, found.blocks + 1)
        block = f"up_blocks.{level}."
        if layer > 0 and not rest.startswith(("qkv.", "norm.", "proj_out.")):
            return _inside(f"{block}upsamplers.0." + rest)
    return _inside(block + (f"resnets.{place}." if layer == 0 else f"attentions.{place}.") + rest)


def _inside(name: str) -> str:
    """Return a name with the parts of residual and attention blocks renamed."""
    for old, new in RESNET:
        name = name.replace(old, new)
    if ".attentions." in name:
        name = name.replace(".norm.", ".group_norm.").replace(".proj_out.", ".to_out.0.")
    return name


def _unpacked(source: Path, name: str, packed: Tensor, *, heads: Any, order: str) -> dict[str, Tensor]:
    """Return query, key and value weights of a packed one (3 c, ...)."""
    channels = packed.shape[0] // 3
    count = heads(channels)
    if packed.shape[0] % 3 or count < 1 or channels % count:
        raise refuse(source, f"{channels} channels of attention cannot be cut into {count} heads")
    packed = packed[..., 0] if packed.ndim == 3 else packed
    width = channels // count
    shape = (count, 3, width) if order == "old" else (3, count, width)
    cut = packed.reshape(*shape, *packed.shape[1:]).movedim(1 if order == "old" else 0, 0)
    parts = cut.reshape(3, channels, *packed.shape[1:])
    return {
        name.replace(".qkv.", f".to_{kind}."): part.contiguous()
        for kind, part in zip("qkv", parts, strict=True)
    }


def _count(state: Mapping[str, Tensor], side: str) -> int:
    numbers = [
        int(key.split(".")[1]) for key in state if key.startswith(side + ".") and key.split(".")[1].isdigit()
    ]
    return max(numbers, default=-1) + 1


def _ups(state: Mapping[str, Tensor], number: int) -> bool:
    """Tell whether an output block ends with a resampling."""
    later = (1, 2)
    names = [
        f"output_blocks.{number}.{layer}.{part}"
        for layer in later
        for part in ("conv.weight", "in_layers.0.weight")
    ]
    return any(name in state for name in names)


def _size(source: Path, state: Mapping[str, Tensor], key: str, *, axis: int = 0) -> int:
    found = state.get(key)
    if found is None or found.ndim <= axis:
        raise refuse(source, f"{key!r} is missing, which every network of guided-diffusion has")
    return int(found.shape[axis])
