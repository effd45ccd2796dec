"""Training a prior from prepared arrays."""

from priors.training.configuration.config import TrainConfig
from priors.training.loop import train

__all__ = ["TrainConfig", "train"]
