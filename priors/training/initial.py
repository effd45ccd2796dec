"""Training that starts from another prior's weights, in its network or in one that has grown by what it is told.

A network that learns classes or jumps beside what it knew has a new embedding, which starts at zero: before the first
step it is its parent.
"""

import torch
from torch import nn

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
        added = {"label": network.label}
        if parent.classes is None:
            added["classes"] = network.classes
        if not parent.jumps:
            added["jumps"] = network.jumps
        if parent.model_copy(update=added) == network:
            return
    raise InputError(f"initial: prior {card.name!r} has the network {parent!r}, expected {network!r}")


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
        network.load_state_dict({**own, **given})
