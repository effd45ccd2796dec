"""Systems whose behaviour is known; YAML and the command line pick one by ``name``."""

from typing import Annotated

from pydantic import Field

from assimilation.systems.kolmogorov import Kolmogorov
from assimilation.systems.linear_gaussian import LinearGaussian, LinearGaussianChain
from assimilation.systems.lorenz96 import Lorenz96
from assimilation.systems.navier_stokes import NavierStokes

AnySystem = Annotated[NavierStokes | Kolmogorov | Lorenz96 | LinearGaussian, Field(discriminator="name")]

__all__ = ["AnySystem", "Kolmogorov", "LinearGaussian", "LinearGaussianChain", "Lorenz96", "NavierStokes"]
