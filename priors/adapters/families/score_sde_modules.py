"""The list of modules of a score_sde network: which network it is, and its weights by the names of a `SongUNet`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from priors.adapters.foreign import refuse
from priors.networks.song_unet import SongUNet
from priors.networks.song_unet.description import Module

FIR, MEAN = (1.0, 3.0, 3.0, 1.0), (1.0, 1.0)
BLOCK = {
    "GroupNorm_0": "norm0", "Conv_0": "conv0", "Dense_0": "affine", "GroupNorm_1": "norm1", "Conv_1": "conv1",
    "Conv_2": "skip",
}  # fmt: skip


def architecture(source: Path, state: Mapping[str, Tensor], *, centred: bool, fir: bool) -> SongUNet:
    """Return the network whose modules these are.

    Raises:
        InputError: they are those of another network.
    """
    try:
        kinds = _kinds(state)
        embedding = "fourier" if kinds[0] == "fourier" else "positional"
        begin = 3 if embedding == "fourier" else 2
        if kinds[begin - 2 : begin + 1] != ["linear", "linear", "conv"]:
            raise ValueError("its first modules are not two linear layers and a convolution")
        width = state[f"all_modules.{begin}.weight"].shape[0]
        multipliers, attention, blocks = _walk(kinds, state, width, begin + 1)
        pyramids = {"pyramid": "residual", "combine": "skip"}
        return SongUNet(
            field_channels=state[f"all_modules.{begin}.weight"].shape[1],
            width=width,
            multipliers=multipliers,
            blocks=blocks,
            attention=attention,
            embedding=embedding,
            noise_factor=2 if embedding == "fourier" else 1,
            taps=FIR if fir else MEAN,
            encoder=next((pyramids[kind] for kind in kinds if kind in pyramids), "standard"),
            decoder="skip" if "norm" in kinds[:-2] else "standard",
            centred=centred,
        )
    except (ValueError, IndexError, KeyError, AttributeError) as error:
        raise refuse(
            source,
            f"its modules do not follow the order of NCSN++ or DDPM++ ({' '.join(str(error).split())[:80]})",
        ) from error


def converted(source: Path, state: Mapping[str, Tensor], network: SongUNet) -> dict[str, Tensor]:
    """Return the weights by our names.

    Raises:
        InputError: modules are missing or left over.
    """
    groups = _grouped(state)
    numbers: Iterator[int] = iter(sorted(groups))
    result: dict[str, Tensor] = {}
    try:
        if network.embedding == "fourier":
            result["frequencies"] = groups[next(numbers)]["W"]
        for layer in ("map_layer0", "map_layer1"):
            result |= _plain(groups[next(numbers)], layer)
        sides = {"encoder": network.encoder_modules(), "decoder": network.decoder_modules()}
        for side, modules in sides.items():
            for place, own in enumerate(modules):
                result |= _module(own, groups, numbers, f"{side}.{place}")
    except (KeyError, StopIteration, IndexError, RuntimeError) as error:
        raise refuse(source, "its modules do not follow the order of NCSN++ or DDPM++") from error
    left = list(numbers)
    if left:
        raise refuse(source, f"holds {len(left)} modules more than its network has")
    return result


def _module(
    own: Module, groups: Mapping[int, Mapping[str, Tensor]], numbers: Iterator[int], name: str
) -> dict[str, Tensor]:
    """Return the weights of one of our modules, from the next ones of theirs."""
    if own.kind in ("shrink", "grow"):
        return {}
    given = groups[next(numbers)]
    if own.kind in ("conv", "norm", "output"):
        return _plain(given, name)
    if own.kind == "join":
        return {f"{name}.{part}": given[f"Conv_0.{part}"] for part in ("weight", "bias")}
    if own.kind == "residual":
        return {f"{name}.conv.weight": given["Conv2d_0.weight"], f"{name}.bias": given["Conv2d_0.bias"]}
    found = {f"{name}.{BLOCK[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in given.items()}
    return found | _attention(groups[next(numbers)], name) if own.attends else found


def _plain(given: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {f"{name}.{part}": given[part] for part in ("weight", "bias")}


def _attention(given: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the packed weights of attention: query, key and value of a channel stand side by side."""
    matrices = [given[f"NIN_{n}.W"].T for n in range(4)]
    packed = torch.stack(matrices[:3], 1).flatten(0, 1)
    return {
        f"{name}.norm2.weight": given["GroupNorm_0.weight"],
        f"{name}.norm2.bias": given["GroupNorm_0.bias"],
        f"{name}.qkv.weight": packed[..., None, None].contiguous(),
        f"{name}.qkv.bias": torch.stack([given[f"NIN_{n}.b"] for n in range(3)], 1).flatten(),
        f"{name}.proj.weight": matrices[3][..., None, None].contiguous(),
        f"{name}.proj.bias": given["NIN_3.b"],
    }


