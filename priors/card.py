"""Cards: what a prior is, where it comes from and how to load it.

A prior is a folder with ``card.yaml`` and its weights. `load_prior` accepts such a folder or the name of an
embedded one, verifies the weights' hash, builds the network the card names and asks it to denoise a disc: a
wrong schedule, parametrisation or value range shows there, before it spoils a reconstruction. The card may
record how well its maker saw the disc denoised; then loading must see the same again.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from priors.adapters.native import read_weights
from priors.codec import AnyCodec, Codec, FieldCodec
from priors.diffusion.denoiser import NetworkDenoiser
from priors.diffusion.parametrisation import AnyParametrisation
from priors.diffusion.schedule import AnySchedule
from priors.gaussian.spectrum import Spectrum
from priors.networks import AnyNetwork
from priors.runtime.config import nearest, read_yaml, validate
from priors.runtime.errors import InputError

EMBEDDED = Path(__file__).parent / "pretrained"
SELF_TEST_LEVELS = (0.1, 0.3, 1.0, 3.0)
# Largest error of the self-test relative to the noise: any trained denoiser stays far below it.
SELF_TEST_SHARE = 0.7
# Largest change from the card's record, as a factor. Rounding to bfloat16 or another machine moves it by
# about 1 %.
SELF_TEST_CHANGE = 1.2


class TrajectoryCard(BaseModel):
    """What a prior of trajectories knows about time and space.

    Attributes:
        frames: frames of a training window.
        step_s: seconds between frames.
        spacing: grid spacing along y and x.
        spacing_unit: its unit.
        periodic: whether the domain is periodic along y and x.
        extent: first and last coordinate (y, y, x, x) of the one domain the prior is for, if it is for one.
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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    adapter: str = Field("native", pattern="^native$")
    weights: str = Field("model.safetensors", pattern=r"^[\w.-]+$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    network: AnyNetwork
    schedule: AnySchedule
    parametrisation: AnyParametrisation
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

    @model_validator(mode="after")
    def _slices_or_trajectories(self) -> "PriorCard":
        if self.trajectory is None and (self.pixel_mm is None or not isinstance(self.codec, Codec)):
            raise ValueError("a prior of slices needs pixel_mm and a codec with one offset and scale")
        if self.trajectory is not None and not isinstance(self.codec, FieldCodec):
            raise ValueError("a prior of trajectories needs a codec with variables")
        return self


@dataclass(frozen=True)
class Prior:
    """A loaded prior: ask its denoiser, convert with its codec, read its card."""

    denoiser: NetworkDenoiser
    codec: Codec | FieldCodec
    card: PriorCard

    @property
    def slices(self) -> Codec:
        """The codec of a prior of slices.

        Raises:
            InputError: this is a prior of trajectories.
        """
        if not isinstance(self.codec, Codec):
            raise InputError(
                f"prior {self.card.name!r}: found a prior of trajectories, expected one of slices"
            )
        return self.codec

    @property
    def fields(self) -> FieldCodec:
        """The codec of a prior of trajectories.

        Raises:
            InputError: this is a prior of slices.
        """
        if not isinstance(self.codec, FieldCodec):
            raise InputError(
                f"prior {self.card.name!r}: found a prior of slices, expected one of trajectories"
            )
        return self.codec


def embedded_names() -> list[str]:
    """Return the names of the priors that come with the package."""
    return sorted(path.parent.name for path in EMBEDDED.glob("*/card.yaml"))


def find_prior(name: str | Path) -> Path:
    """Return the folder of a prior given by folder or by embedded name.

    Raises:
        InputError: neither a folder with a card nor an embedded prior; names the nearest one.
    """
    folder = Path(name)
    if (folder / "card.yaml").is_file():
        return folder
    if (EMBEDDED / str(name) / "card.yaml").is_file():
        return EMBEDDED / str(name)
    known = embedded_names()
    near = nearest(str(name), known)
    hint = f"did you mean {near!r}?" if near else f"embedded priors: {', '.join(known) or 'none'}"
    raise InputError(f"prior {str(name)!r}: neither an embedded prior nor a folder with card.yaml; {hint}")


def read_card(folder: Path) -> PriorCard:
    """Read and validate ``card.yaml``.

    Raises:
        InputError: not YAML, or keys missing, unknown or of the wrong kind.
    """
    path = folder / "card.yaml"
    return validate(PriorCard, read_yaml(path), source=str(path))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def load_prior(name: str | Path, *, device: str = "cpu") -> Prior:
    """Load a prior, verify it and put it on ``device`` in evaluation mode.

    Raises:
        InputError: unknown name, malformed card, wrong hash, weights that do not fit, or a failed self-test.
    """
    folder = find_prior(name)
    card = read_card(folder)
    path = folder / card.weights
    if not path.is_file():
        raise InputError(f"{path}: weights named by the card are missing")
    found = file_sha256(path)
    if found != card.sha256:
        raise InputError(f"{path}: sha256 is {found[:12]}..., the card expects {card.sha256[:12]}...")
    network = card.network.build()
    read_weights(network, path)
    denoiser = NetworkDenoiser(
        network,
        schedule=card.schedule,
        parametrisation=card.parametrisation,
        spectrum=None if card.trajectory is None else card.trajectory.spectrum,
    )
    prior = Prior(denoiser.to(device).eval().requires_grad_(False), card.codec, card)
    self_test(prior, folder)
    return prior


def _disc(codec: Codec, size: int = 64) -> Float[Tensor, "1 1 y x"]:
    """Return a disc at the codec's offset on the lowest physical value, in network units."""
    axis = torch.linspace(-1, 1, size)
    inside = axis[:, None] ** 2 + axis[None, :] ** 2 < 0.5
    return codec.encode(torch.where(inside, codec.offset, codec.low))[None, None]


def _hills(card: PriorCard, frames: int = 6) -> Float[Tensor, "1 f k y x"]:
    """Return a still trajectory of two smooth hills, zero to one in network units, periodic over the field."""
    height, width = card.shape[-2:]
    y = torch.cos(torch.arange(height) * (2 * math.pi / height))
    x = torch.cos(torch.arange(width) * (2 * math.pi / width))
    hills = (0.5 + 0.25 * (y[:, None] + x)) ** 2
    return hills.expand(1, frames, card.network.field_channels, height, width)


@torch.no_grad()
def self_test_errors(prior: Prior, levels: Iterable[float] = SELF_TEST_LEVELS) -> dict[float, float]:
    """Return the root-mean-square error of a denoised disc in network units, by noise level.

    A prior of trajectories denoises a still trajectory of smooth hills. Levels beyond the schedule's range are
    left out.
    """
    clean = _disc(prior.codec) if isinstance(prior.codec, Codec) else _hills(prior.card)
    schedule = prior.card.schedule
    generator = torch.Generator().manual_seed(0)
    device = next(prior.denoiser.parameters()).device
    errors = {}
    for level in levels:
        noise = torch.randn(clean.shape, generator=generator)
        t = schedule.inverse(torch.tensor([level], dtype=torch.float64))
        if not math.isclose(float(schedule.ratio(t)), level, rel_tol=1e-6):
            continue
        alpha, sigma = (float(scale) for scale in schedule(t))
        estimate = prior.denoiser((alpha * clean + sigma * noise).to(device), t.to(device)).cpu()
        errors[level] = float((estimate - clean).square().mean().sqrt())
    return errors


def self_test(prior: Prior, folder: Path) -> None:
    """Denoise a known field at four noise levels.

    Raises:
        InputError: at some level the estimate is not clearly closer to the disc than the noisy state, or its
            error is not the one the card records.
    """
    wrong = "schedule, parametrisation or value range (codec) are wrong, or training was too short"
    for level, error in self_test_errors(prior).items():
        if not error < SELF_TEST_SHARE * level:
            raise InputError(
                f"{folder}: fails its self-test: at noise level {level:g} the denoised field is off by "
                f"{error:.2g} (network units), expected below {SELF_TEST_SHARE * level:.2g}; {wrong}"
            )
        recorded = prior.card.self_test.get(level, error)
        if not recorded / SELF_TEST_CHANGE < error < recorded * SELF_TEST_CHANGE:
            raise InputError(
                f"{folder}: fails its self-test: at noise level {level:g} the denoised field is off by "
                f"{error:.3g} (network units), its card recorded {recorded:.3g}; {wrong}"
            )
