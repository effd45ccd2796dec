"""Networks a card can name: a thin wrapper around a library's, and our space-time transformer."""

from typing import Annotated

from pydantic import Field

from priors.networks.monai_unet import MonaiUNet, UnshuffledUNet
from priors.networks.space_time_dit import SpaceTimeDiT, SpaceTimeTransformer
from priors.networks.space_time_dit_attention import KeyValueCache

AnyNetwork = Annotated[MonaiUNet | SpaceTimeDiT, Field(discriminator="name")]

__all__ = [
    "AnyNetwork",
    "KeyValueCache",
    "MonaiUNet",
    "SpaceTimeDiT",
    "SpaceTimeTransformer",
    "UnshuffledUNet",
]
