"""Cards: what a prior is, where it comes from and how to load it.

A prior is a folder with ``card.yaml`` and its weights. `load_prior` accepts such a folder or the name of an embedded
one, verifies the weights' hash, builds the network the card names and asks it to denoise a disc: a wrong schedule,
parametrisation or value range shows there, before it spoils a reconstruction.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from priors.adapters.native import read_weights
from priors.codec import Codec
from priors.denoiser import NetworkDenoiser
from priors.networks import AnyNetwork
from priors.parametrisation import AnyParametrisation
from priors.runtime.config import nearest
from priors.runtime.errors import InputError
from priors.schedule import AnySchedule

EMBEDDED = Path(__file__).parent / "pretrained"
SELF_TEST_LEVELS = (0.1, 0.3, 1.0, 3.0)


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
        unit: the physical unit.
        shape: field size of the last part of training, in the order of ``axes``.
        axes: names of the spatial axes.
        pixel_mm: range of pixel spacings seen in training.
        trained_on: the data, in words.
        licence: of the weights.
        citation: whom to cite.
        held_out_psnr: denoising PSNR in dB on [-1, 1] by noise level, on data it was not trained on.
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
    codec: Codec
    unit: str
    shape: tuple[int, ...]
    axes: str
    pixel_mm: tuple[float, float]
    trained_on: str
    licence: str
    citation: str
    held_out_psnr: dict[float, float] = Field(default_factory=dict)
    training: str = ""


@dataclass(frozen=True)
class Prior:
    """A loaded prior: ask its denoiser, convert with its codec, read its card."""

    denoiser: NetworkDenoiser
    codec: Codec
    card: PriorCard


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
    try:
        return PriorCard.model_validate(OmegaConf.to_container(OmegaConf.load(path)))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()
        )
        raise InputError(f"{path}: not a prior's card: {problems}") from error
    except Exception as error:
        raise InputError(f"{path}: not readable as YAML ({' '.join(str(error).split())})") from error


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
    denoiser = NetworkDenoiser(network, schedule=card.schedule, parametrisation=card.parametrisation)
    prior = Prior(denoiser.to(device).eval().requires_grad_(False), card.codec, card)
    self_test(prior, folder)
    return prior


def _disc(codec: Codec, size: int = 64) -> Float[Tensor, "1 1 y x"]:
    """Return a disc at the codec's offset on the lowest physical value, in network units."""
    axis = torch.linspace(-1, 1, size)
    inside = axis[:, None] ** 2 + axis[None, :] ** 2 < 0.5
    return codec.encode(torch.where(inside, codec.offset, codec.low))[None, None]


@torch.no_grad()
def self_test(prior: Prior, folder: Path) -> None:
    """Denoise a disc at four noise levels.

    Raises:
        InputError: at some level the estimate is not clearly closer to the disc than the noisy state.
    """
    clean = _disc(prior.codec)
    generator = torch.Generator().manual_seed(0)
    device = next(prior.denoiser.parameters()).device
    for level in SELF_TEST_LEVELS:
        t = prior.card.schedule.inverse(torch.tensor([level], dtype=torch.float64))
        alpha, sigma = (float(scale) for scale in prior.card.schedule(t))
        noisy = alpha * clean + sigma * torch.randn(clean.shape, generator=generator)
        error = (prior.denoiser(noisy.to(device), t.to(device)).cpu() - clean).square().mean().sqrt()
        if not float(error) < 0.7 * level:
            raise InputError(
                f"{folder}: fails its self-test: at noise level {level:g} the denoised disc is off by "
                f"{float(error):.2g} (network units); the schedule, parametrisation or value range is wrong"
            )
