"""What a network's channels and dimensions are to a volume: a slice, a colour image, neighbouring slices, a block."""

from typing import Any

from priors.adapters.foreign import Foreign, Told, first
from priors.networks import AnyNetwork, ForeignNetwork, MonaiDiffusionUNet
from priors.runtime.errors import InputError

COLOURS = 3


def slices_seen(foreign: Foreign, told: Told) -> dict[str, Any]:
    """Return ``channels`` and ``slices`` of a `SliceFit`.

    Raises:
        InputError: the channels are none of these, the depth of blocks must be told, or the output does not fit.
    """
    found, network = foreign.network.field_channels, foreign.network
    stated = foreign.described.get("fit", {})
    kind = first(told.channels, stated.get("channels"))
    if is_volume(network):
        return _block(foreign, told, kind)
    if kind == "neighbours":
        if found < COLOURS or found % 2 == 0:
            raise InputError(
                f"{foreign.path}: channels: found 'neighbours', but the network takes {found}; expected an odd number "
                "of slices, the middle one answered"
            )
        _check_outputs(foreign, (1, 2, found, 2 * found))
        return {"channels": "neighbours", "slices": found}
    if found not in (1, COLOURS):
        raise InputError(
            f"{foreign.path}: takes {found} channels, expected 1 (grey), 3 (a colour image) or, with "
            "channels=neighbours, an odd number of neighbouring slices; latents cannot be used"
        )
    usual = {None: found, "grey": 1, "rgb": COLOURS}.get(kind)
    if usual != found:
        raise InputError(f"{foreign.path}: channels: found {kind!r}, but the network takes {found}")
    _check_outputs(foreign, (found, 2 * found))
    return {"channels": "rgb" if found == COLOURS else "grey"}


def answered(foreign: Foreign, told: Told) -> AnyNetwork:
    """Return the network, of a network of neighbours with the channels of its output that count."""
    network = foreign.network
    kind = first(told.channels, foreign.described.get("fit", {}).get("channels"))
    if kind != "neighbours" or not isinstance(network, ForeignNetwork) or is_volume(network):
        return network
    single = network.output_channels in (1, 2)
    return network.model_copy(update={"answers": 1 if single else network.field_channels})


def needs_neighbours(foreign: Foreign) -> bool:
    """Tell whether a network of slices can only be one of neighbouring slices, by its channels."""
    network = foreign.network
    if not isinstance(network, ForeignNetwork) or "fit" in foreign.described:
        return False
    found, gives = network.field_channels, network.output_channels
    odd = found >= COLOURS and found % 2 == 1
    return odd and (found != COLOURS or gives not in (found, 2 * found)) and gives in (1, 2, found, 2 * found)


def is_volume(network: AnyNetwork) -> bool:
    """Tell whether a network is over three dimensions."""
    return isinstance(network, MonaiDiffusionUNet) and network.volume


def _block(foreign: Foreign, told: Told, kind: str | None) -> dict[str, Any]:
    """Return what a network over volumes sees."""
    found, depth = foreign.network.field_channels, first(told.slices, foreign.described.get("slices"))
    if kind not in (None, "block") or found != 1:
        raise InputError(
            f"{foreign.path}: its network is over volumes of {found} channel(s), expected channels=block and one"
        )
    if depth is None:
        raise InputError(f"{foreign.path}: must be told: slices=, the depth of its training blocks")
    stride = getattr(foreign.network, "stride", 1)
    if depth % stride:
        raise InputError(f"{foreign.path}: slices: found {depth}, expected a multiple of {stride}")
    _check_outputs(foreign, (1, 2))
    return {"channels": "block", "slices": depth}


def _check_outputs(foreign: Foreign, expected: tuple[int, ...]) -> None:
    """Refuse a network whose output is not about its input.

    Raises:
        InputError: it is conditioned on an image.
    """
    if not isinstance(foreign.network, ForeignNetwork):
        return
    found = foreign.network.output_channels
    if found not in expected:
        raise InputError(
            f"{foreign.path}: cannot be a prior: takes {foreign.network.field_channels} channels and gives {found}: it "
            "is conditioned on an image (or takes neighbouring slices: channels=neighbours)"
        )
