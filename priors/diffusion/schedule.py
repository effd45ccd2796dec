r"""Noise schedules: how much signal and how much noise a diffusion state holds at time ``t``.

    x_t = alpha(t) x_0 + sigma(t) z,    z ~ N(0, I),    t in [0, 1],  t = 0 clean, t = 1 noise

Everything else in the package speaks of the pair (alpha, sigma). In the rescaled coordinate ``u = x_t /
alpha`` the state is ``x_0 + s z`` with ``s = sigma / alpha``; one constraint makes a schedule usable: ``s``
grows strictly with ``t`` from a positive to a finite value, so that a noise level names a time and networks
may see its logarithm. Where a source lets ``s`` reach 0 or infinity, ``start`` and ``stop`` cut the ends off.
Schedules compute in float64 whatever the network's dtype.

Sources: VP, Song et al. 2021 (arXiv 2011.13456, Eq. 32-33); cosine, Nichol and Dhariwal 2021 (arXiv
2102.09672); EDM, Karras et al. 2022 (arXiv 2206.00364, Eq. 5); rectified flow, Liu et al. 2022 (arXiv
2209.03003).
"""

import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

Times = Float[Tensor, "..."]


class Schedule(BaseModel, ABC):
    """Map from diffusion time to the scales (alpha, sigma)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def __call__(self, t: Times) -> tuple[Times, Times]:
        """Return (alpha, sigma), float64, for times in [0, 1] of any shape."""

    @abstractmethod
    def inverse(self, ratio: Times) -> Times:
        """Return the float64 time at which sigma / alpha is ``ratio``; ratios out of range give 0 or 1."""

    def ratio(self, t: Times) -> Times:
        """Return sigma(t) / alpha(t), the noise level in u-coordinates."""
        alpha, sigma = self(t)
        return sigma / alpha


class VP(Schedule):
    """Variance preserving with a linear beta: alpha^2 = exp(-beta_min r - (beta_max - beta_min) r^2 / 2).

    The source's time r runs from ``start`` (its epsilon) to 1.

    Attributes:
        beta_min: first beta.
        beta_max: last beta.
        start: first time.
        sub: sigma = 1 - alpha^2 in place of its root (sub-VP): less noise at every time.
    """

    name: Literal["vp"] = "vp"
    beta_min: float = Field(0.1, gt=0)
    beta_max: float = Field(20.0, gt=0)
    start: float = Field(1e-3, gt=0, lt=1)
    sub: bool = False

    @model_validator(mode="after")
    def _betas_grow(self) -> "VP":
        _ordered("beta_min", self.beta_min, "beta_max", self.beta_max)
        return self

    def __call__(self, t: Times) -> tuple[Times, Times]:
        """See `Schedule`."""
        r = self.start + (1 - self.start) * t.double()
        exponent = self.beta_min * r + 0.5 * (self.beta_max - self.beta_min) * r**2
        # 1 - exp(-exponent): near the clean end the difference of two numbers close to 1 has no digits left.
        sigma = -torch.expm1(-exponent)
        return torch.exp(-0.5 * exponent), sigma if self.sub else torch.sqrt(sigma)

    def inverse(self, ratio: Times) -> Times:
        """See `Schedule`: the positive root of the quadratic log(1 + s^2) = exponent(r).

        With ``sub``, s = 1 / alpha - alpha = 2 sinh(exponent(r) / 2).
        """
        exponent = 2 * torch.asinh(ratio.double() / 2) if self.sub else torch.log1p(ratio.double() ** 2)
        slope = self.beta_max - self.beta_min
        # The root with the sum in the denominator: -beta_min + sqrt(...) cancels where there is little noise.
        r = 2 * exponent / (self.beta_min + torch.sqrt(self.beta_min**2 + 2 * slope * exponent))
        return ((r - self.start) / (1 - self.start)).clamp(0, 1)


class Cosine(Schedule):
    """alpha = cos(angle), sigma = sin(angle), angle from ``start`` to ``stop``, in units of pi / 2."""

    name: Literal["cosine"] = "cosine"
    start: float = Field(1e-3, gt=0, lt=1)
    stop: float = Field(0.999, gt=0, lt=1)

    @model_validator(mode="after")
    def _ends_are_ordered(self) -> "Cosine":
        _ordered("start", self.start, "stop", self.stop)
        return self

    def __call__(self, t: Times) -> tuple[Times, Times]:
        """See `Schedule`."""
        angle = 0.5 * math.pi * (self.start + (self.stop - self.start) * t.double())
        return torch.cos(angle), torch.sin(angle)

    def inverse(self, ratio: Times) -> Times:
        """See `Schedule`."""
        angle = torch.atan(ratio.double()) / (0.5 * math.pi)
        return ((angle - self.start) / (self.stop - self.start)).clamp(0, 1)


class EDM(Schedule):
    """Variance exploding, alpha = 1, sigma^(1/rho) linear in time between two levels."""

    name: Literal["edm"] = "edm"
    sigma_min: float = Field(0.002, gt=0)
    sigma_max: float = Field(80.0, gt=0)
    rho: float = Field(7.0, ge=1)

    @model_validator(mode="after")
    def _ends_are_ordered(self) -> "EDM":
        _ordered("sigma_min", self.sigma_min, "sigma_max", self.sigma_max)
        return self

    def __call__(self, t: Times) -> tuple[Times, Times]:
        """See `Schedule`."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        sigma = (low + t.double() * (high - low)) ** self.rho
        return torch.ones_like(sigma), sigma

    def inverse(self, ratio: Times) -> Times:
        """See `Schedule`."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        position: Tensor = (ratio.double() ** (1 / self.rho) - low) / (high - low)
        return position.clamp(0, 1)


class Spaced(Schedule):
    """alpha^2 + sigma^2 = 1 with (sigma / alpha)^(1/rho) linear in time between two levels.

    Few steps then cover the large levels as well as the small ones: a field whose variance lies in a few waves
    decides their amplitudes at levels of tens, where a cosine schedule of 20 steps has one. A network that knows
    levels, not times, may be trained under one schedule and sampled under this one.
    """

    name: Literal["spaced"] = "spaced"
    ratio_min: float = Field(0.0015708, gt=0)
    ratio_max: float = Field(636.62, gt=0)
    rho: float = Field(12.0, ge=1)

    @model_validator(mode="after")
    def _ends_are_ordered(self) -> "Spaced":
        _ordered("ratio_min", self.ratio_min, "ratio_max", self.ratio_max)
        return self

    def __call__(self, t: Times) -> tuple[Times, Times]:
        """See `Schedule`."""
        low, high = self.ratio_min ** (1 / self.rho), self.ratio_max ** (1 / self.rho)
        ratio = (low + t.double() * (high - low)) ** self.rho
        alpha = torch.rsqrt(1 + ratio**2)
        return alpha, alpha * ratio

    def inverse(self, ratio: Times) -> Times:
        """See `Schedule`."""
        low, high = self.ratio_min ** (1 / self.rho), self.ratio_max ** (1 / self.rho)
        position: Tensor = (ratio.double() ** (1 / self.rho) - low) / (high - low)
        return position.clamp(0, 1)


class Rectified(Schedule):
    """Straight line between data and noise: alpha = 1 - sigma, sigma linear from ``start`` to ``stop``."""

    name: Literal["rectified"] = "rectified"
    start: float = Field(1e-3, gt=0, lt=1)
    stop: float = Field(0.999, gt=0, lt=1)

    @model_validator(mode="after")
    def _ends_are_ordered(self) -> "Rectified":
        _ordered("start", self.start, "stop", self.stop)
        return self

    def __call__(self, t: Times) -> tuple[Times, Times]:
        """See `Schedule`."""
        sigma = self.start + (self.stop - self.start) * t.double()
        return 1.0 - sigma, sigma

    def inverse(self, ratio: Times) -> Times:
        """See `Schedule`."""
        ratio = ratio.double()
        return ((ratio / (1 + ratio) - self.start) / (self.stop - self.start)).clamp(0, 1)


class Geometric(Schedule):
    """Variance exploding, alpha = 1, log(sigma) linear in time (Song et al. 2021, Eq. 30)."""

    name: Literal["geometric"] = "geometric"
    sigma_min: float = Field(0.01, gt=0)
    sigma_max: float = Field(378.0, gt=0)

    @model_validator(mode="after")
    def _ends_are_ordered(self) -> "Geometric":
        _ordered("sigma_min", self.sigma_min, "sigma_max", self.sigma_max)
        return self

    def __call__(self, t: Times) -> tuple[Times, Times]:
        """See `Schedule`."""
        sigma = self.sigma_min * (self.sigma_max / self.sigma_min) ** t.double()
        return torch.ones_like(sigma), sigma

    def inverse(self, ratio: Times) -> Times:
        """See `Schedule`."""
        t = torch.log(ratio.double() / self.sigma_min) / math.log(self.sigma_max / self.sigma_min)
        return t.clamp(0, 1)


class Table(Schedule, ABC):
    """Betas by training step; log(sigma / alpha) is linear in time between consecutive steps.

    Time 0 is the first training step and time 1 the last one.
    """

    @abstractmethod
    def table(self) -> Float[Tensor, "steps"]:
        """Return the betas, float64, every one strictly between 0 and 1."""

    def steps(self) -> int:
        """Return the number of training steps."""
        return len(self.table())

    def _log_ratios(self, device: torch.device) -> Float[Tensor, "steps"]:
        kept = torch.cumprod(1 - self.table().to(device), 0)
        return 0.5 * (torch.log1p(-kept) - torch.log(kept))

    def __call__(self, t: Times) -> tuple[Times, Times]:
        """See `Schedule`."""
        table = self._log_ratios(t.device)
        position = t.double() * (len(table) - 1)
        low = position.floor().clamp(0, len(table) - 2).long()
        ratio = torch.exp(torch.lerp(table[low], table[low + 1], position - low))
        alpha = torch.rsqrt(1 + ratio**2)
        return alpha, alpha * ratio

    def inverse(self, ratio: Times) -> Times:
        """See `Schedule`."""
        table = self._log_ratios(ratio.device)
        wanted = torch.log(ratio.double()).clamp(table[0], table[-1])
        low = (torch.searchsorted(table, wanted.contiguous()) - 1).clamp(0, len(table) - 2)
        return (low + (wanted - table[low]) / (table[low + 1] - table[low])) / (len(table) - 1)


class Discrete(Table):
    """A checkpoint's own betas, one by one."""

    name: Literal["discrete"] = "discrete"
    betas: tuple[float, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _betas_are_probabilities(self) -> "Discrete":
        if not all(0 < beta < 1 for beta in self.betas):
            raise ValueError("every beta must lie strictly between 0 and 1")
        return self

    def table(self) -> Float[Tensor, "steps"]:
        """See `Table`."""
        return torch.tensor(self.betas, dtype=torch.float64)


class Betas(Table):
    """Betas by a rule that checkpoints name.

    Attributes:
        kind: ``linear``; ``scaled_linear`` (linear in the root: what latent-diffusion code and MONAI call linear);
            ``cosine`` (Nichol and Dhariwal 2021, Eq. 17, betas cut at 0.999); ``sigmoid``; ``laplace``.
        start: first beta, where the rule has one.
        stop: last beta.
        count: training steps.
        zero_terminal: rescaled so that the last step holds no signal (Lin et al. 2023, arXiv 2305.08891); that step
            has no finite noise level and is left out of the table.
    """

    name: Literal["betas"] = "betas"
    kind: Literal["linear", "scaled_linear", "cosine", "sigmoid", "laplace"] = "linear"
    start: float = Field(1e-4, gt=0, lt=1)
    stop: float = Field(0.02, gt=0, lt=1)
    count: int = Field(1000, ge=3, le=100_000)
    zero_terminal: bool = False

    @model_validator(mode="after")
    def _ends_are_ordered(self) -> "Betas":
        _ordered("start", self.start, "stop", self.stop)
        return self

    def table(self) -> Float[Tensor, "steps"]:
        """See `Table`."""
        betas = self._rule()
        if not self.zero_terminal:
            return betas
        # Stretched so that the last step keeps nothing (Lin et al. 2024, arXiv 2305.08891, algorithm 1). Its ratio of
        # noise to signal is infinite, so the table ends one step before it.
        root = torch.cumprod(1 - betas, 0).sqrt()
        kept = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
        return 1 - torch.cat([kept[:1], kept[1:-1] / kept[:-2]])

    def _rule(self) -> Float[Tensor, "steps"]:
        if self.kind == "scaled_linear":
            return torch.linspace(self.start**0.5, self.stop**0.5, self.count, dtype=torch.float64) ** 2
        if self.kind == "linear":
            return torch.linspace(self.start, self.stop, self.count, dtype=torch.float64)
        if self.kind == "sigmoid":
            share = torch.sigmoid(torch.linspace(-6, 6, self.count, dtype=torch.float64))
            return self.start + (self.stop - self.start) * share
        edges = torch.linspace(0, 1, self.count + 1, dtype=torch.float64)
        # The offset keeps the first betas from being too small to be seen, the bound below keeps the last from erasing
        # everything in one step (Nichol and Dhariwal 2021, arXiv 2102.09672, section 3.2).
        kept = torch.cos((edges + 0.008) / 1.008 * math.pi / 2) ** 2
        if self.kind == "laplace":
            log_snr = -0.5 * torch.sign(0.5 - edges) * torch.log(1 - 2 * (0.5 - edges).abs() + 1e-6)
            kept = torch.sigmoid(log_snr).sqrt()
        return (1 - kept[1:] / kept[:-1]).clamp(max=0.999)


def _ordered(low_name: str, low: float, high_name: str, high: float) -> None:
    if not low < high:
        raise ValueError(f"{low_name} ({low:g}) must be below {high_name} ({high:g})")


AnySchedule = Annotated[
    VP | Cosine | EDM | Spaced | Rectified | Geometric | Discrete | Betas, Field(discriminator="name")
]
