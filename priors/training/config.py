"""What one training run is: data, network, schedule, steps. Written in YAML, saved beside the result."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from priors.codec import Codec
from priors.networks import AnyNetwork
from priors.parametrisation import AnyParametrisation, Preconditioned
from priors.schedule import EDM, AnySchedule
from priors.training.data import Augmentation, Crop
from priors.training.objective import LevelSampler


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


class Optimisation(BaseModel):
    """AdamW with linear warm-up and cosine decay to zero."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(6000, ge=1)
    learning_rate: float = Field(8e-4, gt=0)
    warmup: int = Field(200, ge=1)
    weight_decay: float = Field(1e-2, ge=0)
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    ema: float = Field(0.998, gt=0, lt=1)


class TrainConfig(BaseModel):
    """A whole training run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    data: Path
    seed: int = Field(0, ge=0)
    network: AnyNetwork
    schedule: AnySchedule = EDM()
    parametrisation: AnyParametrisation = Preconditioned()
    codec: Codec
    description: Description
    initial: str | None = Field(None, description="prior whose weights training starts from")
    crops: tuple[Crop, ...] = Field(min_length=1)
    final_crops: tuple[Crop, ...] = Field((), description="crops of the last part of training, if others")
    final_share: float = Field(0.15, ge=0, le=1)
    augmentation: Augmentation = Augmentation()
    levels: LevelSampler = LevelSampler()
    optimisation: Optimisation = Optimisation()
    validate_every: int = Field(500, ge=1)
    save_every: int = Field(250, ge=1)
    validation_fields: int = Field(8, ge=1)
    validation_levels: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
