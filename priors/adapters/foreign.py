"""A foreign checkpoint once read: a network, its weights, and what its noise levels mean."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from priors.codec import FieldCodec
from priors.diffusion.conditioning import Conditioning
from priors.diffusion.fitted import Orientation
from priors.diffusion.parametrisation import Clean, Noise, Parametrisation, Velocity
from priors.diffusion.schedule import Schedule
from priors.networks import AnyNetwork
from priors.runtime.errors import InputError

TARGETS: dict[str, type[Parametrisation]] = {"noise": Noise, "clean": Clean, "velocity": Velocity}


class Told(BaseModel):
    """What a user says about a checkpoint, where the checkpoint does not.

    Attributes:
        name: of the prior.
        offset: physical value at network value zero.
        scale: physical units per network unit.
        unit: of the values, ``HU`` or ``1/mm``.
        low: smallest value seen in training; by default offset - scale.
        high: largest one; by default offset + scale.
        pixel_mm: smallest and largest pixel spacing seen in training.
        size: side of the square slices of training.
        channels: ``rgb`` where three channels are a colour image, ``neighbours`` where channels are slices around the
            one that is answered.
        slices: depth of the blocks that a network over volumes was trained on.
        label: class to condition on.
        mirrored: slices were mirrored at random in training.
        orientation: axes of the prior's slices in terms of ours.
        trained_on: the data, in words.
        licence: of the weights.
        citation: whom to cite.
        target: what the network predicts.
        betas: rule of the betas.
        start: first beta.
        stop: last beta.
        steps: training steps.
        times: factor from training steps to the number the network takes (rescaled times of 4000 steps: 0.25).
        heads: attention heads.
        head_width: channels per attention head; wins over ``heads``.
        qkv: order of the attention's packed weights, ``old`` by head or ``new`` by kind (use_new_attention_order).
        weights: which of several sets of weights: ``ema`` or ``model``.
        sigma_min: smallest level of a variance-exploding schedule.
        sigma_max: largest one.
        sde: kind of diffusion of score_sde: variance exploding, preserving, or sub-preserving.
        beta_min: first beta of a continuous variance-preserving schedule.
        beta_max: last one.
        fir: resampling filters by [1, 3, 3, 1], as NCSN++ does, instead of averaging as DDPM++ does.
        centred: the network was trained on values moved from [0, 1] to [-1, 1] inside it.
        variables: of a prior of trajectories: name, unit and range of each.
        trajectory: of a prior of trajectories: time step, spacing and domain.
        causal: frames of a prior of trajectories see no later ones.
        clean_step: the step a prior of trajectories was told for finished frames, without noise.
        groups: of normalisation.
        grid: field size of a prior of trajectories.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(None, pattern=r"^[\w.-]+$")
    offset: float | None = Field(None, allow_inf_nan=False)
    scale: float | None = Field(None, gt=0, allow_inf_nan=False)
    unit: Literal["HU", "1/mm"] | None = None
    low: float | None = Field(None, allow_inf_nan=False)
    high: float | None = Field(None, allow_inf_nan=False)
    pixel_mm: tuple[float, float] | None = None
    size: int | None = Field(None, ge=8)
    channels: Literal["grey", "rgb", "neighbours", "block"] | None = None
    slices: int | None = Field(None, ge=2)
    label: int | None = Field(None, ge=0)
    mirrored: bool | None = None
    orientation: Orientation | None = None
    trained_on: str | None = None
    licence: str | None = None
    citation: str | None = None
    target: Literal["noise", "clean", "velocity", "edm"] | None = None
    betas: Literal["linear", "scaled_linear", "cosine", "sigmoid", "laplace"] | None = None
    start: float | None = Field(None, gt=0, lt=1)
    stop: float | None = Field(None, gt=0, lt=1)
    steps: int | None = Field(None, ge=3, le=100_000)
    times: float | None = Field(None, gt=0)
    heads: int | None = Field(None, ge=1)
    head_width: int | None = Field(None, ge=1)
    qkv: Literal["old", "new"] | None = None
    weights: Literal["ema", "model"] | None = None
    sigma_min: float | None = Field(None, gt=0)
    sigma_max: float | None = Field(None, gt=0)
    sde: Literal["ve", "vp", "subvp"] | None = None
    beta_min: float | None = Field(None, gt=0)
    beta_max: float | None = Field(None, gt=0)
    fir: bool | None = None
    centred: bool | None = None
    variables: tuple[dict[str, Any], ...] = ()
    trajectory: dict[str, Any] = Field(default_factory=dict)
    causal: bool | None = None
    clean_step: int | None = Field(None, ge=0)
    groups: int | None = Field(None, ge=1)
    grid: tuple[int, int] | None = None

    @model_validator(mode="after")
    def _spacings_are_ordered(self) -> "Told":
        if self.pixel_mm is not None and not 0 < self.pixel_mm[0] <= self.pixel_mm[1]:
            raise ValueError("pixel_mm must be a positive range, smallest first")
        return self


