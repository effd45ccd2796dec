"""A torch module of one's own as a prior: its card, written from what its owner says."""

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import nn

from priors.card.description import PriorCard
from priors.card.origin import Source
from priors.codec import AnyCodec, Codec, FieldCodec
from priors.diffusion.conditioning import (
    AnyConditioning,
    Conditioning,
    LogRatio,
    Share,
    Sigma,
    SourceTime,
    Step,
)
from priors.diffusion.denoiser import Denoiser
from priors.diffusion.fitted import SliceFit
from priors.diffusion.parametrisation import AnyParametrisation, Clean, Parametrisation, Preconditioned
from priors.diffusion.schedule import EDM, VP, AnySchedule, Geometric, Rectified, Schedule, Table
from priors.networks import DiffusersUNet, OwnModule
from priors.networks.foreign import ForeignUNet, call_any
from priors.runtime.config import validate
from priors.runtime.errors import InputError

Named = str | Mapping[str, Any]


def own_card(
    module: nn.Module,
    *,
    codec: AnyCodec | tuple[float, float] | Mapping[str, Any],
    described: Mapping[str, Any],
    **details: Any,
) -> PriorCard:
    """Return the card of a module; see `Prior`.

    Without ``conditioning`` the module is told what networks of its schedule usually are: the training step for a table
    of betas, sigma for ``edm`` and ``geometric`` (1/4 log sigma under EDM's preconditioning), the share of noise in
    [0, 1] for ``rectified``, 999 t for ``vp``, else log(sigma / alpha).

    Args:
        module: the network.
        codec: of its values.
        described: ``schedule``, ``parametrisation`` and ``conditioning``; the last may be None.
        details: other entries of the card.

    Raises:
        InputError: a description that fits nothing.
    """
    for key in ("schedule", "parametrisation"):
        if described[key] is None:
            raise InputError(f"{key}: found none, expected that of the module {type(module).__name__}")
    noise: Schedule = _member("schedule", AnySchedule, described["schedule"])
    meaning: Parametrisation = _member("parametrisation", AnyParametrisation, described["parametrisation"])
    conditioning = usual_conditioning(noise, meaning)
    if described["conditioning"] is not None:
        conditioning = _member("conditioning", AnyConditioning, described["conditioning"])
    network = _network(module, _kind(module), details)
    card = _card(module, noise, meaning, network=network, conditioning=conditioning, codec=codec, **details)
    warnings.warn(
        f"prior {card.name!r}: has no self-test record, so a wrong schedule, parametrisation or codec shows only "
        f"in its results; it is told {card.conditioning!r}. Compare it with its own sampler",
        stacklevel=3,
    )
    return card


def denoiser_card(
    denoiser: Denoiser,
    *,
    codec: AnyCodec | tuple[float, float] | Mapping[str, Any],
    described: Mapping[str, Any],
    **details: Any,
) -> PriorCard:
    """Return the card of a `Denoiser`, whose schedule is its own and whose answer is the clean state.

    Raises:
        InputError: a description that fits nothing, or of what the denoiser knows itself.
    """
    for key, value in described.items():
        if value is not None:
            raise InputError(f"{key}: found {value!r}, expected none: {type(denoiser).__name__} has its own")
    channels = details.pop("field_channels", 1)
    noise: Schedule = _member("schedule", AnySchedule, denoiser.schedule)
    network = OwnModule(kind=_kind(denoiser), field_channels=channels)
    return _card(denoiser, noise, Clean(), network=network, conditioning=LogRatio(), codec=codec, **details)


