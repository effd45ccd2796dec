"""A torch module of one's own as a prior: its card, written from what its owner says."""

import hashlib
import warnings
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from torch import nn

from priors.card import PriorCard
from priors.card.origin import Source
from priors.codec import Codec
from priors.diffusion.conditioning import (
    AnyConditioning,
    Conditioning,
    LogRatio,
    Share,
    Sigma,
    SourceTime,
    Step,
)
from priors.diffusion.parametrisation import AnyParametrisation, Parametrisation, Preconditioned
from priors.diffusion.schedule import EDM, VP, AnySchedule, Geometric, Rectified, Schedule, Table
from priors.networks import DiffusersUNet, OwnModule
from priors.networks.foreign import ForeignUNet, call_any
from priors.runtime.config import validate
from priors.runtime.errors import InputError

Named = str | Mapping[str, Any]


def own_card(
    module: nn.Module,
    *,
    schedule: Schedule | Named,
    parametrisation: Parametrisation | Named,
    codec: Codec | tuple[float, float] | Mapping[str, Any],
    conditioning: Conditioning | Named | None = None,
    **details: Any,
) -> PriorCard:
    """Return the card of a module; see `Prior`.

    Without ``conditioning`` the module is told what networks of its schedule usually are: the training step for a table
    of betas, sigma for ``edm`` and ``geometric`` (1/4 log sigma under EDM's preconditioning), the share of noise in
    [0, 1] for ``rectified``, 999 t for ``vp``, else log(sigma / alpha).

    Raises:
        InputError: a description that fits nothing.
    """
    noise: Schedule = _member("schedule", AnySchedule, schedule)
    meaning: Parametrisation = _member("parametrisation", AnyParametrisation, parametrisation)
    told = usual_conditioning(noise, meaning)
    if conditioning is not None:
        told = _member("conditioning", AnyConditioning, conditioning)
    digest = weights_sha256(module)
    kind = f"{type(module).__module__}.{type(module).__qualname__}"
    fields = {
        "name": type(module).__name__,
        "sha256": digest,
        "network": _network(module, kind, details),
        "schedule": noise,
        "parametrisation": meaning,
        "conditioning": told,
        "bfloat16": False,
        "codec": _codec(codec),
        "unit": "HU",
        "shape": (256, 256),
        "axes": "y x",
        "pixel_mm": (0.1, 10.0),
        "trained_on": "not stated",
        "licence": "not stated",
        "citation": "not stated",
        "source": Source(family="own-module", file=kind, sha256=digest),
    }
    card = validate(PriorCard, {**fields, **details}, source="prior")
    warnings.warn(
        f"prior {card.name!r}: has no self-test record, so a wrong schedule, parametrisation or codec shows only "
        f"in its results; it is told {card.conditioning!r}. Compare it with its own sampler",
        stacklevel=3,
    )
    return card


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
        channels = int(card.network.config["in_channels"])
        label = card.network.checked_label()
        return ForeignUNet(module, call_any, channels=channels, label=label)
    return ForeignUNet(module, call_any, channels=card.network.field_channels)


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
    channels = details.pop("field_channels", 3 if _channels_of(details) == "rgb" else 1)
    if kind.startswith("diffusers.") and type(module).__name__ == "UNet2DModel":
        stated: Any = module.config
        config = {key: value for key, value in dict(stated).items() if not key.startswith("_")}
        return DiffusersUNet(config=config, label=label)
    return OwnModule(kind=kind, field_channels=channels)


def _channels_of(details: Mapping[str, Any]) -> str:
    fit = details.get("fit", {})
    found = fit.get("channels", "grey") if isinstance(fit, Mapping) else fit.channels
    return str(found)


def _codec(codec: Codec | tuple[float, float] | Mapping[str, Any]) -> Codec | Mapping[str, Any]:
    if isinstance(codec, Codec | Mapping):
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
