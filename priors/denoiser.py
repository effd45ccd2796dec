r"""Denoisers: E[x | x_t], the one question the rest of the software asks of a prior.

    x_t = alpha x + sigma z        denoiser(x_t, t) = E[x | x_t]

``t`` of shape (b) gives one noise level per sample, (b, f) one per frame; its axes line up with the leading
axes of ``x_t``. ``forward`` never disables gradients: the caller decides. Scales are float64, the combination
with the network's output is float32, only the network itself runs in its own dtype.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from priors.parametrisation import Parametrisation
from priors.schedule import Schedule

States = Float[Tensor, "b ..."]
Times = Float[Tensor, "b ..."]


class Denoiser(nn.Module, ABC):
    """Interface: a conditional mean with the schedule it was trained on."""

    schedule: Schedule

    @abstractmethod
    def forward(self, x_t: States, t: Times) -> States:
        """Return E[x | x_t], same shape and dtype as ``x_t``."""


def broadcast_scales(schedule: Schedule, x_t: States, t: Times) -> tuple[States, States]:
    """Return (alpha, sigma) in the dtype of ``x_t``, with singleton axes appended up to its rank."""
    alpha, sigma = schedule(t)
    shape = t.shape + (1,) * (x_t.ndim - t.ndim)
    return alpha.reshape(shape).to(x_t), sigma.reshape(shape).to(x_t)


def bfloat16_pays(device: torch.device) -> bool:
    """Tell whether bfloat16 arithmetic is native on ``device`` (elsewhere it is emulated and slower)."""
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported())
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


class NetworkDenoiser(Denoiser):
    """A trained network behind its parametrisation.

    Args:
        network: called as ``network(input, log_ratio)``: states (b, k, y, x), log(sigma / alpha) (b).
        schedule: the schedule of the times passed to ``forward``.
        parametrisation: what the network's output means.
        reduced: run the network in bfloat16 where the device has it.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        schedule: Schedule,
        parametrisation: Parametrisation,
        reduced: bool = True,
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.parametrisation = parametrisation
        self.reduced = reduced

    def raw(self, x_t: States, t: Times) -> States:
        """Return the network's own output, what training compares with `Parametrisation.target`."""
        alpha, sigma = broadcast_scales(self.schedule, x_t, t)
        log_ratio = torch.log(self.schedule.ratio(t)).float()
        seen = self.parametrisation.network_input(x_t, alpha, sigma)
        reduced = self.reduced and bfloat16_pays(x_t.device)
        with torch.autocast(x_t.device.type, torch.bfloat16, enabled=reduced):
            output: Tensor = self.network(seen, log_ratio)
        return output.to(x_t.dtype)

    def forward(self, x_t: States, t: Times) -> States:
        """See `Denoiser`."""
        alpha, sigma = broadcast_scales(self.schedule, x_t, t)
        return self.parametrisation.clean(self.raw(x_t, t), x_t, alpha, sigma)


class GaussianDenoiser(Denoiser):
    r"""The exact conditional mean of Gaussian data x ~ N(mean, covariance): the oracle of every test.

        E[x | x_t] = mean + alpha C (alpha^2 C + sigma^2 I)^-1 (x_t - alpha mean)

    The covariance acts on flattened samples; its eigenvectors are computed once, so every noise level costs
    two matrix products.

    Args:
        mean: one sample's mean, any shape.
        covariance: (n, n) symmetric positive semi-definite, n = mean.numel().
        schedule: the schedule of the times passed to ``forward``.
    """

    mean: Tensor
    values: Tensor
    vectors: Tensor

    def __init__(
        self, mean: Float[Tensor, "..."], covariance: Float[Tensor, "n n"], *, schedule: Schedule
    ) -> None:
        super().__init__()
        values, vectors = torch.linalg.eigh(covariance)
        self.register_buffer("mean", mean)
        self.register_buffer("values", values.clamp(min=0))
        self.register_buffer("vectors", vectors)
        self.schedule = schedule

    def forward(self, x_t: States, t: Times) -> States:
        """See `Denoiser`; one noise level per sample."""
        alpha, sigma = (scale.reshape(-1, 1).to(x_t) for scale in self.schedule(t))
        mean = self.mean.flatten().to(x_t)
        gain = alpha * self.values / (alpha**2 * self.values + sigma**2)
        innovation = (x_t.flatten(1) - alpha * mean) @ self.vectors
        return (mean + (gain * innovation) @ self.vectors.T).reshape(x_t.shape)
