"""Networks of other libraries, as a card names them: their own configuration, and how they are called.

A card entry holds the arguments of the library's class as plain data. Nothing in it is evaluated or imported by name;
arguments the class does not know are refused when the checkpoint is imported.
"""

import inspect
from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from priors.networks.labels import checked_label
from priors.runtime.errors import InputError

Output = Callable[[nn.Module, Tensor, Tensor, Tensor | None], Tensor]


class ForeignUNet(nn.Module):
    """A network called with states (b, k, y, x) and the number it takes for the noise level (b).

    Args:
        module: the library's network.
        call: how it is called: (module, states, number, class labels) to its output.
        channels: of the output that count; a learned variance behind them is dropped.
        label: class to condition on, where the network knows classes.
        unshuffle: factor of a pixel-unshuffle stem.
        volume: the network is over three dimensions: channels of the states are the slices of a block.
    """

    def __init__(
        self,
        module: nn.Module,
        call: Output,
        *,
        channels: int,
        label: int | None = None,
        unshuffle: int = 1,
        volume: bool = False,
    ) -> None:
        super().__init__()
        self.module, self.call = module, call
        self.channels, self.label, self.unshuffle, self.volume = channels, label, unshuffle, volume

    def forward(
        self, x: Float[Tensor, "b k y x"], told: Float[Tensor, "b"], labels: Int[Tensor, "b"] | None = None
    ) -> Float[Tensor, "b out y x"]:
        """Return the network's output: same shape as ``x`` unless it answers one of several slices."""
        if labels is None and self.label is not None:
            labels = torch.full_like(told, self.label, dtype=torch.long)
        if self.unshuffle > 1:
            x = functional.pixel_unshuffle(x, self.unshuffle)
        x = x[:, None] if self.volume else x
        output = self.call(self.module, x, told, labels)[:, : self.channels]
        output = output[:, 0] if self.volume else output
        return functional.pixel_shuffle(output, self.unshuffle) if self.unshuffle > 1 else output


class ForeignNetwork(BaseModel):
    """What card entries of other libraries' slice networks share.

    Attributes:
        config: arguments of the library's class.
        label: class to condition on, of a network that knows classes.
        unshuffle: factor of a pixel-unshuffle stem in front of the network.
        answers: channels of the output that count; None takes as many as the data have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: dict[str, Any]
    label: int | None = Field(None, ge=0)
    unshuffle: int = Field(1, ge=1)
    answers: int | None = Field(None, ge=1)

    @property
    def field_channels(self) -> int:
        """Channels of the data."""
        return int(self.config["in_channels"]) // self.unshuffle**2

    @property
    def output_channels(self) -> int:
        """Channels of the output, a learned variance included."""
        return int(self.config["out_channels"]) // self.unshuffle**2

    @property
    def kept_channels(self) -> int:
        """Channels of the module's output that count."""
        return self.answers or int(self.config["in_channels"])

    @property
    def classes(self) -> int | None:
        """Classes the network knows, None where it knows none."""
        found = self.config.get("num_class_embeds")
        return None if found is None else int(found)

    def checked_label(self) -> int | None:
        """Return the label.

        Raises:
            InputError: it is missing, not one of the network's, or given to a network without classes.
        """
        return checked_label(self.label, self.classes)


class DiffusersUNet(ForeignNetwork):
    """Card entry that builds ``diffusers.UNet2DModel``, with the extra ``tomocast[diffusers]``.

    Attributes:
        heads: attention heads, where their number is the same at every level instead of their width.
    """

    name: Literal["diffusers-unet"] = "diffusers-unet"
    heads: int | None = Field(None, ge=1)

    @property
    def library_bytes(self) -> int:
        """Memory of the library itself, measured: 165 to 200 MiB with diffusers 0.42."""
        return 190 << 20

    @property
    def stride(self) -> int:
        """Pixels that every side must be a multiple of."""
        return int(2 ** (len(self.config["block_out_channels"]) - 1)) * self.unshuffle

    @property
    def attends(self) -> bool:
        """Whether the network looks at all places at once and so knows the size it was trained on."""
        blocks = (
            *self.config.get("down_block_types", ("Attn",)),
            *self.config.get("up_block_types", ("Attn",)),
        )
        middle = self.config.get("add_attention", True) and self.config.get("mid_block_type", "") is not None
        return bool(middle) or any("Attn" in block for block in blocks)

    def build(self) -> nn.Module:
        """Return the network with random weights.

        Raises:
            InputError: diffusers is not installed, or the configuration is none of its.
        """
        unet = diffusers_class("UNet2DModel")
        module = built(unet, self.config, "diffusers.UNet2DModel")
        if self.heads is not None:
            set_heads(module, self.heads)
        return ForeignUNet(
            module,
            _call_diffusers,
            channels=self.kept_channels,
            label=self.checked_label(),
            unshuffle=self.unshuffle,
        )


