"""Settings of assimilations and forecasts, in YAML or as ``key=value``; saved resolved beside every result."""

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from assimilation.inference.assimilator import Assimilator
from assimilation.inference.domain import reanalysis_frames, trajectory_card
from assimilation.inference.nowcast.nowcaster import Nowcaster, nowcasts
from assimilation.inference.problem import Problem
from assimilation.inference.schedule import InferenceSchedule
from assimilation.inference.trajectory import Stepper, TrajectoryModel
from assimilation.io.radar.frame import DEFAULT_RELATION, RainRelation
from assimilation.run.observe import check_spans
from priors.card import Prior
from priors.diffusion.denoiser import DeviceName
from priors.diffusion.guidance import AnyGuidance, Guidance, Mmps
from priors.diffusion.samplers.sampler import AnySampler, Multistep
from priors.runtime.errors import InputError
from priors.runtime.system.seeds import Seed


def _lag(value: Any) -> Any:
    """Read a whole number given as text, and YAML's infinity."""
    if isinstance(value, float) and value == math.inf:
        return "inf"
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _share(value: Any) -> Any:
    """Read a share given in percent."""
    text = str(value).strip()
    try:
        return float(text.removesuffix("%")) / 100 if text.endswith("%") else value
    except ValueError:
        return value


Lag = Annotated[Annotated[int, Field(ge=0)] | Literal["inf"], BeforeValidator(_lag)]
"""A number of frames, or ``inf``."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RunSettings(_Settings):
    """What every run of a trajectory prior has.

    Attributes:
        prior: embedded prior, or a folder with a card.
        members: of the ensemble.
        seed: of every random draw.
        sampler: from noise to frames; its ``steps`` are the noise levels of a frame.
        chunk: members computed at once; None chooses from the free memory.
        cache: keep keys and values of finished frames instead of computing them again.
        device: where the network runs; ``auto`` takes a GPU where there is one.
        format: of the archive written.
        strict: make every warning about an input an error.
    """

    prior: str
    members: int = Field(16, ge=1)
    seed: Seed = 0
    sampler: AnySampler = Multistep(steps=16)
    chunk: int | None = Field(None, ge=1)
    cache: bool = True
    device: DeviceName = "auto"
    format: Literal["nc", "zarr"] = "nc"
    strict: bool = False

    def _assimilator(self, prior: Prior, schedule: InferenceSchedule, guidance: Guidance) -> Assimilator:
        spacing = trajectory_card(prior).levels
        model = TrajectoryModel(prior.denoiser, cache=self.cache, spacing=spacing)
        return Assimilator(model, prior.fields, schedule, Stepper(self.sampler, guidance))


class AssimilateSettings(RunSettings):
    """An assimilation.

    Attributes:
        lag: later frames whose observations may reach an analysis; ``inf`` uses all of them.
        overlap: with a finite lag, earlier frames drawn again with every analysis: more cost as many frames more and
            bring the analysis closer to the exact filter or smoother, the noisier the observations the more; None draws
            every frame once.
        longest: most frames in flight with an infinite lag; None is what the prior's card says, or else the reach of
            its network, so that all of them see each other.
        guidance: what observations do.
        gross_error: observations further from the background than so many standard deviations are left out and counted;
            None keeps all.
        withhold: share of the places ("10%" or 0.1) whose observations are not used, but compared with the analyses.
    """

    command: ClassVar[str] = "assimilate"

    lag: Lag = 0
    overlap: int | None = Field(3, ge=0)
    longest: int | None = Field(None, ge=2)
    guidance: AnyGuidance = Mmps()
    gross_error: float | None = Field(5.0, gt=0, allow_inf_nan=False)
    withhold: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False), BeforeValidator(_share)] = 0.0

    def schedule(self, reanalysis: int) -> InferenceSchedule:
        """Return the schedule of a run with a prior whose reanalysis draws so many frames at once."""
        steps, longest = self.sampler.steps, self.longest or max(2, reanalysis)
        if self.lag == "inf":
            return InferenceSchedule(steps=steps, lag=None, longest=longest)
        return InferenceSchedule(steps=steps, lag=self.lag, overlap=self.overlap, longest=longest)

    def assimilator(self, prior: Prior, problem: Problem | None = None) -> Assimilator:
        """Return the method these settings describe, with a prior; it is the same for every problem."""
        return self._assimilator(prior, self.schedule(reanalysis_frames(prior)), self.guidance)


class ForecastSettings(RunSettings):
    """A forecast: frame after frame, each given the ones before it.

    Attributes:
        frames: how many.
        context: most frames of the start to use; None uses as many as the network can see.
        evolution: how rain that moves changes: ``cascade`` carries on the bands of wavelength last seen as long as
            they live, disturbed by noise, and takes from the prior what it forecast better in the frames seen;
            ``prior`` draws every frame from the prior alone; ``auto`` is the first for rain in mm/h on a map, the
            second for all else.
        motion: ``advect`` takes the motion seen in the start out of it and carries the forecast on along it, ``none``
            forecasts in fixed places, ``auto`` advects rain.
        step_s: keep a frame of the start every so many seconds.
        spacing: average the start to this grid spacing first, in its unit.
        crop: part of the start's grid in cells after ``spacing``, Y0:Y1,X0:X1.
        rain: how reflectivity becomes rain.
        thresholds: of the probabilities of exceedance in products.nc, in the unit of the state; None is 0.5, 1 and 5
            for rain in mm/h, none for all else.
    """

    command: ClassVar[str] = "forecast"

    frames: int = Field(12, ge=1)
    context: int | None = Field(None, ge=1)
    evolution: Literal["auto", "cascade", "prior"] = "auto"
    motion: Literal["auto", "none", "advect"] = "auto"
    step_s: float | None = Field(None, gt=0, allow_inf_nan=False)
    spacing: float | None = Field(None, gt=0, allow_inf_nan=False)
    crop: Annotated[str, AfterValidator(check_spans)] | None = None
    rain: RainRelation = DEFAULT_RELATION
    thresholds: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] | None = None

    def assimilator(self, prior: Prior, problem: Problem) -> Assimilator:
        """Return the method these settings describe, with a prior: a nowcast, or a filter that observes nothing.

        Raises:
            InputError: a cascade was asked for, and the problem is not one of rain that moves.
        """
        cascade = self.evolution != "prior" and nowcasts(problem)
        if self.evolution == "cascade" and not cascade:
            raise InputError(
                "evolution=cascade: expected one variable of rain in mm/h that moves (motion=advect, two frames or "
                "more) on a grid in km; evolution=prior forecasts all else"
            )
        if not cascade:
            return self._assimilator(prior, InferenceSchedule(steps=self.sampler.steps, lag=0), Mmps())
        plain = self._assimilator(prior, InferenceSchedule(steps=1, lag=0), Mmps())
        minutes = trajectory_card(prior).step_s / 60
        return Nowcaster(plain.model, plain.codec, plain.schedule, plain.stepper, minutes)
