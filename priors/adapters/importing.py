"""From a foreign checkpoint to a prior folder: read, built, checked, measured, written."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from priors.adapters.foreign import Foreign, Told, distinct_notes, first
from priors.adapters.measure import footprint
from priors.adapters.registry import read_checkpoint
from priors.adapters.slices import answered, slices_seen
from priors.card import Prior, PriorCard, denoiser_of, file_sha256
from priors.card.folder import write_prior
from priors.card.origin import Source
from priors.card.self_test import SELF_TEST_SHARE, WRONG, self_test_errors
from priors.diffusion.fitted import SliceFit
from priors.diffusion.parametrisation import Preconditioned
from priors.networks import ForeignNetwork
from priors.runtime.config import validate
from priors.runtime.errors import InputError, warn

# Spacings of chest and head scans, where nobody says what was seen in training.
ANY_PIXEL_MM = (0.3, 2.0)


def import_prior(source: Path, told: Told, *, out: Path, family: str | None = None) -> PriorCard:
    """Import a checkpoint into a folder that `load_prior` reads; return its card.

    Raises:
        InputError: it cannot be a prior, something must be told, or the folder cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists already, expected a new or empty folder to write into")
    prior = assembled(read_checkpoint(source, told, family=family), told, source)
    prior.card = prior.card.model_copy(update={"memory": footprint(prior)})
    _warn_untrained(prior, source)
    return write_prior(prior, out)


def assembled(foreign: Foreign, told: Told, source: Path) -> Prior:
    """Return the prior of a checkpoint that was read, with its weights.

    Raises:
        InputError: the weights do not fit, or something must be told.
    """
    card = card_of(foreign, told, source)
    foreign = replace(foreign, network=card.network)
    return Prior.assembled(denoiser_of(card, foreign.build()), card)


def card_of(foreign: Foreign, told: Told, source: Path) -> PriorCard:
    """Return the card of a checkpoint.

    Raises:
        InputError: the codec must be told, or values do not fit together.
    """
    stated = foreign.described
    lacking = [*missing(foreign, told)]
    if lacking:
        raise InputError(f"{source}: must be told: {', '.join(lacking)}; a checkpoint does not say it")
    fields: dict[str, Any] = {
        "name": first(told.name, stated.get("name"), _plain_name(source)),
        "sha256": file_sha256(foreign.path),
        "network": answered(foreign, told),
        "schedule": foreign.schedule,
        "parametrisation": foreign.parametrisation,
        "conditioning": foreign.conditioning,
        "bfloat16": stated.get("bfloat16", False),
        "trained_on": first(told.trained_on, stated.get("trained_on"), "not stated"),
        "licence": first(told.licence, stated.get("licence"), "not stated"),
        "citation": first(told.citation, stated.get("citation"), "not stated"),
        "source": Source(
            family=foreign.family,
            file=foreign.path.name,
            sha256=file_sha256(foreign.path),
            notes=distinct_notes(foreign.notes),
        ),
        "parents": stated.get("parents", ()),
    }
    own = _trajectory_fields(foreign) if foreign.codec is not None else _slice_fields(foreign, told)
    return validate(PriorCard, {**fields, **own}, source=str(source))


def missing(foreign: Foreign, told: Told) -> tuple[str, ...]:
    """Return the options that must still be told."""
    if "trajectory" in foreign.described:
        return foreign.missing
    codec = foreign.described.get("codec", {})
    known = {
        "--offset": first(told.offset, codec.get("offset")),
        "--scale": first(told.scale, codec.get("scale")),
        "--unit": first(told.unit, foreign.described.get("unit")),
    }
    return (*(name for name, value in known.items() if value is None), *foreign.missing)


def _slice_fields(foreign: Foreign, told: Told) -> dict[str, Any]:
    stated: Mapping[str, Any] = foreign.described
    codec, fit = stated.get("codec", {}), stated.get("fit", {})
    offset = first(told.offset, codec.get("offset"))
    scale = first(told.scale, codec.get("scale"))
    size = foreign.size if told.size is None else (told.size, told.size)
    network = foreign.network
    attends = getattr(network, "attends", False)
    if size is None and attends and "shape" not in stated:
        raise InputError(f"{foreign.path}: must be told: size=, the side of its training slices (it attends)")
    shape = stated.get("shape", size or (256, 256))
    return {
        "codec": {
            "offset": offset,
            "scale": scale,
            "low": first(told.low, codec.get("low"), offset - scale),
            "high": first(told.high, codec.get("high"), offset + scale),
        },
        "unit": first(told.unit, stated.get("unit")),
        "shape": shape if told.size is None else size,
        "axes": "y x",
        "pixel_mm": first(told.pixel_mm, stated.get("pixel_mm"), ANY_PIXEL_MM),
        "mirrored": first(told.mirrored, stated.get("mirrored"), False),
        "fit": SliceFit(
            **slices_seen(foreign, told),
            size=tuple(size) if attends and size is not None else None,
            stride=getattr(network, "stride", 1),
            orientation=first(told.orientation, fit.get("orientation"), "y x"),
        ),
    }


def _trajectory_fields(foreign: Foreign) -> dict[str, Any]:
    stated = foreign.described
    return {
        "codec": foreign.codec,
        "unit": stated.get("unit", ", ".join(dict.fromkeys(v.unit for v in foreign.codec.variables)))
        if foreign.codec is not None
        else "",
        "shape": foreign.size,
        "axes": "time k y x",
        "trajectory": stated["trajectory"],
    }


def _plain_name(source: Path) -> str:
    kept = "".join(
        letter if letter.isalnum() or letter in "._-" else "-" for letter in source.stem or "prior"
    )
    return kept.strip("-.") or "prior"


def _warn_untrained(prior: Prior, source: Path) -> None:
    """Say where the network denoises its test field no better than leaving the noise in it."""
    for level, error in self_test_errors(prior).items():
        if not error < SELF_TEST_SHARE * level:
            warn(
                f"{source}: at noise level {level:g} the network leaves {error:.2g} of the noise in its test field, "
                f"expected below {SELF_TEST_SHARE * level:.2g} (network units); {WRONG}"
            )
            return


def described_network(foreign: Foreign) -> str:
    """Return what a checkpoint's network is, in words."""
    network = foreign.network
    weights = sum(value.numel() for value in foreign.state.values())
    kind = network.name
    scale = (
        foreign.parametrisation.sigma_data if isinstance(foreign.parametrisation, Preconditioned) else None
    )
    words = f"{kind}, {weights:,} weights, {network.field_channels} channel(s)"
    if isinstance(network, ForeignNetwork) and network.config.get("num_class_embeds"):
        words += f", {network.config['num_class_embeds']} classes"
    return words if scale is None else f"{words}, sigma_data {scale:g}"
