"""What a card says of a score-based U-Net, and the order of its modules."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from priors.networks.labels import checked_label

if TYPE_CHECKING:
    from priors.networks.song_unet.network import ScoreUNet

Kind = Literal[
    "conv", "block", "down", "up", "middle", "shrink", "join", "residual", "norm", "output", "grow"
]
Variant = Literal["song", "dhariwal"]
HEAD_WIDTH = 64
"""Channels of an attention head of ADM as EDM has it."""


@dataclass(frozen=True)
class Module:
    """One module of a network, in the order in which modules are used.

    Attributes:
        kind: ``shrink``, ``join``, ``residual`` and ``grow`` belong to pyramids of the input or of outputs.
        inputs: channels it takes, skip connection included.
        outputs: channels it gives.
        attends: a block with attention.
    """

    kind: Kind
    inputs: int
    outputs: int
    attends: bool = False


class SongUNet(BaseModel):
    """Card entry that builds a `ScoreUNet`.

    Attributes:
        variant: ``song`` has residual blocks scaled by sqrt(1/2) and adds the embedding (DDPM++, NCSN++); ``dhariwal``
            scales and shifts by it and attends with heads of 64 channels (ADM as EDM has it).
        field_channels: channels of the data.
        learned_variance: as many channels again behind the output, which are dropped.
        width: base of the channels.
        multipliers: of the levels.
        blocks: residual blocks per level.
        attention: which levels attend.
        embedding: of the noise level: sines of fixed or of random frequencies.
        noise_factor: channels of that embedding over ``width``.
        embedding_factor: channels of what the blocks are given over ``width``.
        taps: resampling filter along an axis: [1, 1] averages, [1, 3, 3, 1] is smoother.
        encoder: how the input joins the levels: not, by a pyramid of the image, or of features.
        decoder: whether outputs of all levels are added up.
        classes: number of classes the network knows, None without.
        label: class to condition on.
        centred: the network takes values as they are; otherwise values in [0, 1], which it moves to [-1, 1] itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["song-unet"] = "song-unet"
    variant: Variant = "song"
    field_channels: int = Field(1, ge=1)
    learned_variance: bool = False
    width: int = Field(128, ge=4, le=4096)
    multipliers: tuple[int, ...] = Field((1, 2, 2, 2), min_length=1, max_length=12)
    blocks: int = Field(4, ge=1, le=64)
    attention: tuple[bool, ...] = (False, True, False, False)
    embedding: Literal["positional", "fourier"] = "positional"
    noise_factor: int = Field(1, ge=1, le=16)
    embedding_factor: int = Field(4, ge=1, le=64)
    taps: tuple[float, ...] = (1.0, 1.0)
    encoder: Literal["standard", "skip", "residual"] = "standard"
    decoder: Literal["standard", "skip"] = "standard"
    classes: int | None = Field(None, ge=1)
    label: int | None = Field(None, ge=0)
    centred: bool = True

    @model_validator(mode="after")
    def _fits_together(self) -> "SongUNet":
        if len(self.attention) != len(self.multipliers):
            raise ValueError(f"attention needs one entry per level ({len(self.multipliers)})")
        if any(not 1 <= factor <= 64 for factor in self.multipliers):
            raise ValueError(f"multipliers: found {self.multipliers}, expected numbers of 1 to 64")
        if self.width % 4:
            raise ValueError(f"width: found {self.width}, expected a multiple of 4")
        if len(self.taps) % 2 or not 2 <= len(self.taps) <= 8 or not sum(self.taps) > 0:
            raise ValueError(
                f"taps: found {self.taps}, expected an even number of weights with a positive sum"
            )
        if self.variant == "dhariwal" and (self.encoder, self.decoder) != ("standard", "standard"):
            raise ValueError("the variant 'dhariwal' has no pyramids")
        return self

    @property
    def stride(self) -> int:
        """Pixels that every side must be a multiple of."""
        return int(2 ** (len(self.multipliers) - 1))

    @property
    def attends(self) -> bool:
        """Whether the network knows its size: it always attends in the middle."""
        return True

    @property
    def outputs(self) -> int:
        """Channels of the last convolution."""
        return self.field_channels * (2 if self.learned_variance else 1)

    def checked_label(self) -> int | None:
        """Return the label.

        Raises:
            InputError: it is missing, not one of the network's, or given to a network without classes.
        """
        return checked_label(self.label, self.classes)

    def build(self) -> "ScoreUNet":
        """Return the network with random weights.

        Raises:
            InputError: its label is none of its classes.
        """
        from priors.networks.song_unet.network import ScoreUNet

        self.checked_label()
        return ScoreUNet(self)

    def encoder_modules(self) -> list[Module]:
        """Return the modules of the way down, in order."""
        song = self.variant == "song"
        channels = self.width if song else self.width * self.multipliers[0]
        found, pyramid = [Module("conv", self.field_channels, channels)], self.field_channels
        for level, factor in enumerate(self.multipliers):
            if level:
                found.append(Module("down", channels, channels))
            if level and self.encoder == "skip":
                found += [Module("shrink", pyramid, pyramid), Module("join", pyramid, channels)]
            if level and self.encoder == "residual":
                found.append(Module("residual", pyramid, channels))
                pyramid = channels
            for _ in range(self.blocks):
                found.append(Module("block", channels, factor * self.width, self.attention[level]))
                channels = factor * self.width
        return found

    def decoder_modules(self) -> list[Module]:
        """Return the modules of the middle and of the way up, in order."""
        skips = [m.outputs for m in self.encoder_modules() if m.kind in ("conv", "down", "block")]
        found: list[Module] = []
        last, channels, song = len(self.multipliers) - 1, skips[-1], self.variant == "song"
        for level in range(last, -1, -1):
            if level == last:
                found += [Module("middle", channels, channels, True), Module("middle", channels, channels)]
            else:
                found.append(Module("up", channels, channels))
            for number in range(self.blocks + 1):
                wide = self.multipliers[level] * self.width
                # ADM attends in every block of a level; DDPM++ and NCSN++ on the way up only in its last.
                attends = self.attention[level] and (not song or number == self.blocks)
                found.append(Module("block", channels + skips.pop(), wide, attends))
                channels = wide
            if self.decoder == "skip" or level == 0:
                if self.decoder == "skip" and level < last:
                    found.append(Module("grow", self.outputs, self.outputs))
                found += [Module("norm", channels, channels), Module("output", channels, self.outputs)]
        return found