def _card(
    module: nn.Module, schedule: Schedule, parametrisation: Parametrisation, **details: Any
) -> PriorCard:
    """Return a card with what is known of every module of a user's own, changed by ``details``."""
    digest = weights_sha256(module)
    details["codec"] = _codec(details["codec"])
    usual = _of_trajectories(details) if details.get("trajectory") is not None else _OF_SLICES
    fields = {
        "name": type(module).__name__,
        "sha256": digest,
        "schedule": schedule,
        "parametrisation": parametrisation,
        "bfloat16": False,
        "trained_on": "not stated",
        "licence": "not stated",
        "citation": "not stated",
        "source": Source(family="own-module", file=_kind(module), sha256=digest),
    }
    return validate(PriorCard, {**fields, **usual, **details}, source="prior")


_OF_SLICES = {"unit": "HU", "shape": (256, 256), "axes": "y x", "pixel_mm": (0.1, 10.0)}


def _of_trajectories(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a card of trajectories says where its owner does not.

    Raises:
        InputError: the shape of a field is not stated.
    """
    if "shape" not in details:
        raise InputError("shape: found none, expected the points of a field along y and x")
    codec = details["codec"]
    variables = codec.get("variables", ()) if isinstance(codec, Mapping) else getattr(codec, "variables", ())
    units = [one["unit"] if isinstance(one, Mapping) else one.unit for one in variables]
    return {"unit": ", ".join(units), "axes": "time k y x"}


def _kind(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"


def usual_conditioning(schedule: Schedule, parametrisation: Parametrisation) -> Conditioning:
    """Return what networks of a schedule are usually told."""
    if isinstance(schedule, Table):
        return Step()
    if isinstance(schedule, VP):
        return SourceTime()
    if isinstance(schedule, Rectified):
        return Share(factor=1.0)
    if isinstance(schedule, Geometric):
        return Sigma()
    if isinstance(schedule, EDM):
        return LogRatio(factor=0.25) if isinstance(parametrisation, Preconditioned) else Sigma()
    return LogRatio()


def own_network(module: nn.Module, card: PriorCard) -> nn.Module:
    """Return a user's module as the network of its card."""
    if isinstance(card.network, DiffusersUNet):
        label = card.network.checked_label()
        return ForeignUNet(module, call_any, channels=card.network.kept_channels, label=label)
    volume = card.fit.channels == "block"
    return ForeignUNet(module, call_any, channels=card.network.field_channels, volume=volume)


def weights_sha256(module: nn.Module) -> str:
    """Return a hash of names and values of a module's weights."""
    digest = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(key.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()


def _network(module: nn.Module, kind: str, details: dict[str, Any]) -> OwnModule | DiffusersUNet:
    """Return the card entry of a module: of a diffusers U-Net one that can be built again."""
    label = details.pop("label", None)
    channels = details.pop("field_channels", _channels_of(details))
    if kind.startswith("diffusers.") and type(module).__name__ == "UNet2DModel":
        stated: Any = module.config
        config = {key: value for key, value in dict(stated).items() if not key.startswith("_")}
        return DiffusersUNet(config=config, label=label)
    return OwnModule(kind=kind, field_channels=channels)


def _channels_of(details: Mapping[str, Any]) -> int:
    """Return the channels of a module, by what it expects of a slice."""
    fit: SliceFit = _member("fit", SliceFit, details.get("fit", {}))
    return {"rgb": 3, "neighbours": fit.slices}.get(fit.channels, 1)


def _codec(codec: AnyCodec | tuple[float, float] | Mapping[str, Any]) -> AnyCodec | Mapping[str, Any]:
    if isinstance(codec, Codec | FieldCodec | Mapping):
        return codec
    offset, scale = (float(value) for value in codec)
    return {"offset": offset, "scale": scale, "low": offset - scale, "high": offset + scale}


def _member(key: str, family: Any, given: Any) -> Any:
    """Return the member of a family that a name or a mapping picks.

    Raises:
        InputError: there is none.
    """
    tree = {"name": given} if isinstance(given, str) else given
    try:
        return TypeAdapter(family).validate_python(tree)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        raise InputError(f"{key}: found {given!r}: {' '.join(str(detail['msg']).split())}") from error