@dataclass(frozen=True, eq=False)
class Foreign:
    """A foreign checkpoint as a network in our terms.

    Attributes:
        family: whose layout it has.
        path: the file with the weights.
        network: what to build.
        state: its weights, by the names of what ``network.build()`` returns.
        schedule: noise levels of training.
        parametrisation: what the output means.
        conditioning: how the network is told the level.
        size: field size of training, where the checkpoint tells.
        described: fields of the card that the checkpoint states itself.
        codec: of trajectories, where the checkpoint tells.
        notes: what was read, taken as usual, or left out.
        missing: what nobody has said and only people know.
    """

    family: str
    path: Path
    network: AnyNetwork
    state: Mapping[str, Tensor]
    schedule: Schedule
    parametrisation: Parametrisation
    conditioning: Conditioning
    size: tuple[int, int] | None = None
    described: Mapping[str, Any] = field(default_factory=dict)
    codec: FieldCodec | None = None
    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()

    def noted(self, *notes: str) -> "Foreign":
        """Return the same with further notes."""
        return replace(self, notes=(*self.notes, *notes))

    def build(self) -> nn.Module:
        """Return the network with its weights.

        Raises:
            InputError: the weights do not fit.
        """
        with torch.device("meta"):
            outline = self.network.build()
        check_fit(self.path, self.state, outline)
        module = self.network.build()
        module.load_state_dict(dict(self.state))
        return module.eval()


def check_fit(path: Path, state: Mapping[str, Tensor], module: nn.Module) -> None:
    """Check names and shapes of weights against a network, before memory is taken for it.

    Raises:
        InputError: they differ.
    """
    expected = module.state_dict()
    missing, unexpected = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unexpected:
        raise InputError(
            f"{path}: does not fit the network it describes: {len(missing)} tensors missing (first: {missing[:1]}), "
            f"{len(unexpected)} unexpected (first: {unexpected[:1]})"
        )
    for key, tensor in state.items():
        if not isinstance(tensor, Tensor) or tensor.shape != expected[key].shape:
            found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise InputError(f"{path}: {key} is {found}, expected {tuple(expected[key].shape)}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{path}: {key} holds NaN or infinite values, expected finite weights")


def tensors_of(path: Path, content: Any) -> dict[str, Tensor]:
    """Return the tensors of a state dict, common prefixes of wrappers removed.

    Raises:
        InputError: it is none.
    """
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path}: found {type(content).__name__}, expected a state dict: names to tensors")
    found = _stripped(content)
    if not found:
        raise InputError(f"{path}: holds no tensors, expected a state dict: names to tensors")
    return found


def best_state(content: Any, wanted: str | None = None) -> tuple[dict[str, Tensor], str]:
    """Return the state dict of a checkpoint, averaged weights where there are several, and the key it was under.

    An empty one where the content holds none.
    """
    if not isinstance(content, Mapping):
        return {}, ""
    order: tuple[str, ...] = (
        "ema",
        "ema_model",
        "model_ema",
        "state_dict",
        "model",
        "unet_state_dict",
        "net",
        "diffusion",
    )
    if wanted == "model":
        order = ("model", "state_dict", "unet_state_dict", "net", "diffusion", "ema")
    for key in order:
        inner = content.get(key)
        if isinstance(inner, Mapping) and any(isinstance(value, Tensor) for value in inner.values()):
            return _stripped(inner), key
    return _stripped(content), ""


def _stripped(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return the tensors of a mapping, common prefixes of wrappers removed."""
    found = {
        key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)
    }
    for prefix in ("_orig_mod.", "module.", "model.", "_orig_mod."):
        if found and all(key.startswith(prefix) for key in found):
            found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found


def as_float(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights in float32, storage shared where they are."""
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def refuse(path: Path, reason: str) -> InputError:
    """Return the refusal of a checkpoint that cannot be a prior."""
    return InputError(f"{path}: cannot be a prior: {reason}")


def stated_or(value: Any, usual: Any, name: str, notes: list[str]) -> Any:
    """Return what was told, else what is usual, noting that it was taken."""
    if value is not None:
        return value
    notes.append(f"{name} {usual} taken as usual, not stated")
    return usual


def first(*values: Any) -> Any:
    """Return the first value that is not None."""
    return next((value for value in values if value is not None), None)


def distinct_notes(notes: Sequence[str]) -> tuple[str, ...]:
    """Return notes without repetition, in order."""
    return tuple(dict.fromkeys(notes))
