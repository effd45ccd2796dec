"""The U-Nets of score-based models: DDPM++ and NCSN++ (score_sde, EDM) and ADM as EDM has it, in one network."""

from priors.networks.song_unet.description import SongUNet
from priors.networks.song_unet.network import ScoreUNet

__all__ = ["ScoreUNet", "SongUNet"]