class MonaiDiffusionUNet(ForeignNetwork):
    """Card entry that builds ``monai.networks.nets.DiffusionModelUNet``."""

    name: Literal["monai-diffusion-unet"] = "monai-diffusion-unet"

    @property
    def stride(self) -> int:
        """Pixels that every side must be a multiple of."""
        return int(2 ** (len(self.config["channels"]) - 1)) * self.unshuffle

    @property
    def volume(self) -> bool:
        """Whether it is over three dimensions."""
        return self.config.get("spatial_dims") == 3

    @property
    def attends(self) -> bool:
        """Whether the network looks at all places at once; MONAI's always does, in its middle."""
        return True

    def build(self) -> nn.Module:
        """Return the network with random weights.

        Raises:
            InputError: the configuration is none of MONAI's.
        """
        from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

        module = built(DiffusionModelUNet, self.config, "monai.networks.nets.DiffusionModelUNet")
        return ForeignUNet(
            module,
            _call_monai,
            channels=self.kept_channels,
            label=self.checked_label(),
            unshuffle=self.unshuffle,
            volume=self.volume,
        )


class OwnModule(BaseModel):
    """Card entry of a module a user brought along: a card names it and never imports it.

    Attributes:
        kind: the module's class, for people.
        field_channels: channels of the data.
        stride: pixels that every side must be a multiple of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["own-module"] = "own-module"
    kind: str
    field_channels: int = Field(1, ge=1)
    stride: int = Field(1, ge=1)

    @property
    def classes(self) -> int | None:
        """Own modules take no label from the card."""
        return None

    def build(self) -> nn.Module:
        """Refuse: a card is data, and importing what it names would run code.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"network: is a module of the class {self.kind}, which a card cannot build; expected it from Python: "
            f"load_prior(folder, module={self.kind.rsplit('.', 1)[-1]}(...))"
        )


def set_heads(module: nn.Module, heads: int) -> None:
    """Cut the attention of every level of a ``UNet2DModel`` into the same number of heads.

    Raises:
        InputError: a level's channels are no multiple of it.
    """
    for block in module.modules():
        if type(block).__name__ != "Attention":
            continue
        attention: Any = block
        if attention.inner_dim % heads:
            raise InputError(f"network: {attention.inner_dim} channels cannot be cut into {heads} heads")
        attention.heads = heads
        attention.scale = (attention.inner_dim // heads) ** -0.5


def diffusers_class(name: str) -> Any:
    """Return a class of diffusers.

    Raises:
        InputError: diffusers is not installed.
    """
    try:
        import diffusers
    except ImportError as error:
        raise InputError(
            "this prior's network is diffusers' UNet2DModel: install the extra, pip install 'tomocast[diffusers]'"
        ) from error
    return getattr(diffusers, name)


def built(kind: Any, config: dict[str, Any], name: str) -> nn.Module:
    """Build a library's class from plain data, its keys checked against its arguments.

    Raises:
        InputError: an unknown argument, or values the class refuses.
    """
    known = set(inspect.signature(kind.__init__).parameters) - {"self"}
    unknown = sorted(set(config) - known)
    if unknown:
        raise InputError(
            f"network: {name} takes no argument {unknown[0]!r}; expected some of {sorted(known)}"
        )
    try:
        module: nn.Module = kind(**config)
    except (TypeError, ValueError, KeyError, IndexError, NotImplementedError, AttributeError) as error:
        told = " ".join(str(error).split())[:200]
        raise InputError(f"network: {name} refuses its configuration ({told})") from error
    except (RuntimeError, ZeroDivisionError, OverflowError) as error:
        told = " ".join(str(error).split())[:200]
        raise InputError(f"network: {name} cannot be built ({told})") from error
    return module


def _call_diffusers(module: nn.Module, x: Tensor, told: Tensor, labels: Tensor | None) -> Tensor:
    answer: Tensor = module(x, told, class_labels=labels).sample
    return answer


def _call_monai(module: nn.Module, x: Tensor, told: Tensor, labels: Tensor | None) -> Tensor:
    answer: Tensor = module(x, timesteps=told, class_labels=labels)
    return answer


def call_any(module: nn.Module, x: Tensor, told: Tensor, labels: Tensor | None) -> Tensor:
    """Call a user's module as (states, number); take ``.sample`` of what wraps its output."""
    answer = module(x, told) if labels is None else module(x, told, labels)
    found: Tensor = answer if isinstance(answer, Tensor) else answer.sample
    return found
