"""What one training run is: data, network, schedule, steps. Written in YAML, saved beside the result."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from priors.codec import Codec, FieldCodec
from priors.diffusion.conditioning import AnyConditioning, LogRatio
from priors.diffusion.denoiser import DeviceName
from priors.diffusion.fitted import SliceFit
from priors.diffusion.levels import TrajectoryLevels
from priors.diffusion.parametrisation import AnyParametrisation, Flow, Preconditioned, Velocity
from priors.diffusion.schedule import EDM, AnySchedule, Cosine, Schedule
from priors.networks import DiffusersUNet, MonaiDiffusionUNet, MonaiUNet, SpaceTimeDiT
from priors.networks.song_unet import SongUNet
from priors.runtime.config import load, merge, parse_override, read_yaml
from priors.runtime.errors import InputError
from priors.runtime.system.seeds import Seed
from priors.training.configuration.settings import (
    Average,
    Condition,
    EarlyStop,
    Keep,
    Memorisation,
    Parallel,
    Precision,
    Preview,
)
from priors.training.few_step import Denoising, FewStep
from priors.training.objective import LevelSampler
from priors.training.slices.data import Augmentation, Crop
from priors.training.trajectories.data import Moves
from priors.training.trajectories.objective import Weighting


class Description(BaseModel):
    """The part of a prior's card that only its maker knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trained_on: str
    licence: str
    citation: str
    axes: str = "y x"
    pixel_mm: tuple[float, float] = Field(description="range of pixel spacings seen in training")

    @model_validator(mode="after")
    def _spacings_are_ordered(self) -> "Description":
        low, high = self.pixel_mm
        if not 0 < low <= high:
            raise ValueError(f"pixel_mm ({low:g}, {high:g}) must be a positive range, smallest first")
        return self


