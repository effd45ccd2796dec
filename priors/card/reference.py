"""A prior where one is asked for: by name, by folder, loaded, or a `Denoiser` that knows its units.

A denoiser answers in network units. One that belongs to a loaded prior knows its card; one of a user's own states
``codec`` (and ``details``, such as ``trajectory``) or is wrapped as ``Prior(denoiser, codec=...)``.
"""

import math
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, InstanceOf, PlainSerializer
from pydantic.json_schema import SkipJsonSchema
from safetensors import SafetensorError, safe_open

from priors.card.description import PriorCard
from priors.card.loading import Prior, find_prior, load_prior, read_card
from priors.diffusion.denoiser import Denoiser
from priors.runtime.errors import InputError

AnyPrior = str | Path | Prior | Denoiser
"""A prior as users give it."""


def prior_of(denoiser: Denoiser) -> Prior:
    """Return a denoiser as a prior.

    Raises:
        InputError: nothing says what its values mean.
    """
    if denoiser.card is not None:
        return Prior.assembled(denoiser, denoiser.card)
    if denoiser.codec is None:
        raise InputError(
            f"prior: found the denoiser {type(denoiser).__name__}, whose values have no known unit; expected "
            "tc.Prior(denoiser, codec=(offset, scale)), or a denoiser with the attribute codec"
        )
    return Prior(denoiser, codec=denoiser.codec, **denoiser.details)


def known(prior: AnyPrior) -> str | Prior:
    """Return a prior as a name or folder, or loaded."""
    if isinstance(prior, Denoiser):
        return prior_of(prior)
    return str(prior) if isinstance(prior, Path) else prior


def open_prior(prior: AnyPrior, *, device: str = "cpu", label: int | None = None) -> Prior:
    """Return a prior given by name, by folder, loaded already, or as a `Denoiser`, on ``device``.

    Raises:
        InputError: see `load_prior`.
    """
    prior = known(prior)
    if isinstance(prior, str):
        return load_prior(prior, device=device, label=label)
    if label is not None:
        raise InputError(f"label: found {label}, expected it where prior {prior.card.name!r} was loaded")
    prior.denoiser.to(device)
    return prior


def card_of_prior(prior: AnyPrior) -> PriorCard:
    """Return the card of a prior given by name, by folder, loaded already, or as a `Denoiser`, without loading weights.

    Raises:
        InputError: unknown name or malformed card.
    """
    prior = known(prior)
    return read_card(find_prior(prior)) if isinstance(prior, str) else prior.card


def weights_bytes(prior: AnyPrior) -> int:
    """Return the memory of a prior's weights in float32."""
    prior = known(prior)
    if isinstance(prior, Prior):
        return sum(4 * weight.numel() for weight in prior.denoiser.parameters())
    path = find_prior(prior) / read_card(find_prior(prior)).weights
    try:
        with safe_open(path, framework="pt") as tensors:
            return sum(4 * math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error


def _as_setting(prior: Any) -> Any:
    return known(prior) if isinstance(prior, Path | Denoiser) else prior


PriorReference = Annotated[
    str | SkipJsonSchema[InstanceOf[Prior]],
    BeforeValidator(_as_setting),
    PlainSerializer(lambda prior: prior.card.name if isinstance(prior, Prior) else prior, return_type=str),
]
"""A prior as a setting: a name or folder in YAML, from Python also a loaded one or a `Denoiser`."""
