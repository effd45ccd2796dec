r"""Denoisers: E[x | x_t], the one question the rest of the software asks of a prior.

    x_t = alpha x + sigma z        denoiser(x_t, t) = E[x | x_t]

``t`` of shape (b) gives one noise level per sample, (b, f) one per frame; its axes line up with the leading
axes of ``x_t``. ``forward`` never disables gradients: the caller decides. Scales are float64, the combination
with the network's output is float32, only the network itself runs in its own dtype.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from priors.diffusion.conditioning import Conditioning, LogRatio, Step
from priors.diffusion.parametrisation import Parametrisation
from priors.diffusion.schedule import Schedule
from priors.diffusion.slabs import Slabs, single_slices
from priors.gaussian.modes import Covariance
from priors.gaussian.spectrum import Spectrum
from priors.networks.space_time_dit.attention import KeyValueCache
from priors.networks.space_time_dit.network import SpaceTimeTransformer
from priors.networks.trajectory import TrajectoryNetwork
from priors.runtime.errors import InputError

if TYPE_CHECKING:
    from priors.card.description import PriorCard
    from priors.codec import Codec, FieldCodec

States = Float[Tensor, "b ..."]
Times = Float[Tensor, "b ..."]
DeviceName = Literal["auto", "cpu", "cuda"]


class Denoiser(nn.Module, ABC):
    """Interface: a conditional mean with the schedule it was trained on.

    Attributes:
        schedule: of the times passed to ``forward``.
        card: of the prior it belongs to, once it belongs to one.
        codec: what its values mean, where a denoiser of one's own says so: what `Prior` takes under this name.
        details: what else it says of itself, by the names that `Prior` takes, such as ``trajectory``.
    """

    schedule: Schedule
    card: "PriorCard | None" = None
    codec: "Codec | FieldCodec | tuple[float, float] | Mapping[str, Any] | None" = None
    details: Mapping[str, Any] = MappingProxyType({})

    @abstractmethod
    def forward(self, x_t: States, t: Times) -> States:
        """Return E[x | x_t], same shape and dtype as ``x_t``."""

    def slabs(self, count: int) -> Slabs:
        """Return the windows of neighbouring slices through which a volume of ``count`` slices is seen."""
        return single_slices(count)

    def gaussian_covariance(self, t: Times, *, past: int = 0) -> Covariance | None:
        """Return Cov[x | x_t] of a Gaussian process near the prior, None where none is known.

        Args:
            t: times of the frames, one row for all samples.
            past: clean frames directly before them.
        """
        return None


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


def resolved_device(asked: DeviceName) -> torch.device:
    """Return the device of a setting: ``auto`` is the first GPU where there is one.

    Raises:
        InputError: a GPU was asked for and none can be used.
    """
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise InputError("device: found 'cuda', but PyTorch sees no GPU here; expected 'auto' or 'cpu'")
    return torch.device("cuda" if available and asked != "cpu" else "cpu")


class NetworkDenoiser(Denoiser):
    """A trained network behind its parametrisation.

    A network of slices is called as ``network(input, told)`` with states (b, k, y, x) and what the conditioning makes
    of the noise level (b). A network of trajectories takes states (b, f, k, y, x) and times (b, f), or (b) for
    frames that share one. Its frames at t = 0 are finished: they are clean and look back only, so they may as
    well be in a cache: `remember` them, then ask `cached` about the frames after them.

    Args:
        network: the network.
        schedule: the schedule of the times passed to ``forward``.
        parametrisation: what the network's output means.
        conditioning: how the network is told the noise level.
        reduced: run the network in bfloat16 where the device has it.
        causal: frames of a trajectory see no later ones; otherwise those above t = 0 see both ways.
        spectrum: of a Gaussian process with the second moments of the training data, if known.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        schedule: Schedule,
        parametrisation: Parametrisation,
        conditioning: Conditioning | None = None,
        reduced: bool = True,
        causal: bool = False,
        spectrum: Spectrum | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.parametrisation = parametrisation
        self.conditioning = LogRatio() if conditioning is None else conditioning
        self.reduced = reduced
        self.causal = causal
        self.spectrum = spectrum
        self.cache: KeyValueCache | None = None
        self.labels: Tensor | None = None

    def with_settings(self, *, causal: bool | None = None, reduced: bool | None = None) -> "NetworkDenoiser":
        """Return a denoiser of the same weights with another mask or precision."""
        other = NetworkDenoiser(
            self.network,
            schedule=self.schedule,
            parametrisation=self.parametrisation,
            conditioning=self.conditioning,
            reduced=self.reduced if reduced is None else reduced,
            causal=self.causal if causal is None else causal,
            spectrum=self.spectrum,
        ).train(self.training)
        other.labels = self.labels
        return other

    @property
    def caches(self) -> bool:
        """Whether finished frames can be remembered."""
        return isinstance(self.network, TrajectoryNetwork) and self.network.caches

    @property
    def longest(self) -> int | None:
        """Most frames the network takes in one call; None where nothing limits them."""
        return self.network.longest if isinstance(self.network, TrajectoryNetwork) else None

    @property
    def device(self) -> torch.device:
        """Where the network is; the CPU for one without weights."""
        weight = next(self.network.parameters(), None)
        return torch.device("cpu") if weight is None else weight.device

    def cached(self, cache: KeyValueCache | None) -> "NetworkDenoiser":
        """Return the denoiser of the frames that follow the finished ones in ``cache``.

        The same as asking about all frames with the finished ones at t = 0, without computing those again.
        """
        following = self.with_settings()
        following.cache = cache
        return following

    def of_classes(self, labels: Int[Tensor, "b"] | None) -> "NetworkDenoiser":
        """Return the denoiser of samples of these classes, one per sample; None keeps the network's own."""
        if labels is None:
            return self
        labelled = self.with_settings()
        labelled.labels = labels
        return labelled

    def remember(self, x: States, cache: KeyValueCache | None = None) -> KeyValueCache:
        """Return ``cache``, none by default, continued by the finished frames ``x`` (b, f, k, y, x).

        They are seen as the states alpha(0) x: what `cached` answers is then what a call with those states gives.
        """
        network = self.network
        if not isinstance(network, TrajectoryNetwork) or not network.caches:
            raise InputError(
                "this prior has no memory of frames: expected a prior of trajectories that keeps keys"
            )
        zero = torch.zeros(x.shape[:2], dtype=torch.float64, device=x.device)
        states, noise_labels = self._seen(broadcast_scales(self.schedule, x, zero)[0] * x, zero)
        with self._precision():
            return network.remember(states.to(self.device), noise_labels.to(self.device), cache)

    def gaussian_covariance(self, t: Times, *, past: int = 0) -> Covariance | None:
        """See `Denoiser`: that of the network's linear estimate, else of the spectrum."""
        known, linear = past + (0 if self.cache is None else self.cache.frames), None
        if isinstance(self.network, SpaceTimeTransformer):
            # What a cache keeps: with and without one the answer is the same.
            known, linear = min(known, self.network.settings.reach), self.network.filter
        ratio = self.schedule.ratio(t)
        spread = None if linear is None else linear.spread(ratio, known)
        if spread is not None or self.spectrum is None:
            return spread
        return self.spectrum.spread(ratio, known)

    def raw(self, x_t: States, t: Times, *, jump: Times | None = None) -> States:
        """Return the network's own output, what training compares with `Parametrisation.target`.

        The state may be on another device than the network: it visits the network and comes back.

        Args:
            x_t: the state.
            t: its times.
            jump: how far the answer jumps in sigma, of a few-step network; the velocity at ``t`` itself by default.
        """
        frames: dict[str, Any] = {}
        if self.labels is not None:
            frames["labels"] = self.labels.to(self.device)
        if jump is not None:
            frames["jump"] = jump.to(self.device)
        if isinstance(self.network, TrajectoryNetwork):
            t = t[:, None].expand(x_t.shape[:2]) if t.ndim == 1 else t
            frames |= {"causal": self.causal, "finished": (t == 0).to(self.device), "cache": self.cache}
        states, noise_labels = self._seen(x_t, t)
        with self._precision():
            output: Tensor = self.network(states.to(self.device), noise_labels.to(self.device), **frames)
        return output.to(x_t)

    def forward(self, x_t: States, t: Times) -> States:
        """See `Denoiser`."""
        alpha, sigma = broadcast_scales(self.schedule, x_t, t)
        return self.parametrisation.clean(self.raw(x_t, t), x_t, alpha, sigma)

    def _seen(self, x_t: States, t: Times) -> tuple[States, Times]:
        """Return the network's input of a state, and the number that stands for its noise level."""
        alpha, sigma = broadcast_scales(self.schedule, x_t, t)
        noise_labels = self.conditioning(self.schedule, t).to(torch.promote_types(x_t.dtype, torch.float32))
        states = self.parametrisation.network_input(x_t, alpha, sigma)
        if isinstance(self.conditioning, Step) and self.conditioning.clean is not None and t.ndim == 2:
            scale = torch.where(t == 0, self.conditioning.finished_scale(self.schedule), 1.0).to(states)
            states = scale.reshape(*t.shape, *(1,) * (states.ndim - 2)) * states
        return states, noise_labels

    def _precision(self) -> torch.autocast:
        reduced = self.reduced and bfloat16_pays(self.device)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=reduced)


