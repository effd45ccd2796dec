r"""MONAI's diffusion U-Net behind a pixel-unshuffle stem.

The stem trades resolution for channels, (1, y, x) -> (k^2, y/k, x/k), which makes the same network several
times faster; without attention the network is convolutional, so one set of weights serves any field size.
Sizes that are no multiple of the network's stride are padded by replication and cropped again.

The noise level enters as MONAI's sinusoidal embedding of ``conditioning_scale * log(sigma / alpha)``.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from priors.networks.beside import Beside
from priors.networks.labels import checked_label


class UnshuffledUNet(nn.Module):
    """Pixel-unshuffle, U-Net, pixel-shuffle; called with states (b, k, y, x) and log(sigma / alpha), (b).

    Args:
        unet: MONAI's network.
        settings: what it was built from.
    """

    def __init__(self, unet: nn.Module, settings: "MonaiUNet") -> None:
        super().__init__()
        self.unet = unet
        self.unshuffle = settings.unshuffle
        self.stride = settings.stride
        self.conditioning_scale = settings.conditioning_scale
        self.classes, self.jumps, self.neighbours = settings.classes, settings.jumps, settings.neighbours
        self.label = settings.checked_label()

    @property
    def unlabelled(self) -> int | None:
        """The class that stands for none; None where the network knows no classes."""
        return self.classes

    def forward(
        self,
        x: Float[Tensor, "b k y x"],
        log_ratio: Float[Tensor, "b"],
        labels: Int[Tensor, "b"] | None = None,
        jump: Float[Tensor, "b"] | None = None,
    ) -> Float[Tensor, "b out y x"]:
        """Return the network's output, same shape as ``x``, or the middle one of neighbouring slices.

        Args:
            x: states.
            log_ratio: log(sigma / alpha).
            labels: classes, in place of the network's own.
            jump: how far the answer jumps, of a network that is told; 0 by default.
        """
        height, width = x.shape[-2:]
        below, right = -height % self.stride, -width % self.stride
        padded = functional.pad(x, (0, right, 0, below), mode="replicate") if below or right else x
        packed = functional.pixel_unshuffle(padded, self.unshuffle)
        # Forward derivatives, which jumps are trained with, fail in channels_last inside MONAI's blocks.
        layout = torch.contiguous_format if self.jumps else torch.channels_last
        packed = packed.contiguous(memory_format=layout)
        beside: tuple[Tensor | None, Tensor | None] | None = None
        if self.classes is not None or self.jumps:
            beside = (self._labels(log_ratio, labels), self._jump(log_ratio, jump))
        output = self.unet(packed, self.conditioning_scale * log_ratio, class_labels=beside)
        return functional.pixel_shuffle(output, self.unshuffle)[..., :height, :width]

    def _labels(self, like: Float[Tensor, "b"], labels: Int[Tensor, "b"] | None) -> Int[Tensor, "b"] | None:
        if self.label is None or labels is not None:
            return labels
        return torch.full_like(like, self.label, dtype=torch.long)

    def _jump(self, like: Float[Tensor, "b"], jump: Float[Tensor, "b"] | None) -> Float[Tensor, "b"] | None:
        return torch.zeros_like(like) if self.jumps and jump is None else jump


class MonaiUNet(BaseModel):
    """Card entry that builds a `UnshuffledUNet` around ``monai.networks.nets.DiffusionModelUNet``.

    Attributes:
        channels: feature channels per resolution level.
        field_channels: channels of the data.
        residual_blocks: residual blocks per level.
        attention: attend at these levels; a network without any has no attention at its bottom either.
        norm_groups: groups of the group normalisation.
        unshuffle: factor of the pixel-unshuffle stem.
        conditioning_scale: factor on log(sigma / alpha) before the sinusoidal embedding.
        classes: number of classes it knows beside none, None without.
        label: class to condition on; None is none of them.
        neighbours: an odd number of neighbouring slices that go in as channels; the middle one comes out.
        jumps: it is told how far its answer jumps (few-step priors); without a jump it is a flow prior like any other.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["monai-unet"] = "monai-unet"
    channels: tuple[int, ...] = Field(min_length=2)
    field_channels: int = Field(1, ge=1)
    residual_blocks: int = Field(1, ge=1)
    attention: tuple[bool, ...] = ()
    norm_groups: int = Field(16, ge=1)
    unshuffle: int = Field(2, ge=1)
    conditioning_scale: float = Field(50.0, gt=0)
    classes: int | None = Field(None, ge=1)
    label: int | None = Field(None, ge=0)
    jumps: bool = False
    neighbours: int = Field(1, ge=1, description="slices it takes, of which it answers the middle one")

    @model_validator(mode="after")
    def _levels_fit(self) -> "MonaiUNet":
        if any(count <= 0 or count % self.norm_groups for count in self.channels):
            raise ValueError(
                f"channels {self.channels} must be multiples of norm_groups ({self.norm_groups})"
            )
        if self.neighbours % 2 == 0 or (self.neighbours > 1 and self.field_channels > 1):
            raise ValueError(
                f"neighbours: found {self.neighbours}, expected an odd number of grey slices (field_channels 1)"
            )
        if self.attention and len(self.attention) != len(self.channels):
            raise ValueError(f"attention needs one entry per level of channels ({len(self.channels)})")
        return self

    @property
    def stride(self) -> int:
        """Pixels that every side is padded to a multiple of."""
        return int(self.unshuffle * 2 ** (len(self.channels) - 1))

    def checked_label(self) -> int | None:
        """Return the label, the one that stands for none where none is asked for.

        Raises:
            InputError: it is not one of the network's, or given to a network without classes.
        """
        if self.label is None:
            return self.classes
        return checked_label(self.label, self.classes)

    def build(self) -> nn.Module:
        """Return the network with random weights.

        Raises:
            InputError: its label is none of its classes.
        """
        from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

        packed = self.field_channels * self.unshuffle**2
        attention = self.attention or (False,) * len(self.channels)
        unet = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=self.neighbours * packed,
            out_channels=packed,
            num_res_blocks=self.residual_blocks,
            channels=self.channels,
            attention_levels=attention,
            norm_num_groups=self.norm_groups,
        )
        if not any(attention):
            # MONAI always puts attention at the bottom; replaced, the network is convolutional and
            # size-agnostic.
            unet.middle_block.attention = nn.Identity()
        if self.classes is not None or self.jumps:
            # MONAI calls this with whatever it is given as class labels and adds it to the embedding of the level.
            unet.num_class_embeds = 0
            told = Beside(self.classes, jumps=self.jumps, width=4 * self.channels[0])
            unet.class_embedding = told  # type: ignore[assignment]
        if not self.jumps:
            unet = unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return UnshuffledUNet(unet, self)
