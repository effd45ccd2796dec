r"""What a network's output means, and how to get E[x | x_t] out of it.

With ``x_t = alpha x + sigma z``, ``u = x_t / alpha`` and ``s = sigma / alpha``:

    noise      output = sign E[z | x_t]                 x = u - sign s output
    clean      output = E[x | x_t]
    velocity   output = E[alpha z - sigma x | x_t]      x = (alpha x_t - sigma output) / (alpha^2 + sigma^2)
    score      output = grad log p(x_t) = -E[z | x_t] / sigma
    flow       output = sign E[z - x | x_t]             x = (x_t - sign sigma output) / (alpha + sigma)
    edm        x = c_skip(s) u + sign c_out(s) output,     input c_in(s) u

EDM's coefficients give input and target unit variance when the data's deviation is ``sigma_data`` (Karras et
al. 2022, arXiv 2206.00364, Table 1). Scales arrive with trailing singleton axes so that they broadcast over
space; a scale per frame works the same way.
"""

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

Array = Float[Tensor, "..."]


class Parametrisation(BaseModel, ABC):
    """The relation between network output, diffusion state and clean estimate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def clean(self, output: Array, x_t: Array, alpha: Array, sigma: Array) -> Array:
        """Return E[x | x_t] from the network's output."""

    @abstractmethod
    def target(self, x: Array, z: Array, alpha: Array, sigma: Array) -> Array:
        """Return the output whose mean squared error training minimises, for clean ``x`` and noise ``z``."""

    def network_input(self, x_t: Array, alpha: Array, sigma: Array) -> Array:
        """Return what the network sees in place of ``x_t``."""
        return x_t


class Noise(Parametrisation):
    """The network predicts the noise.

    Attributes:
        sign: of the noise in the prediction; -1 is sigma times the score, before networks of variance-exploding
            diffusion divide by sigma.
    """

    name: Literal["noise"] = "noise"
    sign: Literal[1, -1] = 1

    def clean(self, output: Array, x_t: Array, alpha: Array, sigma: Array) -> Array:
        """See `Parametrisation`."""
        return (x_t - self.sign * sigma * output) / alpha

    def target(self, x: Array, z: Array, alpha: Array, sigma: Array) -> Array:
        """See `Parametrisation`."""
        return self.sign * z


class Clean(Parametrisation):
    """The network predicts the clean data."""

    name: Literal["clean"] = "clean"

    def clean(self, output: Array, x_t: Array, alpha: Array, sigma: Array) -> Array:
        """See `Parametrisation`."""
        return output

    def target(self, x: Array, z: Array, alpha: Array, sigma: Array) -> Array:
        """See `Parametrisation`."""
        return x


class Velocity(Parametrisation):
    """The network predicts alpha z - sigma x (Salimans and Ho 2022, arXiv 2202.00512)."""

    name: Literal["velocity"] = "velocity"

    def clean(self, output: Array, x_t: Array, alpha: Array, sigma: Array) -> Array:
        """See `Parametrisation`."""
        return (alpha * x_t - sigma * output) / (alpha**2 + sigma**2)

    def target(self, x: Array, z: Array, alpha: Array, sigma: Array) -> Array:
        """See `Parametrisation`."""
        return alpha * z - sigma * x


class Score(Parametrisation):
    """The network predicts the score, the gradient of log p(x_t)."""

    name: Literal["score"] = "score"

    def clean(self, output: Array, x_t: Array, alpha: Array, sigma: Array) -> Array:
        """See `Parametrisation`."""
        return (x_t + sigma**2 * output) / alpha

    def target(self, x: Array, z: Array, alpha: Array, sigma: Array) -> Array:
        """See `Parametrisation`."""
        return -z / sigma


class Flow(Parametrisation):
    """The network predicts noise minus data (sign 1) or data minus noise (sign -1) (Liu et al. 2022, arXiv 2209.03003).

    Attributes:
        sign: of the noise in the prediction.
    """

    name: Literal["flow"] = "flow"
    sign: Literal[1, -1] = 1

    def clean(self, output: Array, x_t: Array, alpha: Array, sigma: Array) -> Array:
        """See `Parametrisation`."""
        return (x_t - self.sign * sigma * output) / (alpha + sigma)

    def target(self, x: Array, z: Array, alpha: Array, sigma: Array) -> Array:
        """See `Parametrisation`."""
        return self.sign * (z - x)


class Preconditioned(Parametrisation):
    """EDM preconditioning: unit-variance input and target at every noise level.

    Attributes:
        sigma_data: deviation of the data in network units.
        sign: of the network's share of the estimate; -1 is what diffusers calls v-prediction.
    """

    name: Literal["edm"] = "edm"
    sigma_data: float = Field(0.5, gt=0)
    sign: Literal[1, -1] = 1

    def _skip_and_out(self, s: Array) -> tuple[Array, Array]:
        variance = s**2 + self.sigma_data**2
        return self.sigma_data**2 / variance, self.sign * s * self.sigma_data * torch.rsqrt(variance)

    def clean(self, output: Array, x_t: Array, alpha: Array, sigma: Array) -> Array:
        """See `Parametrisation`."""
        skip, out = self._skip_and_out(sigma / alpha)
        return skip * (x_t / alpha) + out * output

    def target(self, x: Array, z: Array, alpha: Array, sigma: Array) -> Array:
        """See `Parametrisation`."""
        s = sigma / alpha
        skip, out = self._skip_and_out(s)
        return (x - skip * (x + s * z)) / out

    def network_input(self, x_t: Array, alpha: Array, sigma: Array) -> Array:
        """See `Parametrisation`."""
        s = sigma / alpha
        return (x_t / alpha) * torch.rsqrt(s**2 + self.sigma_data**2)


AnyParametrisation = Annotated[
    Noise | Clean | Velocity | Score | Flow | Preconditioned, Field(discriminator="name")
]
