"""ForcingDAS: Lightning checkpoints of its space-time transformer (arXiv 2605.14285).

The state dict holds the betas and the mean and deviation that values were normalised with; the configuration is not in
the file. So field size, variables and time step must be told. What training predicted, with how many heads, and the
step that stood for a finished frame are taken as its configuration files have them, unless told. The data set may have
been rescaled before (its Navier-Stokes fields are brought to [0, 1]): ``variables`` state offset and scale of that.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from priors.adapters.foreign import TARGETS, Foreign, Told, as_float, refuse, stated_or
from priors.codec import FieldCodec
from priors.diffusion.conditioning import Step
from priors.diffusion.schedule import Discrete
from priors.networks.forcing_dit import ForcingDiT
from priors.runtime.errors import InputError

FAMILY = "forcingdas"
MODEL = "diffusion_model.model.module."
# Heads of the published sizes S, B, L and XL, by width.
HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}


def claims(source: Path, content: Any) -> bool:
    """Tell whether a checkpoint holds the transformer of ForcingDAS."""
    state = content.get("state_dict", content) if isinstance(content, Mapping) else {}
    return isinstance(state, Mapping) and f"{MODEL}pos_embed" in state


def read(source: Path, content: Any, told: Told) -> Foreign:
    """Read a checkpoint.

    Raises:
        InputError: it holds another network, or lacks the betas.
    """
    whole = content.get("state_dict", content)
    state = {str(key): value for key, value in whole.items() if isinstance(value, Tensor)}
    weights = {key.removeprefix(MODEL): value for key, value in state.items() if key.startswith(MODEL)}
    notes: list[str] = []
    missing = tuple(
        name for name, given in (("grid=", told.grid), ("variables=", told.variables), ("trajectory=", told.trajectory))
        if not given
    )  # fmt: skip
    network = _network(source, weights, told, notes)
    target = stated_or(told.target, "velocity", "target", notes)
    if target not in TARGETS:
        raise InputError(f"target: found {target!r}, expected one of {', '.join(TARGETS)}")
    clean = stated_or(told.clean_step, 14, "step of finished frames", notes)
    return Foreign(
        family=FAMILY,
        path=source,
        network=network,
        state=as_float(weights),
        schedule=_schedule(source, state),
        parametrisation=TARGETS[target](),
        conditioning=Step(clean=clean or None),
        size=told.grid,
        described={"trajectory": _trajectory(network, told)},
        codec=None if missing else codec(source, state, told),
        notes=tuple(notes),
        missing=missing,
    )


def _trajectory(network: ForcingDiT, told: Told) -> dict[str, Any]:
    """Return time and space as told; windows are those of training where nobody says how long."""
    frames = int(told.trajectory.get("frames", min(10, network.frames)))
    return {"frames": frames, "reanalysis": max(2, min(frames, network.frames)), **told.trajectory}


def codec(source: Path, state: Mapping[str, Tensor], told: Told) -> FieldCodec:
    """Return the codec of the variables: the data set's own normalisation followed by the file's.

    Raises:
        InputError: variables that do not fit.
    """
    channels = state[f"{MODEL}patch_embed.proj.weight"].shape[1]
    if len(told.variables) != channels:
        raise InputError(
            f"{source}: variables: found {len(told.variables)}, expected one per variable: {channels}"
        )
    mean, deviation = (
        _numbers(state, f"data_{kind}", len(told.variables), usual)
        for kind, usual in (("mean", 0.0), ("std", 1.0))
    )
    made = []
    for place, variable in enumerate(told.variables):
        offset, scale = float(variable.get("offset", 0.0)), float(variable.get("scale", 1.0))
        at, by = offset + scale * mean[place], scale * deviation[place]
        made.append({"low": at - 10 * by, "high": at + 10 * by, **variable, "offset": at, "scale": by})
    try:
        return FieldCodec.model_validate({"variables": made})
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in detail["loc"])
        raise InputError(f"{source}: {key}: {detail['msg']}") from error


def _numbers(state: Mapping[str, Tensor], key: str, count: int, usual: float) -> list[float]:
    """Return one number per variable."""
    found = state.get(key)
    if found is None or not found.numel():
        return [usual] * count
    values = [float(value) for value in found.flatten()]
    return values if len(values) == count else [values[0]] * count


def _schedule(source: Path, state: Mapping[str, Tensor]) -> Discrete:
    betas = state.get("diffusion_model.betas")
    if betas is None or betas.ndim != 1 or len(betas) < 2:
        raise refuse(source, "its diffusion_model.betas are missing, which tell the noise levels")
    numbers = tuple(float(beta) for beta in betas.double())
    try:
        return Discrete(betas=numbers[:-1] if numbers[-1] >= 1 else numbers)
    except ValidationError as error:
        raise refuse(source, "its betas do not lie between 0 and 1") from error


def _network(source: Path, weights: Mapping[str, Tensor], told: Told, notes: list[str]) -> ForcingDiT:
    try:
        first, places = weights["patch_embed.proj.weight"], weights["pos_embed"]
        full = "blocks.0.norm1.modulation.1.weight" in weights
        hidden = weights["blocks.0.mlp.0.weight"].shape[0]
        width, channels, patch = first.shape[0], first.shape[1], first.shape[-1]
        count = places.shape[1]
    except (KeyError, IndexError) as error:
        raise refuse(source, f"{error.args[0]!r} is missing, which its transformer has") from error
    depth = 1 + max((int(key.split(".")[1]) for key in weights if re.match(r"blocks\.\d+\.", key)), default=0)
    causal = stated_or(told.causal, True, "causal", notes)
    if full and causal:
        raise refuse(
            source,
            "with attention over all tokens the released code masks the earlier frames instead of the later ones; only "
            "causal=false can be used",
        )
    heads = told.heads
    if heads is None and width in HEADS:
        heads = stated_or(None, HEADS[width], "heads", notes)
    if heads is None:
        raise InputError(f"{source}: must be told: heads=; a width of {width} is none of the published sizes")
    grid = told.grid or (patch, patch)
    tokens = max(1, (grid[0] // patch) * (grid[1] // patch))
    if count % tokens:
        raise InputError(
            f"{source}: grid: found {grid[0]} x {grid[1]}, but {count} positions are no whole number of such frames"
        )
    try:
        return ForcingDiT(
            field_channels=channels,
            grid=grid,
            patch=patch,
            width=width,
            depth=depth,
            heads=heads,
            hidden=hidden,
            frames=count // tokens,
            attention="full" if full else "factorised",
            causal=causal,
        )
    except ValidationError as error:
        raise InputError(f"{source}: {error.errors(include_url=False)[0]['msg']}") from error
