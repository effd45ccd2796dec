"""What a card says of a prior: its network, units, schedule, origin and what was measured on it."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from priors.card.origin import CodecCalibration, Footprint, Parent, Source
from priors.card.trust import AuditRow, Familiarity, IntervalRow
from priors.codec import AnyCodec, Codec, FieldCodec
from priors.diffusion.conditioning import AnyConditioning, LogRatio
from priors.diffusion.fitted import SliceFit
from priors.diffusion.levels import NoiseSpacing
from priors.diffusion.parametrisation import AnyParametrisation
from priors.diffusion.schedule import AnySchedule
from priors.gaussian.spectrum import Spectrum
from priors.networks import AnyNetwork


class TrajectoryCard(BaseModel):
    """What a prior of trajectories knows about time and space.

    Attributes:
        frames: frames of a training window.
        step_s: seconds between frames.
        spacing: grid spacing along y and x.
        spacing_unit: its unit.
        periodic: whether the domain is periodic along y and x.
        extent: first and last coordinate (y, y, x, x) of the one domain the prior is for, if it is for one.
        levels: noise levels of assimilations and forecasts; the noise schedule of the card says which of them the
            network can be asked for.
        reanalysis: frames to draw together with an infinite lag; None is what the network sees back in one layer.
        forecast: held-out root-mean-square error, in ``network`` units, one frame ahead of a clean context,
            of the prior and of persistence.
        spectrum: of a Gaussian process with the second moments of the training data, for guidance at high noise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames: int = Field(ge=1)
    step_s: float = Field(gt=0)
    spacing: tuple[float, float]
    spacing_unit: str
    periodic: tuple[bool, bool] = (False, False)
    extent: tuple[float, float, float, float] | None = None
    levels: NoiseSpacing = NoiseSpacing()
    reanalysis: int | None = Field(None, ge=2)
    forecast: dict[str, float] = Field(default_factory=dict)
    spectrum: Spectrum | None = None


class PriorCard(BaseModel):
    """Everything about a prior but its weights.

    Attributes:
        name: how people refer to it.
        adapter: the checkpoint family its weights are read with.
        weights: file name beside the card.
        sha256: hash of that file.
        network: the network to build.
        schedule: the noise schedule of its times.
        parametrisation: what the network's output means.
        conditioning: how the network is told the noise level.
        fit: what the network expects of a slice.
        bfloat16: whether the network may run in bfloat16; of an imported one only where that was measured harmless.
        mirrored: slices and their mirror images were seen equally often in training.
        classes: names of the classes that a label counts, where the prior knows them by name.
        codec: physical units to network units and the range seen in training.
        unit: the physical unit (of a state of several variables: theirs in turn).
        shape: field size of the last part of training, in the order of ``axes``.
        axes: names of the spatial axes.
        pixel_mm: range of pixel spacings seen in training, of slices.
        trajectory: time and space of a prior of trajectories; absent for slices.
        trained_on: the data, in words.
        licence: of the weights.
        citation: whom to cite.
        held_out_psnr: denoising PSNR in dB on [-1, 1] by noise level, on data it was not trained on.
        self_test: error of the self-test in network units by noise level, as the prior's maker saw it.
        training: configuration and command that made it.
        memory: bytes the network needs, measured.
        codec_calibration: how the codec was measured, and by what margin.
        calibration: how the deviation of a method's draws becomes an interval, one row per kind of scan.
        familiarity: what the prior's own residual looks like on patients it is at home with.
        audits: what audits found: copies of training data, a gap to held-out data.
        source: the checkpoint it was imported from.
        parents: what its weights began as, nearest first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    adapter: str = Field("native", pattern="^native$")
    weights: str = Field("model.safetensors", pattern=r"^[\w.-]+$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    network: AnyNetwork
    schedule: AnySchedule
    parametrisation: AnyParametrisation
    conditioning: AnyConditioning = LogRatio()
    fit: SliceFit = SliceFit()
    bfloat16: bool = True
    mirrored: bool = False
    classes: tuple[str, ...] = ()
    codec: AnyCodec
    unit: str
    shape: tuple[int, ...]
    axes: str
    pixel_mm: tuple[float, float] | None = None
    trajectory: TrajectoryCard | None = None
    trained_on: str
    licence: str
    citation: str
    held_out_psnr: dict[float, float] = Field(default_factory=dict)
    self_test: dict[float, float] = Field(default_factory=dict)
    training: str = ""
    memory: Footprint | None = None
    codec_calibration: CodecCalibration | None = None
    calibration: tuple[IntervalRow, ...] = ()
    familiarity: Familiarity | None = None
    audits: tuple[AuditRow, ...] = ()
    source: Source | None = None
    parents: tuple[Parent, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _earlier_spelling(cls, data: Any) -> Any:
        # Cards written before there were intervals keep the codec's record, a mapping or nothing, under this name.
        if isinstance(data, Mapping) and not isinstance(data.get("calibration", ()), list | tuple):
            kept = {key: value for key, value in data.items() if key != "calibration"}
            data = {**kept, "codec_calibration": data["calibration"]}
        return data

    @model_validator(mode="after")
    def _schedule_has_what_the_network_is_told(self) -> "PriorCard":
        self.conditioning.require(self.schedule)
        return self

    @model_validator(mode="after")
    def _slices_or_trajectories(self) -> "PriorCard":
        if self.trajectory is None and (self.pixel_mm is None or not isinstance(self.codec, Codec)):
            raise ValueError("a prior of slices needs pixel_mm and a codec with one offset and scale")
        if self.trajectory is not None and not isinstance(self.codec, FieldCodec):
            raise ValueError("a prior of trajectories needs a codec with variables")
        return self
