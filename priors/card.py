"""Cards: what a prior is, where it comes from and how to load it.

A prior is a folder with ``card.yaml`` and its weights. `load_prior` accepts such a folder or the name of an
embedded one, verifies the weights' hash, builds the network the card names and asks it to denoise a disc (see
`priors.self_test`). `Prior` also takes a module of one's own, without a card.
"""

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, InstanceOf, PlainSerializer, model_validator
from pydantic.json_schema import SkipJsonSchema
from safetensors import SafetensorError, safe_open
from torch import nn

from priors.adapters.native import read_weights
from priors.codec import AnyCodec, Codec, FieldCodec
from priors.diffusion.conditioning import AnyConditioning, Conditioning, LogRatio
from priors.diffusion.denoiser import Denoiser, NetworkDenoiser
from priors.diffusion.fitted import FittedDenoiser, SliceFit
from priors.diffusion.levels import NoiseSpacing
from priors.diffusion.parametrisation import AnyParametrisation, Parametrisation
from priors.diffusion.schedule import AnySchedule, Schedule
from priors.gaussian.spectrum import Spectrum
from priors.networks import AnyNetwork, ForeignNetwork, OwnModule
from priors.origin import Calibration, Footprint, Parent, Source
from priors.runtime.config import nearest, read_yaml, validate
from priors.runtime.errors import InputError
from priors.self_test import SELF_TEST_LEVELS, self_test, self_test_errors

EMBEDDED = Path(__file__).parent / "pretrained"

__all__ = [
    "EMBEDDED",
    "SELF_TEST_LEVELS",
    "Prior",
    "PriorCard",
    "PriorReference",
    "TrajectoryCard",
    "card_of_prior",
    "embedded_names",
    "file_sha256",
    "find_prior",
    "load_prior",
    "open_prior",
    "read_card",
    "self_test",
    "self_test_errors",
    "weights_bytes",
]


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
        calibration: how the codec was measured, and by what margin.
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
    calibration: Calibration | None = None
    source: Source | None = None
    parents: tuple[Parent, ...] = ()

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


class Prior:
    """A loaded prior: ask its denoiser, convert with its codec, read its card.

    A module of one's own becomes a prior without a card file::

        prior = Prior(module, schedule="edm", parametrisation="clean", codec=(0.0, 1000.0))

    It is called as ``module(x, number)``; what the number is follows from the schedule (see `own_card`) unless
    ``conditioning`` says otherwise. Such a prior has no record to test itself against and says so once.

    Args:
        module: any torch module on states (b, 1, y, x) in network units.
        schedule: a `Schedule`, its name, or a mapping of its fields.
        parametrisation: a `Parametrisation`, its name, or a mapping: what the module's output means.
        codec: (offset, scale) in the unit, a mapping, or a `Codec`.
        details: ``conditioning``, ``fit``, ``unit``, ``shape``, ``pixel_mm``, ``mirrored`` and others of the card.

    Raises:
        InputError: a description that fits nothing.
    """

    denoiser: Denoiser
    codec: Codec | FieldCodec
    card: "PriorCard"

    def __init__(
        self,
        module: nn.Module,
        *,
        schedule: Schedule | str | Mapping[str, Any],
        parametrisation: Parametrisation | str | Mapping[str, Any],
        codec: Codec | tuple[float, float] | Mapping[str, Any],
        conditioning: Conditioning | str | Mapping[str, Any] | None = None,
        **details: Any,
    ) -> None:
        from priors.adapters.own import own_card, own_network

        card = own_card(
            module,
            schedule=schedule,
            parametrisation=parametrisation,
            codec=codec,
            conditioning=conditioning,
            **details,
        )
        self._set(denoiser_of(card, own_network(module, card)), card)

    @classmethod
    def assembled(cls, denoiser: Denoiser, card: "PriorCard") -> "Prior":
        """Return a prior of a denoiser and its card."""
        prior = object.__new__(cls)
        prior._set(denoiser, card)
        return prior

    def _set(self, denoiser: Denoiser, card: "PriorCard") -> None:
        self.denoiser, self.codec, self.card = denoiser, card.codec, card

    def __repr__(self) -> str:
        return f"Prior({self.card.name!r}, sha256={self.card.sha256[:12]!r})"

    @property
    def network(self) -> nn.Module:
        """The network, as the card builds it."""
        inner = self.denoiser.inner if isinstance(self.denoiser, FittedDenoiser) else self.denoiser
        assert isinstance(inner, NetworkDenoiser)
        return inner.network

    def save(self, folder: str | Path) -> None:
        """Write ``card.yaml`` and the weights (float32), to be loaded by `load_prior`.

        Raises:
            InputError: the folder holds something, or cannot be written.
        """
        from priors.adapters.folder import write_prior

        write_prior(self, Path(folder))

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