class GaussianDenoiser(Denoiser):
    r"""The exact conditional mean of Gaussian data x ~ N(mean, covariance): the oracle of every test.

    With A = diag(alpha) and S = diag(sigma), one level per sample or per frame,

        E[x | x_t] = mean + C A (A C A + S^2)^-1 (x_t - A mean)

    The covariance acts on flattened samples, for trajectories across frames too. The eigenvectors of C solve
    the system where a sample has one level; levels per frame take one Cholesky factorisation of
    S^-1 A C A S^-1 + I for every different set of levels in the batch.

    A trajectory shorter than the mean is the first part of it: for a stationary process that is any window.

    Args:
        mean: one sample's mean, any shape.
        covariance: (n, n) symmetric positive semi-definite, n = mean.numel().
        schedule: the schedule of the times passed to ``forward``.
    """

    mean: Tensor
    covariance: Tensor
    values: Tensor
    vectors: Tensor

    def __init__(
        self, mean: Float[Tensor, "..."], covariance: Float[Tensor, "n n"], *, schedule: Schedule
    ) -> None:
        super().__init__()
        values, vectors = torch.linalg.eigh(covariance)
        self.register_buffer("mean", mean)
        self.register_buffer("covariance", covariance)
        self.register_buffer("values", values.clamp(min=0))
        self.register_buffer("vectors", vectors)
        self.schedule = schedule

    def forward(self, x_t: States, t: Times) -> States:
        """See `Denoiser`."""
        if t.ndim == 1:
            return self._one_level(x_t, t)
        rows, index = torch.unique(t, dim=0, return_inverse=True)
        if len(rows) == 1:
            return self._per_frame(x_t, rows[0])
        estimate = torch.empty_like(x_t)
        for number, levels in enumerate(rows):
            estimate = torch.where(
                (index == number).reshape(-1, *(1,) * (x_t.ndim - 1)),
                self._per_frame(x_t, levels),
                estimate,
            )
        return estimate

    def _one_level(self, x_t: States, t: Float[Tensor, "b"]) -> States:
        alpha, sigma = (scale.reshape(-1, 1).to(x_t) for scale in self.schedule(t))
        mean = self.mean.flatten().to(x_t)
        gain = alpha * self.values / (alpha**2 * self.values + sigma**2)
        innovation = (x_t.flatten(1) - alpha * mean) @ self.vectors
        return (mean + (gain * innovation) @ self.vectors.T).reshape(x_t.shape)

    def _per_frame(self, x_t: States, t: Float[Tensor, "f"]) -> States:
        frame = x_t[0, 0].numel()
        n = frame * x_t.shape[1]
        alpha, sigma = (scale.to(self.covariance).repeat_interleave(frame) for scale in self.schedule(t))
        mean = self.mean[: x_t.shape[1]].flatten()
        scaled = self.covariance[:n, :n] * (alpha / sigma)
        system = scaled * (alpha / sigma)[:, None] + torch.eye(n, dtype=scaled.dtype, device=scaled.device)
        whitened = (x_t.flatten(1).to(scaled) - alpha * mean) / sigma
        solved = torch.cholesky_solve(whitened.T, torch.linalg.cholesky(system))
        return (mean + (scaled @ solved).T).to(x_t).reshape(x_t.shape)
