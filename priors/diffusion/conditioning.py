r"""Conditioning on the noise level: the number that a network takes beside the noisy state.

With ``s = sigma / alpha`` and the time ``t`` of the schedule:

    log-ratio     factor log(unit s)      ours (1), EDM (1/4), OpenAI's EDM code (250); NCSN++ (1), with EDM's unit 1/2
    step          factor (position in the schedule's table of betas)
    share         factor sigma / (alpha + sigma)      flow matching: the share of noise in the state (often 1000)
    time          factor r, the time of a VP schedule as its source counts it (score_sde: 999)
    sigma         s, for networks that take its logarithm themselves

A position between two training steps is passed as it is; within 2e-3 of one it is that step, so that rounding on the
way from a level to a time never shows.
"""

from abc import ABC, abstractmethod
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from priors.diffusion.schedule import VP, Schedule, Table

Times = Float[Tensor, "..."]
SNAP = 2e-3


class Conditioning(BaseModel, ABC):
    """Map from a schedule's time to the number the network takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def __call__(self, schedule: Schedule, t: Times) -> Times:
        """Return the number, float64, for times of any shape."""

    def require(self, schedule: Schedule) -> None:
        """Check that the schedule has what is asked of it.

        Raises:
            ValueError: it has not.
        """


class LogRatio(Conditioning):
    """A multiple of log(unit sigma / alpha).

    Attributes:
        factor: of the logarithm.
        unit: factor of the level: 1/2 where a network trained on [0, 1] is used on [-1, 1].
    """

    name: Literal["log-ratio"] = "log-ratio"
    factor: float = 1.0
    unit: float = Field(1.0, gt=0)

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        """See `Conditioning`."""
        return self.factor * torch.log(self.unit * schedule.ratio(t))


class Step(Conditioning):
    """A multiple of the position in the table of betas; 0 is the first training step.

    Attributes:
        factor: of the position.
        clean: position that stood in training for finished frames of a trajectory: they were told this step, scaled by
            its alpha, and given no noise. None is the first step.
    """

    name: Literal["step"] = "step"
    factor: float = 1.0
    clean: int | None = Field(None, ge=1)

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        """See `Conditioning`."""
        assert isinstance(schedule, Table)
        position = t.double() * (schedule.steps() - 1)
        whole = position.round()
        position = torch.where((position - whole).abs() < SNAP, whole, position)
        if self.clean is not None and t.ndim == 2:
            position = torch.where(t == 0, float(self.clean), position)
        return self.factor * position

    def finished_scale(self, schedule: Schedule) -> float:
        """Return what a finished frame, given as alpha(0) x, is multiplied by: alpha at ``clean`` over alpha(0)."""
        if self.clean is None:
            return 1.0
        assert isinstance(schedule, Table)
        ends = torch.tensor([0.0, self.clean / (schedule.steps() - 1)], dtype=torch.float64)
        alpha = schedule(ends)[0]
        return float(alpha[1] / alpha[0])

    def require(self, schedule: Schedule) -> None:
        """See `Conditioning`."""
        if not isinstance(schedule, Table):
            raise ValueError(
                f"conditioning 'step' needs a schedule with a table of betas, found {schedule!r}"
            )


class Share(Conditioning):
    """A multiple of sigma / (alpha + sigma)."""

    name: Literal["share"] = "share"
    factor: float = 1000.0

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        """See `Conditioning`."""
        alpha, sigma = schedule(t)
        return self.factor * sigma / (alpha + sigma)


class SourceTime(Conditioning):
    """A multiple of the time of a VP schedule, counted from 0 before its ``start``."""

    name: Literal["time"] = "time"
    factor: float = 999.0

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        """See `Conditioning`."""
        assert isinstance(schedule, VP)
        return self.factor * (schedule.start + (1 - schedule.start) * t.double())

    def require(self, schedule: Schedule) -> None:
        """See `Conditioning`."""
        if not isinstance(schedule, VP):
            raise ValueError(f"conditioning 'time' needs the schedule 'vp', found {schedule!r}")


class Sigma(Conditioning):
    """The noise level itself."""

    name: Literal["sigma"] = "sigma"

    def __call__(self, schedule: Schedule, t: Times) -> Times:
        """See `Conditioning`."""
        return schedule.ratio(t)


AnyConditioning = Annotated[LogRatio | Step | Share | SourceTime | Sigma, Field(discriminator="name")]
