"""Cards: what a prior is, where it comes from and how to load it.

A prior is a folder with ``card.yaml`` and its weights. `load_prior` accepts such a folder or the name of an
embedded one, verifies the weights' hash, builds the network the card names and asks it to denoise a disc (see
`priors.card.self_test`). `Prior` also takes a module of one's own, without a card.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from priors.card.description import PriorCard
from priors.card.folder import write_prior
from priors.card.own import denoiser_card, own_card, own_network
from priors.card.self_test import self_test
from priors.card.weights import file_sha256, read_weights
from priors.codec import Codec, FieldCodec
from priors.diffusion.conditioning import Conditioning
from priors.diffusion.denoiser import Denoiser, NetworkDenoiser
from priors.diffusion.fitted import FittedDenoiser
from priors.diffusion.parametrisation import Parametrisation
from priors.diffusion.schedule import Schedule
from priors.networks import ForeignNetwork, MonaiUNet, OwnModule, SongUNet
from priors.runtime.config import nearest, read_yaml, validate
from priors.runtime.errors import InputError

C = TypeVar("C", Codec, FieldCodec)
EMBEDDED = Path(__file__).parents[1] / "pretrained"
# Priors of the source repository whose terms are not those of the program, so that no wheel carries them.
APART = {
    "radar-rain": "its weights are for research use and come with the source repository only "
    "(priors/pretrained/radar-rain there can be given as a folder); 'radar-rain-open' was trained on open data",
}


class Prior:
    """A loaded prior: ask its denoiser, convert with its codec, read its card.

    A module of one's own becomes a prior without a card file::

        prior = Prior(module, schedule="edm", parametrisation="clean", codec=(0.0, 1000.0))

    It is called as ``module(x, number)``; what the number is follows from the schedule (see `own_card`) unless
    ``conditioning`` says otherwise. Such a prior has no record to test itself against and says so once.

    A `Denoiser` of one's own knows its schedule and answers with the conditional mean, so that its units are all that
    is left to say; of slices, or with ``trajectory`` of trajectories::

        prior = Prior(denoiser, codec=(0.0, 1000.0))
        prior = Prior(denoiser, codec={"variables": [...]}, trajectory={"step_s": 3600.0, ...}, shape=(64, 64))

    Args:
        module: any torch module on states (b, 1, y, x) in network units, or a `Denoiser`.
        schedule: a `Schedule`, its name, or a mapping of its fields; not of a `Denoiser`, which has one.
        parametrisation: a `Parametrisation`, its name, or a mapping: what the module's output means; likewise.
        codec: (offset, scale) in the unit, a mapping, a `Codec` or a `FieldCodec`.
        details: ``conditioning``, ``fit``, ``unit``, ``shape``, ``pixel_mm``, ``mirrored``, ``trajectory`` and others
            of the card.

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
        codec: Codec | FieldCodec | tuple[float, float] | Mapping[str, Any],
        schedule: Schedule | str | Mapping[str, Any] | None = None,
        parametrisation: Parametrisation | str | Mapping[str, Any] | None = None,
        conditioning: Conditioning | str | Mapping[str, Any] | None = None,
        **details: Any,
    ) -> None:
        described = {"schedule": schedule, "parametrisation": parametrisation, "conditioning": conditioning}
        if isinstance(module, Denoiser):
            card = denoiser_card(module, codec=codec, described=described, **details)
            self._set(_fitted(module, card).eval().requires_grad_(False), card)
        else:
            card = own_card(module, codec=codec, described=described, **details)
            self._set(denoiser_of(card, own_network(module, card)), card)

    @classmethod
    def assembled(cls, denoiser: Denoiser, card: "PriorCard") -> "Prior":
        """Return a prior of a denoiser and its card."""
        prior = object.__new__(cls)
        prior._set(denoiser, card)
        return prior

    def _set(self, denoiser: Denoiser, card: "PriorCard") -> None:
        self.denoiser, self.codec, self.card = denoiser, card.codec, card
        # Handed over alone, the denoiser still knows whose it is (see `priors.card.reference`).
        denoiser.card = card

    def __repr__(self) -> str:
        return f"Prior({self.card.name!r}, sha256={self.card.sha256[:12]!r})"

    @property
    def network(self) -> nn.Module:
        """The network, as the card builds it.

        Raises:
            InputError: the prior is a `Denoiser` of one's own, which has none that a card could build.
        """
        inner = self.denoiser.inner if isinstance(self.denoiser, FittedDenoiser) else self.denoiser
        if not isinstance(inner, NetworkDenoiser):
            kind = type(inner).__name__
            raise InputError(
                f"prior {self.card.name!r}: is the denoiser {kind} of one's own, expected a network to save or export"
            )
        return inner.network

    def save(self, folder: str | Path) -> None:
        """Write ``card.yaml`` and the weights (float32), to be loaded by `load_prior`.

        Raises:
            InputError: the folder holds something, or cannot be written.
        """
        write_prior(self, Path(folder))

    @property
    def slices(self) -> Codec:
        """The codec of a prior of slices.

        Raises:
            InputError: this is a prior of trajectories.
        """
        return self._codec(Codec)

    @property
    def fields(self) -> FieldCodec:
        """The codec of a prior of trajectories.

        Raises:
            InputError: this is a prior of slices.
        """
        return self._codec(FieldCodec)

    def _codec(self, kind: type[C]) -> C:
        if isinstance(self.codec, kind):
            return self.codec
        names = {Codec: "slices", FieldCodec: "trajectories"}
        found, expected = names[type(self.codec)], names[kind]
        raise InputError(f"prior {self.card.name!r}: found a prior of {found}, expected one of {expected}")


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
    if str(name) in APART:
        raise InputError(f"prior {str(name)!r}: {APART[str(name)]}")
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


def _relabelled(card: PriorCard, label: int) -> PriorCard:
    """Return the card with another class to condition on."""
    if not isinstance(card.network, ForeignNetwork | SongUNet | MonaiUNet):
        raise InputError(f"label: found {label}, prior {card.name!r} knows no classes")
    return card.model_copy(update={"network": card.network.model_copy(update={"label": label})})


def _network(card: PriorCard, module: nn.Module | None) -> nn.Module:
    if module is None:
        return card.network.build()
    if not isinstance(card.network, OwnModule):
        raise InputError(f"module: prior {card.name!r} builds its own network, expected none")
    return own_network(module, card)


def denoiser_of(card: PriorCard, network: nn.Module) -> Denoiser:
    """Return the denoiser a card describes, in evaluation mode, its weights frozen."""
    denoiser = NetworkDenoiser(
        network,
        schedule=card.schedule,
        parametrisation=card.parametrisation,
        conditioning=card.conditioning,
        reduced=card.bfloat16,
        spectrum=None if card.trajectory is None else card.trajectory.spectrum,
    )
    return _fitted(denoiser, card).eval().requires_grad_(False)


def _fitted(denoiser: Denoiser, card: PriorCard) -> Denoiser:
    """Return a denoiser of slices of any size, where its network takes them only in its own way."""
    if card.fit.plain or not isinstance(card.codec, Codec):
        return denoiser
    if not isinstance(denoiser, NetworkDenoiser):
        raise InputError("fit: found a Denoiser of one's own, expected one that takes slices as they are")
    return FittedDenoiser(denoiser, card.fit, air=air_value(card))


def air_value(card: PriorCard) -> float:
    """Return air in network units, as far down as training went."""
    assert isinstance(card.codec, Codec)
    air = -1000.0 if card.unit == "HU" else 0.0
    return float(card.codec.encode(torch.tensor(max(card.codec.low, air), dtype=torch.float64)))
