r"""score_sde: NCSN++ checkpoints of variance-exploding diffusion, by the order of their modules.

A checkpoint is ``{model, ema, optimizer, step}``. The averaged weights are a list without names: the parameters with
gradients, in the order of the state dict (all but ``sigmas`` and the frequencies of the Fourier features). Their number
and every shape are compared, so a list in another order is refused wherever shapes can tell. The network is a list of
modules (``all_modules.N``) that is walked; what a module is follows from the names inside it. The output is the score.
Source: Song et al. 2021 (arXiv 2011.13456), and the checkpoints of DiffusionMBIR (arXiv 2211.10655).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from priors.adapters.foreign import Foreign, Told, as_float, best_state, refuse, told_or
from priors.adapters.inert import StandIn
from priors.diffusion.conditioning import Sigma
from priors.diffusion.parametrisation import Score
from priors.diffusion.schedule import Geometric
from priors.networks.ncsnpp import NCSNpp
from priors.runtime.errors import InputError

FAMILY = "score-sde"
FROZEN = ("sigmas", "all_modules.0.W")


def claims(source: Path, content: Any) -> bool:
    """Tell whether a checkpoint holds the modules of score_sde."""
    return "all_modules.0.W" in best_state(content, "model")[0]


def read(source: Path, content: Any, told: Told) -> Foreign:
    """Read a checkpoint.

    Raises:
        InputError: a network of another kind, or averaged weights that do not fit it.
    """
    notes: list[str] = []
    state = {key: value for key, value in best_state(content, "model")[0].items() if key != "sigmas"}
    if told.weights != "model":
        state = averaged(source, state, content, notes)
    low = told_or(told.sigma_min, 0.01, "sigma_min", notes)
    high = told_or(told.sigma_max, 378.0, "sigma_max", notes)
    centred = told_or(told.centred, False, "centred", notes)
    try:
        schedule = Geometric(sigma_min=low, sigma_max=high)
    except ValidationError as error:
        raise InputError(f"{source}: {error.errors(include_url=False)[0]['msg']}") from error
    return Foreign(
        family=FAMILY,
        path=source,
        network=architecture(source, state, told, centred=centred),
        state=as_float(state),
        schedule=schedule,
        parametrisation=Score(),
        conditioning=Sigma(),
        size=None if told.size is None else (told.size, told.size),
        notes=tuple(notes),
    )


def averaged(source: Path, state: Mapping[str, Tensor], content: Any, notes: list[str]) -> dict[str, Tensor]:
    """Return the averaged weights by name.

    Raises:
        InputError: there are none, or their number or shapes are not those of the network.
    """
    ema = content.get("ema") if isinstance(content, Mapping) else None
    ema = ema.state if isinstance(ema, StandIn) else ema
    shadow = ema.get("shadow_params") if isinstance(ema, Mapping) else None
    if not isinstance(shadow, list):
        raise InputError(
            f"{source}: found no ema with shadow_params, expected them (or weights=model for the last step's)"
        )
    names = [key for key in state if key not in FROZEN]
    if len(names) != len(shadow):
        raise InputError(
            f"{source}: ema: found {len(shadow)} tensors, expected {len(names)}: one per weight of the network"
        )
    for name, value in zip(names, shadow, strict=True):
        if not isinstance(value, Tensor) or value.shape != state[name].shape:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise InputError(
                f"{source}: ema: found {found} in the place of {name} {tuple(state[name].shape)}"
            )
    notes.append("weights from 'ema', named by their order")
    return {**state, **dict(zip(names, shadow, strict=True))}


def architecture(source: Path, state: Mapping[str, Tensor], told: Told, *, centred: bool) -> NCSNpp:
    """Return the network whose modules these are.

    Raises:
        InputError: they are those of another network, or ``size`` must be told to place attention.
    """
    kinds = _kinds(state)
    width = state["all_modules.0.W"].shape[0]
    if kinds[:4] != ["fourier", "linear", "linear", "conv"]:
        raise refuse(source, "its first modules are not those of NCSN++ with Fourier features")
    try:
        levels, attention, blocks = _walk(kinds, state, width)
        network = NCSNpp(
            field_channels=state["all_modules.3.weight"].shape[1],
            width=width,
            multipliers=levels,
            blocks=blocks,
            attention=attention,
            progressive="output_skip" if "norm" in kinds[:-2] else "none",
            progressive_input="residual"
            if "pyramid" in kinds
            else "input_skip"
            if "combine" in kinds
            else "none",
            centred=centred,
        )
    except (ValueError, IndexError, KeyError) as error:
        raise refuse(
            source, f"its modules do not follow the order of NCSN++ ({' '.join(str(error).split())[:80]})"
        ) from error
    return network


def _kinds(state: Mapping[str, Tensor]) -> list[str]:
    """Return what every module is, by the names inside it."""
    inside: dict[int, set[str]] = {}
    for key in state:
        parts = key.split(".")
        if parts[0] == "all_modules":
            inside.setdefault(int(parts[1]), set()).add(".".join(parts[2:]))
    return [
        _kind(names, state[f"all_modules.{n}.{min(names)}"], state, n) for n, names in sorted(inside.items())
    ]


def _kind(names: set[str], _: Tensor, state: Mapping[str, Tensor], number: int) -> str:
    if "W" in names:
        return "fourier"
    if "NIN_0.W" in names and "Conv_0.weight" not in names:
        return "attention"
    if "GroupNorm_0.weight" in names:
        same = state[f"all_modules.{number}.Conv_0.weight"].shape
        return "resampling" if "Conv_2.weight" in names and same[0] == same[1] else "block"
    if "Conv2d_0.weight" in names:
        return "pyramid"
    if "Conv_0.weight" in names:
        return "combine"
    return {1: "norm", 2: "linear", 4: "conv"}[state[f"all_modules.{number}.weight"].ndim]


def _walk(
    kinds: list[str], state: Mapping[str, Tensor], width: int
) -> tuple[tuple[int, ...], tuple[bool, ...], int]:
    """Return multipliers, attention and blocks per level, read off the way down."""
    place, multipliers, attention, counts = 4, [], [], []
    middle = _middle(kinds)
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
        while place < middle and kinds[place] in ("resampling", "pyramid", "combine"):
            place += 1
    if len(set(counts)) != 1:
        raise ValueError(f"blocks per level: {counts}")
    return tuple(multipliers), tuple(attention), counts[0]


def _middle(kinds: list[str]) -> int:
    """Return where the middle begins: block, attention, block after the last level's blocks."""
    downs = [n for n, kind in enumerate(kinds) if kind == "resampling"]
    ups = len(downs) // 2
    begin = downs[ups - 1] + 1 if ups else 4
    while begin < len(kinds) and kinds[begin] in ("pyramid", "combine"):
        begin += 1
    run = begin
    while run < len(kinds) and kinds[run] in ("block", "attention"):
        run += 1
    # The way down's last level has n blocks, the way up's first n + 1; the middle's two stand between them.
    blocks = [n for n in range(begin, run) if kinds[n] == "block"]
    count = (len(blocks) - 3) // 2
    return blocks[count]