def _grouped(state: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Return the weights by the number of their module."""
    groups: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "all_modules" and len(parts) > 2 and parts[1].isdigit():
            groups.setdefault(int(parts[1]), {})[".".join(parts[2:])] = value
    return groups


def _kinds(state: Mapping[str, Tensor]) -> list[str]:
    """Return what every module is, by the names inside it."""
    return [_kind(group) for _, group in sorted(_grouped(state).items())]


def _kind(group: Mapping[str, Tensor]) -> str:
    if "W" in group:
        return "fourier"
    if "NIN_0.W" in group and "Conv_0.weight" in group:
        raise ValueError("residual blocks of DDPM (resblock_type: ddpm) are not supported")
    if "NIN_0.W" in group:
        return "attention"
    if "GroupNorm_0.weight" in group:
        shape = group["Conv_0.weight"].shape
        return "resampling" if "Conv_2.weight" in group and shape[0] == shape[1] else "block"
    if "Conv2d_0.weight" in group:
        return "pyramid"
    if "Conv_0.weight" in group:
        if group["Conv_0.weight"].shape[-1] != 1:
            raise ValueError("resampling by a strided convolution is not supported")
        return "combine"
    return {1: "norm", 2: "linear", 4: "conv"}[group["weight"].ndim]


def _walk(
    kinds: list[str], state: Mapping[str, Tensor], width: int, place: int
) -> tuple[tuple[int, ...], tuple[bool, ...], int]:
    """Return multipliers, attention and blocks per level, read off the way down."""
    multipliers, attention, counts = [], [], []
    middle, last = _middle(kinds, place), place
    while place < middle:
        blocks, attends = 0, False
        while place < middle and kinds[place] in ("block", "attention"):
            attends |= kinds[place] == "attention"
            if kinds[place] == "block":
                blocks, last = blocks + 1, place
            place += 1
        multipliers.append(state[f"all_modules.{last}.Conv_0.weight"].shape[0] // width)
        attention.append(attends)
        counts.append(blocks)
        if place < middle and kinds[place] not in ("resampling", "pyramid", "combine"):
            raise ValueError(f"a {kinds[place]} among the blocks of the way down")
        while place < middle and kinds[place] in ("resampling", "pyramid", "combine"):
            place += 1
    if len(set(counts)) != 1:
        raise ValueError(f"blocks per level: {counts}")
    return tuple(multipliers), tuple(attention), counts[0]


def _middle(kinds: list[str], place: int) -> int:
    """Return where the middle begins: block, attention, block after the last level's blocks."""
    downs = [n for n, kind in enumerate(kinds) if kind == "resampling"]
    ups = len(downs) // 2
    begin = downs[ups - 1] + 1 if ups else place
    while begin < len(kinds) and kinds[begin] in ("pyramid", "combine"):
        begin += 1
    run = begin
    while run < len(kinds) and kinds[run] in ("block", "attention"):
        run += 1
    # The way down's last level has n blocks, the way up's first n + 1; the middle's two stand between them.
    blocks = [n for n in range(begin, run) if kinds[n] == "block"]
    count = (len(blocks) - 3) // 2
    if count < 1:
        raise ValueError("too few residual blocks")
    return blocks[count]