class TrajectoryDescription(BaseModel):
    """The part of a trajectory prior's card that only its maker knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trained_on: str
    licence: str
    citation: str
    axes: str = "time k y x"
    extent: tuple[float, float, float, float] | None = Field(
        None, description="first and last coordinate (y, y, x, x) of the one domain the prior is for"
    )


class Optimisation(BaseModel):
    """AdamW with linear warm-up and a rate that ends at zero (`priors.training.engine.rate`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(6000, ge=1)
    stop: int | None = Field(
        None, ge=1, description="end here, before the rate is down, for another run to go on"
    )
    learning_rate: float = Field(8e-4, gt=0)
    warmup: int = Field(200, ge=1)
    weight_decay: float = Field(1e-2, ge=0)
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    ema: float = Field(0.998, gt=0, lt=1)
    rate: Literal["cosine", "constant-decay"] = Field(
        "cosine", description="constant-decay can be prolonged with --extend without a new start of the rate"
    )
    cooldown: float = Field(0.2, gt=0, le=1, description="share of the steps in which constant-decay decays")

    extended: tuple[int, ...] = Field(
        (), description="steps after which an ended run was prolonged (--extend): its rate began anew there"
    )

    @model_validator(mode="after")
    def _extensions_grow(self) -> "Optimisation":
        ends = [0, *self.extended, self.steps]
        if any(later <= earlier for earlier, later in itertools.pairwise(ends)):
            raise ValueError(f"extended {self.extended} must grow and end below steps ({self.steps})")
        if self.extended and self.stop is not None:
            raise ValueError("stop: ends a run before its rate is down, so it cannot have been extended")
        return self

    def segment(self, step: int) -> tuple[int, int]:
        """Return first step and end of the part of the run that ``step`` is in: all of it if never extended."""
        segments = list(itertools.pairwise([0, *self.extended, self.steps]))
        return next((span for span in segments if step < span[1]), segments[-1])

    def cooldown_begin(self, begin: int, end: int) -> int:
        """Return the first step of the decay of constant-decay in the part from ``begin`` to ``end``."""
        return begin + max(self.warmup, round((1 - self.cooldown) * (end - begin)))

    def longer(self, steps: int, *, done: int) -> "Optimisation":
        """Return the settings with ``steps`` steps more, of a run of which ``done`` are done.

        Before its decay a run at a constant rate just goes on; any other begins its rate anew after its end.
        """
        begin, end = self.segment(self.steps - 1)
        seamless = self.rate == "constant-decay" and done <= self.cooldown_begin(begin, end)
        ends = self.extended if seamless else (*self.extended, self.steps)
        return type(self).model_validate({**self.model_dump(), "steps": self.steps + steps, "extended": ends})

    def prolongs(self, earlier: "Optimisation", *, done: int) -> bool:
        """Tell whether these are the settings of ``earlier`` with steps added at its end."""
        if self.extended == (*earlier.extended, earlier.steps):
            return True
        begin, end = earlier.segment(earlier.steps - 1)
        before_decay = earlier.rate == "constant-decay" and done <= earlier.cooldown_begin(begin, end)
        return before_decay and self.extended == earlier.extended and self.steps > earlier.steps

    @property
    def last(self) -> int:
        """Number of steps that are done."""
        return self.steps if self.stop is None else min(self.steps, self.stop)


TrainableSlices = Annotated[
    MonaiUNet | DiffusersUNet | MonaiDiffusionUNet | SongUNet, Field(discriminator="name")
]
"""Networks of slices that can be trained here: ours, and those of imported priors."""

AnyTrainable = Annotated[
    MonaiUNet | DiffusersUNet | MonaiDiffusionUNet | SongUNet | SpaceTimeDiT, Field(discriminator="name")
]


class Training(BaseModel):
    """What every run has, whatever it trains on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    data: Path
    seed: Seed = 0
    device: DeviceName = Field(
        "auto", description="where the network is trained; auto takes a GPU if there is one"
    )
    network: AnyTrainable
    schedule: AnySchedule
    parametrisation: AnyParametrisation
    conditioning: AnyConditioning = Field(LogRatio(), description="how the network is told the noise level")
    codec: Codec | FieldCodec
    initial: str | None = Field(
        None,
        description="prior whose weights training starts from; network, levels and codec are its own where the network "
        "is not given",
    )
    train_only: tuple[str, ...] = Field(
        (),
        description="beginnings of the names of the weights that are trained; the others stay the initial prior's",
    )
    optimisation: Optimisation = Optimisation()
    average: Average = Average()
    precision: Precision = Precision()
    parallel: Parallel = Parallel()
    stop: EarlyStop = EarlyStop()
    memorisation: Memorisation = Memorisation()
    keep: Keep = Keep()
    preview: Preview = Preview()
    validate_every: int = Field(500, ge=1)
    save_every: int = Field(250, ge=1)
    validation_fields: int = Field(8, ge=1)
    validation_levels: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)

    @property
    def card_schedule(self) -> Schedule:
        """The schedule of the card."""
        return self.schedule

    @model_validator(mode="after")
    def _frozen_weights_are_a_prior_s(self) -> "Training":
        if self.train_only and self.initial is None:
            raise ValueError("train_only: weights that stay have to come from a prior, expected initial")
        return self


class TrainConfig(Training):
    """A training run on slices."""

    network: TrainableSlices
    schedule: AnySchedule = EDM()
    parametrisation: AnyParametrisation = Preconditioned()
    codec: Codec
    description: Description
    crops: tuple[Crop, ...] = Field(min_length=1)
    final_crops: tuple[Crop, ...] = Field((), description="crops of the last part of training, if others")
    final_share: float = Field(0.15, ge=0, le=1)
    augmentation: Augmentation = Augmentation()
    levels: LevelSampler = LevelSampler()
    slab: int = Field(
        1,
        ge=1,
        description="neighbouring slices of a sample; a prior of them, of a block where the network is one",
    )
    objective: Annotated[Denoising | FewStep, Field(discriminator="kind")] = Denoising()
    condition: Condition | None = Field(
        None, description="classes the network is told; network.classes is their number"
    )

    @model_validator(mode="before")
    @classmethod
    def _network_follows(cls, data: Any) -> Any:
        # What other sections decide about the network need not be said twice.
        if not isinstance(data, Mapping) or not isinstance(data.get("network"), Mapping):
            return data
        network, condition = dict(data["network"]), data.get("condition")
        classes = condition.get("classes") if isinstance(condition, Mapping) else None
        if isinstance(classes, list | tuple) and network.get("classes") is None:
            network["classes"] = len(classes)
        objective = data.get("objective")
        if isinstance(objective, Mapping) and objective.get("kind") == "few-step":
            network["jumps"] = True
        # A network of three dimensions takes a block of whatever depth.
        if network.get("name", "monai-unet") == "monai-unet" and network.get("neighbours", 1) == 1:
            network["neighbours"] = data.get("slab", 1)
        return {**data, "network": network}

    @property
    def channels(self) -> int:
        """Channels of a sample: its slices, or the colours of one."""
        return self.slab if self.slab > 1 else self.network.field_channels

    @property
    def fit(self) -> SliceFit | None:
        """What the card will say of slices that go in together; None of single ones."""
        if self.slab == 1:
            return None
        return SliceFit(
            channels="neighbours" if isinstance(self.network, MonaiUNet) else "block", slices=self.slab
        )

    @model_validator(mode="after")
    def _network_takes_the_slab(self) -> "TrainConfig":
        if isinstance(self.network, MonaiUNet):
            if self.network.neighbours != self.slab:
                raise ValueError(
                    f"slab: found {self.slab}, but network.neighbours is {self.network.neighbours}; expected the same"
                )
        elif (self.slab > 1) != (isinstance(self.network, MonaiDiffusionUNet) and self.network.volume):
            raise ValueError(
                f"slab: found {self.slab}; blocks are for monai-diffusion-unet with spatial_dims 3, neighbours for "
                "monai-unet"
            )
        if self.slab > 1 and isinstance(self.objective, FewStep):
            raise ValueError("slab: a few-step prior is one of single slices")
        return self

    @model_validator(mode="after")
    def _network_can_jump(self) -> "TrainConfig":
        jumps = isinstance(self.network, MonaiUNet) and self.network.jumps
        if jumps != isinstance(self.objective, FewStep):
            raise ValueError(
                "objective few-step: needs the network monai-unet with jumps true, and nothing else does"
            )
        if jumps and not (self.schedule.name == "rectified" and self.parametrisation == Flow()):
            raise ValueError(
                "objective few-step: needs schedule {name: rectified} and parametrisation {name: flow}"
            )
        return self

    @model_validator(mode="after")
    def _network_knows_the_classes(self) -> "TrainConfig":
        known = self.network.classes if isinstance(self.network, MonaiUNet) else None
        asked = None if self.condition is None else len(self.condition.classes)
        if asked is not None and not isinstance(self.network, MonaiUNet):
            raise ValueError(
                "condition: is for the network monai-unet; others keep the classes they came with"
            )
        if known != asked:
            raise ValueError(f"network.classes: found {known}, expected the {asked} of condition.classes")
        return self


class TrajectoryConfig(Training):
    """A training run on trajectories."""

    kind: Literal["trajectories"]
    network: SpaceTimeDiT
    schedule: AnySchedule = Cosine()
    sampling: AnySchedule | None = Field(
        None,
        description="schedule of the card, if its times are spaced otherwise; the same levels at times 0 and 1",
    )
    parametrisation: AnyParametrisation = Velocity()
    codec: FieldCodec
    description: TrajectoryDescription
    frames: int = Field(10, ge=2, description="frames of a window")
    reanalysis: int | None = Field(
        None, ge=2, description="frames to draw together with an infinite lag; null is the network's reach"
    )
    size: int | None = Field(None, ge=8, description="pixels of a square crop; whole fields by default")
    batch: int = Field(8, ge=1)
    candidates: int = Field(1, ge=1, description="windows drawn per sample; the most variable one is taken")
    moves: Moves = Moves()
    shift: tuple[float, ...] = Field(
        (), description="deviation of a constant added to whole windows, by variable: for short archives"
    )
    mixing: float = Field(
        0.5,
        ge=0,
        le=1,
        description="stationary share of the spatial covariance whose modes network.modes asks for",
    )
    levels: TrajectoryLevels = TrajectoryLevels()
    weighting: Weighting = Weighting()
    causal_share: float = Field(0.5, ge=0, le=1, description="share of batches with a causal mask")

    @model_validator(mode="after")
    def _ends_have_one_level(self) -> "TrajectoryConfig":
        # Clean context and pure noise are the levels seen most in training, and the ones between hardly near them.
        for t in (0.0, 1.0):
            end = torch.tensor(t, dtype=torch.float64)
            trained, used = (float(each.ratio(end)) for each in (self.schedule, self.card_schedule))
            if not math.isclose(trained, used, rel_tol=1e-4):
                raise ValueError(
                    f"sampling: its level at time {t:g} is {used:.6g}, that of training {trained:.6g}"
                )
        return self

    @property
    def card_schedule(self) -> Schedule:
        """The schedule of the card."""
        return self.sampling or self.schedule

    @model_validator(mode="after")
    def _shifts_are_of_the_variables(self) -> "TrajectoryConfig":
        if self.shift and len(self.shift) != len(self.codec.variables):
            raise ValueError(f"shift: found {len(self.shift)}, expected one per variable of the codec")
        pairs = zip(self.shift, self.codec.variables, strict=False)
        if any(shift and each.transform != "none" for shift, each in pairs):
            raise ValueError("shift: a variable with a transform has no constant to add")
        return self

    @model_validator(mode="after")
    def _network_has_the_variables(self) -> "TrajectoryConfig":
        if self.network.field_channels != len(self.codec.variables):
            raise ValueError(
                f"network.field_channels ({self.network.field_channels}) must be the number of variables of "
                f"the codec ({len(self.codec.variables)})"
            )
        return self


def load_training(files: Sequence[Path], overrides: Sequence[str] = ()) -> TrainConfig | TrajectoryConfig:
    """Read a run's configuration: of trajectories where a file says ``kind: trajectories``, else of slices.

    Raises:
        InputError: a file cannot be read, or a key or value is wrong.
    """
    if any("kind" in read_yaml(path) for path in files):
        return load(TrajectoryConfig, files, overrides)
    return load(TrainConfig, [inherited(files, overrides), *files], overrides)


def inherited(files: Sequence[Path], overrides: Sequence[str]) -> dict[str, Any]:
    """Return what a run on slices takes from the prior it starts from: nothing where its network is given.

    Raises:
        InputError: a file cannot be read, or the prior is unknown.
    """
    given: dict[str, Any] = {}
    for layer in [*(read_yaml(path) for path in files), *(parse_override(text) for text in overrides)]:
        given = merge(given, layer)
    if given.get("initial") is None or "network" in given:
        return {}
    from priors.card import find_prior, read_card

    card = read_card(find_prior(str(given["initial"])))
    if card.trajectory is not None:
        raise InputError(f"initial: prior {card.name!r} is one of trajectories, expected one of slices")
    if card.fit.slices > 1 and int(given.get("slab", 1)) != card.fit.slices:
        raise InputError(
            f"initial: prior {card.name!r} takes {card.fit.slices} slices at once, expected slab: {card.fit.slices}"
        )
    names = ("network", "schedule", "parametrisation", "conditioning", "codec")
    return {name: value for name, value in card.model_dump(mode="json").items() if name in names}
