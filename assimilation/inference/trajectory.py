r"""A trajectory prior with a window that rolls: finished frames leave into the past, new ones enter as noise.

    past (finished, clean, t = 0)  |  window (in flight, each frame at its own noise level)  |  not yet entered

The past conditions the window and never changes. With a network its keys and values are cached, so a run denoises
frames in flight only and has no largest length. Without a cache the finished frames are given along with the
window on every call: the slow way, for denoisers that remember nothing and to check the other.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from assimilation.inference.schedule import Row
from priors.diffusion.denoiser import Denoiser, NetworkDenoiser
from priors.diffusion.guidance import Guidance, Likelihood
from priors.diffusion.levels import NoiseSpacing
from priors.diffusion.samplers.sampler import Sampler, SamplerState, normal
from priors.gaussian.modes import Covariance
from priors.networks.space_time_dit.attention import KeyValueCache

Trajectories = Float[Tensor, "b f k y x"]


class Past(ABC):
    """Finished frames of a batch, as what they do to the frames after them."""

    @abstractmethod
    def followed_by(self, frames: Trajectories) -> "Past":
        """Return the past continued by finished frames."""

    @abstractmethod
    def denoiser(self) -> Denoiser:
        """Return the denoiser of the frames that follow."""

    @abstractmethod
    def saved(self) -> list[Tensor]:
        """Return what ``restored`` needs."""

    @abstractmethod
    def restored(self, saved: Sequence[Tensor]) -> "Past":
        """Return the past that was saved."""


@dataclass(frozen=True, eq=False)
class CachedPast(Past):
    """Keys and values of finished frames."""

    prior: NetworkDenoiser
    cache: KeyValueCache | None = None

    def followed_by(self, frames: Trajectories) -> "CachedPast":
        """See `Past`."""
        # Finished frames are constants: no gradient of guidance runs through them, and none is kept in memory.
        with torch.no_grad():
            return replace(self, cache=self.prior.remember(frames, self.cache))

    def denoiser(self) -> Denoiser:
        """See `Past`."""
        return self.prior.cached(self.cache)

    def saved(self) -> list[Tensor]:
        """See `Past`."""
        return [] if self.cache is None else [tensor for layer in self.cache.layers for tensor in layer]

    def restored(self, saved: Sequence[Tensor]) -> "CachedPast":
        """See `Past`."""
        pairs = tuple(zip(saved[0::2], saved[1::2], strict=True))
        return replace(self, cache=KeyValueCache(pairs) if pairs else None)


@dataclass(frozen=True, eq=False)
class GivenPast(Past):
    """Finished frames that are given again on every call.

    Attributes:
        prior: a denoiser of trajectories with one level per frame.
        longest: most frames to keep; None keeps all.
        frames: the finished frames.
    """

    prior: Denoiser
    longest: int | None = None
    frames: Trajectories | None = None

    def followed_by(self, frames: Trajectories) -> "GivenPast":
        """See `Past`."""
        known = frames if self.frames is None else torch.cat([self.frames, frames], 1)
        return replace(self, frames=known if self.longest is None else known[:, -self.longest :])

    def denoiser(self) -> Denoiser:
        """See `Past`."""
        return self.prior if self.frames is None else ConditionedDenoiser(self.prior, self.frames)

    def saved(self) -> list[Tensor]:
        """See `Past`."""
        return [] if self.frames is None else [self.frames]

    def restored(self, saved: Sequence[Tensor]) -> "GivenPast":
        """See `Past`."""
        return replace(self, frames=saved[0] if saved else None)


class ConditionedDenoiser(Denoiser):
    """E[frames | clean frames before them, x_t]: the clean frames stand in front, at time 0 and without noise."""

    def __init__(self, prior: Denoiser, past: Trajectories) -> None:
        super().__init__()
        self.prior, self.past = prior, past
        self.schedule = prior.schedule

    def forward(self, x_t: Trajectories, t: Float[Tensor, "..."]) -> Trajectories:
        """See `Denoiser`."""
        t = t[:, None].expand(x_t.shape[:2]) if t.ndim == 1 else t
        past = self.past[:, self.past.shape[1] - self._room(x_t.shape[1]) :]
        zero = torch.zeros(t.shape[0], past.shape[1], dtype=t.dtype, device=t.device)
        # A clean frame x is x_t = alpha(0) x at time 0; alpha(0) is not 1 in every schedule.
        alpha = self.schedule(t.new_zeros(1, 1))[0].to(x_t)
        whole: Tensor = self.prior(torch.cat([alpha * past, x_t], 1), torch.cat([zero, t], 1))
        return whole[:, past.shape[1] :]

    def _room(self, frames: int) -> int:
        """Return how many of the last finished frames fit beside ``frames`` in flight."""
        longest = self.prior.longest if isinstance(self.prior, NetworkDenoiser) else None
        return self.past.shape[1] if longest is None else max(0, min(self.past.shape[1], longest - frames))

    def gaussian_covariance(self, t: Float[Tensor, "f"], *, past: int = 0) -> Covariance | None:
        """See `Denoiser`."""
        return self.prior.gaussian_covariance(t, past=past + self.past.shape[1])


@dataclass(frozen=True, eq=False)
class Window:
    """The frames in flight of a batch of members.

    Attributes:
        past: the finished frames before them.
        u: states in u-coordinates.
        clean: E[x | u] of each frame's last step, 0 where it had none.
        level: noise level s of the step before, NaN where there was none.
    """

    past: Past
    u: Trajectories
    clean: Trajectories
    level: Float[Tensor, "f"]

    def saved(self) -> dict[str, Tensor | list[Tensor]]:
        """Return tensors that `restored` understands."""
        return {"past": self.past.saved(), "u": self.u, "clean": self.clean, "level": self.level}

    def restored(self, saved: Mapping[str, Tensor | list[Tensor]]) -> "Window":
        """Return the window that was saved."""
        past, *rest = (saved[name] for name in ("past", "u", "clean", "level"))
        u, clean, level = (value for value in rest if isinstance(value, Tensor))
        device = self.u.device
        # Levels stay on the CPU in float64: schedules are evaluated there, in full precision.
        restored = self.past.restored([tensor.to(device) for tensor in past])
        return Window(restored, u.to(device), clean.to(device), level)


@dataclass(frozen=True)
class Stepper:
    """How a window takes a step: the sampler and what observations do to it."""

    sampler: Sampler
    guidance: Guidance


@dataclass(frozen=True, eq=False)
class TrajectoryModel:
    """A prior of trajectories and its rolling window.

    Attributes:
        denoiser: one noise level per frame.
        cache: keep keys and values of finished frames, where the prior's network can.
        longest_past: without a cache, most finished frames given to the denoiser; None gives all.
        spacing: noise levels between pure noise and clean, as the prior's card states them.
    """

    denoiser: Denoiser
    cache: bool = True
    longest_past: int | None = None
    spacing: NoiseSpacing = field(default_factory=NoiseSpacing)

    @property
    def device(self) -> torch.device:
        """Where the prior is."""
        return self._held().device

    @property
    def dtype(self) -> torch.dtype:
        """What the prior computes in."""
        return self._held().dtype

    def _held(self) -> Tensor:
        # A denoiser without weights is a formula: single precision on the CPU.
        return next(chain(self.denoiser.parameters(), self.denoiser.buffers()), torch.zeros(0))

    def noise_levels(self, levels: Sequence[float]) -> Float[Tensor, "f"]:
        """Return s = sigma / alpha of levels in [0, 1], float64."""
        return self.spacing(torch.tensor(levels, dtype=torch.float64), self.denoiser.schedule)

    def start(self, members: int, shape: tuple[int, int, int], context: Trajectories | None = None) -> Window:
        """Return the empty window of ``members`` states of ``shape`` (k, y, x) after clean context frames."""
        past: Past = GivenPast(self.denoiser, self.longest_past)
        if self.cache and isinstance(self.denoiser, NetworkDenoiser) and self.denoiser.caches:
            past = CachedPast(self.denoiser)
        if context is not None:
            past = past.followed_by(context.to(self.device, self.dtype))
        nothing = torch.zeros(members, 0, *shape, device=self.device, dtype=self.dtype)
        return Window(past, nothing, nothing, torch.zeros(0, dtype=torch.float64))

    def advance(
        self,
        window: Window,
        row: Row,
        stepper: Stepper,
        *,
        likelihood: Likelihood | None,
        draws: Sequence[torch.Generator],
    ) -> tuple[Window, Trajectories]:
        """Take one step and return the window after it and the frames whose analysis is complete.

        Args:
            window: before the step.
            row: the step.
            stepper: sampler and guidance.
            likelihood: of the frames of the row; None where nothing was observed.
            draws: one generator per member.
        """
        state, level = self._entered(window, row, draws)
        s, r = self.noise_levels(row.before), self.noise_levels(row.after)
        count = len(state.u)
        before = replace(state, level=s.expand(count, -1), previous_level=level.expand(count, -1))
        prior = window.past.denoiser()
        guided = prior if likelihood is None else stepper.guidance.posterior(prior, likelihood)
        with torch.no_grad():
            after = stepper.sampler.step(before, r.expand(count, -1), denoiser=guided, generator=draws)
            if likelihood is not None:
                after = stepper.guidance.correct(before, after, prior=prior, likelihood=likelihood)
        clean = after.previous_clean
        assert clean is not None
        finished = row.keep - row.first
        emitted = (
            after.u[:, row.emit.start - row.first : row.emit.stop - row.first] if row.emit else after.u[:, :0]
        )
        past = window.past.followed_by(after.u[:, :finished]) if finished else window.past
        return Window(past, after.u[:, finished:], clean[:, finished:], s[finished:]), emitted

    def _entered(
        self, window: Window, row: Row, draws: Sequence[torch.Generator]
    ) -> tuple[SamplerState, Float[Tensor, "f"]]:
        """Return the state with the row's fresh frames in it, and the level of each frame's last step."""
        if not row.fresh:
            return SamplerState(window.u, 0.0, window.clean), window.level
        kept, fresh = row.fresh.start, len(row.fresh)
        like = window.u.new_empty(len(window.u), fresh, *window.u.shape[2:])
        levels = self.noise_levels(row.before[kept:]).to(like)
        # In u = x_t / alpha pure noise has deviation s = sigma / alpha; data is negligible beside it at level 1.
        noise = levels.reshape(-1, 1, 1, 1) * normal(like, draws)
        u = torch.cat([window.u[:, :kept], noise], 1)
        clean = torch.cat([window.clean[:, :kept], torch.zeros_like(noise)], 1)
        # NaN marks frames without a step before: a multistep sampler takes a first-order step there.
        never = torch.full((fresh,), float("nan"), dtype=torch.float64)
        return SamplerState(u, 0.0, clean), torch.cat([window.level[:kept], never])
