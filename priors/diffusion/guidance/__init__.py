"""Guidance: what observations do to a denoiser or to a step; one file per method."""

from typing import Annotated

from pydantic import Field

from priors.diffusion.guidance.forcing import Forcing
from priors.diffusion.guidance.likelihood import Guidance, Likelihood
from priors.diffusion.guidance.mmps import Mmps
from priors.diffusion.guidance.sda import Sda

AnyGuidance = Annotated[Mmps | Sda | Forcing, Field(discriminator="name")]

__all__ = ["AnyGuidance", "Forcing", "Guidance", "Likelihood", "Mmps", "Sda"]