def load_prior(
    name: str | Path, *, device: str = "cpu", label: int | None = None, module: nn.Module | None = None
) -> Prior:
    """Load a prior, verify it and put it on ``device`` in evaluation mode.

    Args:
        name: an embedded prior, or a folder with a card.
        device: where to put it.
        label: class to condition on, in place of the card's.
        module: where the weights go, of a prior made from a module of one's own.

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
    if label is not None:
        card = _relabelled(card, label)
    network = _network(card, module)
    read_weights(network, path)
    prior = Prior.assembled(denoiser_of(card, network).to(device), card)
    if label is None:
        self_test(prior, folder)
    return prior


def open_prior(prior: "str | Path | Prior", *, device: str = "cpu", label: int | None = None) -> Prior:
    """Return a prior given by name, by folder, or loaded already, on ``device``.

    Raises:
        InputError: see `load_prior`.
    """
    if not isinstance(prior, Prior):
        return load_prior(prior, device=device, label=label)
    if label is not None:
        raise InputError(f"label: found {label}, expected it where prior {prior.card.name!r} was loaded")
    prior.denoiser.to(device)
    return prior


def card_of_prior(prior: "str | Path | Prior") -> PriorCard:
    """Return the card of a prior given by name, by folder, or loaded already, without loading weights.

    Raises:
        InputError: unknown name or malformed card.
    """
    return prior.card if isinstance(prior, Prior) else read_card(find_prior(prior))


def weights_bytes(prior: "str | Path | Prior") -> int:
    """Return the memory of a prior's weights in float32."""
    if isinstance(prior, Prior):
        return sum(4 * weight.numel() for weight in prior.denoiser.parameters())
    path = find_prior(prior) / read_card(find_prior(prior)).weights
    try:
        with safe_open(path, framework="pt") as tensors:
            return sum(4 * math.prod(tensors.get_slice(key).get_shape()) for key in tensors.keys())  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file ({error})") from error


PriorReference = Annotated[
    str | SkipJsonSchema[InstanceOf[Prior]],
    PlainSerializer(lambda prior: prior.card.name if isinstance(prior, Prior) else prior, return_type=str),
]
"""A prior as a setting: a name or folder in YAML, from Python also a loaded one."""


def _relabelled(card: PriorCard, label: int) -> PriorCard:
    """Return the card with another class to condition on."""
    if not isinstance(card.network, ForeignNetwork):
        raise InputError(f"label: found {label}, prior {card.name!r} knows no classes")
    return card.model_copy(update={"network": card.network.model_copy(update={"label": label})})


def _network(card: PriorCard, module: nn.Module | None) -> nn.Module:
    if module is None:
        return card.network.build()
    from priors.adapters.own import own_network

    if not isinstance(card.network, OwnModule):
        raise InputError(f"module: prior {card.name!r} builds its own network, expected none")
    return own_network(module, card)


def denoiser_of(card: PriorCard, network: nn.Module) -> Denoiser:
    """Return the denoiser a card describes, in evaluation mode, its weights frozen."""
    denoiser: Denoiser = NetworkDenoiser(
        network,
        schedule=card.schedule,
        parametrisation=card.parametrisation,
        conditioning=card.conditioning,
        reduced=card.bfloat16,
        spectrum=None if card.trajectory is None else card.trajectory.spectrum,
    )
    if not card.fit.plain and isinstance(card.codec, Codec):
        assert isinstance(denoiser, NetworkDenoiser)
        denoiser = FittedDenoiser(denoiser, card.fit, air=air_value(card))
    return denoiser.eval().requires_grad_(False)


def air_value(card: PriorCard) -> float:
    """Return air in network units, as far down as training went."""
    assert isinstance(card.codec, Codec)
    air = -1000.0 if card.unit == "HU" else 0.0
    return float(card.codec.encode(torch.tensor(max(card.codec.low, air), dtype=torch.float64)))
