"""Networks a card can name: thin wrappers around other libraries', and our space-time transformer."""

from typing import Annotated

from pydantic import Field

from priors.networks.forcing_dit import ForcingDiT
from priors.networks.foreign import DiffusersUNet, ForeignNetwork, MonaiDiffusionUNet, OwnModule
from priors.networks.monai_unet import MonaiUNet, UnshuffledUNet
from priors.networks.song_unet import SongUNet
from priors.networks.space_time_dit.attention import KeyValueCache
from priors.networks.space_time_dit.network import SpaceTimeDiT, SpaceTimeTransformer
from priors.networks.trajectory import TrajectoryNetwork

AnyNetwork = Annotated[
    MonaiUNet | SpaceTimeDiT | DiffusersUNet | MonaiDiffusionUNet | ForcingDiT | SongUNet | OwnModule,
    Field(discriminator="name"),
]

__all__ = [
    "AnyNetwork",
    "DiffusersUNet",
    "ForcingDiT",
    "ForeignNetwork",
    "KeyValueCache",
    "MonaiDiffusionUNet",
    "MonaiUNet",
    "OwnModule",
    "SongUNet",
    "SpaceTimeDiT",
    "SpaceTimeTransformer",
    "TrajectoryNetwork",
    "UnshuffledUNet",
]
