"""Training that starts from another prior's weights, in its network or in one that has grown by what it is told.

A network that learns classes or jumps beside what it knew has a new embedding, which starts at zero. One that learns to
see neighbouring slices has the parent's first layer for the middle one and zeros for the others (inflation). Before the
first step either is its parent.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from priors.card import PriorCard, load_prior
from priors.networks import AnyNetwork, MonaiUNet
from priors.runtime.errors import InputError

GROWN = ("unet.class_embedding.",)
"""Weights that a grown network may have beyond its parent's."""


def check_parent(card: PriorCard, network: AnyNetwork) -> None:
    """Check that a network can start from a prior's weights.

    Raises:
        InputError: it is another network.
    """
    if card.network == network:
        return
    parent = card.network
    if isinstance(parent, MonaiUNet) and isinstance(network, MonaiUNet):
        added: dict[str, Any] = {"label": network.label}
        if parent.classes is None:
            added["classes"] = network.classes
        if not parent.jumps:
            added["jumps"] = network.jumps
        if parent.neighbours == 1:
            added["neighbours"] = network.neighbours
        if parent.model_copy(update=added) == network:
            return
    raise InputError(f"initial: prior {card.name!r} has the network {parent!r}, expected {network!r}")


def freeze(network: nn.Module, train_only: Sequence[str]) -> None:
    """Let only the weights whose names begin with one of ``train_only`` be trained; all where it is empty.

    Raises:
        InputError: one of them begins no name.
    """
    names = [name for name, _ in network.named_parameters()]
    for beginning in train_only:
        if not any(name.startswith(beginning) for name in names):
            parts = sorted({".".join(name.split(".")[:2]) for name in names})
            raise InputError(
                f"train_only: found {beginning!r}, expected beginnings such as {', '.join(parts)}"
            )
    if train_only:
        for name, weight in network.named_parameters():
            weight.requires_grad_(name.startswith(tuple(train_only)))


STEM = "unet.conv_in.conv.weight"


def _inflated(own: dict[str, Tensor], given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the first layer of a network of neighbouring slices: the parent's for the middle one, else zero."""
    if STEM not in given or own[STEM].shape == given[STEM].shape:
        return {}
    weights, packed = torch.zeros_like(own[STEM]), given[STEM].shape[1]
    middle = (weights.shape[1] - packed) // 2
    weights[:, middle : middle + packed] = given[STEM]
    return {STEM: weights}


def start_from(network: nn.Module, initial: str) -> None:
    """Give a network the weights of a prior; what the prior has not stays as it was made.

    Raises:
        InputError: the prior cannot be loaded, or its weights do not fit.
    """
    parent = load_prior(initial)
    own, given = network.state_dict(), parent.network.state_dict()
    lacking = [key for key in own if key not in given and not key.startswith(GROWN)]
    if lacking or given.keys() - own.keys():
        raise InputError(f"initial: prior {parent.card.name!r} has other weights than this network")
    with torch.no_grad():
        network.load_state_dict({**own, **given, **_inflated(own, given)})
